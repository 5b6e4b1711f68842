"""How fast posthouse is, beside its peers, measured in one run on one machine.

`make bench` runs all of it; README.md says how to choose and what the figures mean. Nothing here is
asserted: a table says what was measured, and beside it what we aim at.
"""
