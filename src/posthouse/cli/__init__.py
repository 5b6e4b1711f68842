"""The command line: parse, ask, print. One file a command; main.py has the list of them."""
