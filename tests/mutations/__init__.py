"""Faults that are planted into a copy of the code, each with the test that has to find it."""
