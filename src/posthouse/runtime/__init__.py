"""The loops: all that awaits. What is decided is decided in the rules below."""
