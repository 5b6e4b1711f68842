"""`python -m posthouse.cli`: how the command line starts its own children."""

from __future__ import annotations

from posthouse.cli.main import main

main()
