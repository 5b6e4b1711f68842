"""How fast, and where to: one rule a file, numbers in and numbers out.

A rule takes values and the time and returns a decision; the runtime carries it out.
"""
