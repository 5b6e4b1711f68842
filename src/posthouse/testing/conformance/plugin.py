"""Tells pytest of the suites' marker, for those who are strict about markers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Register `needs`."""
    config.addinivalue_line(
        "markers",
        "needs(feature, ...): the test asks for these features of a backend, and is skipped where one is missing",
    )
