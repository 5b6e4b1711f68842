"""Log lines of a process that serves: for people on a terminal, JSON otherwise; always on stderr."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from typing import Final

import msgspec

from posthouse.cli.output import colored, plain

_COLORS: Final = {logging.WARNING: "yellow", logging.ERROR: "red", logging.CRITICAL: "red"}


class ForPeople(logging.Formatter):
    """A time, a level and a sentence."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line, and below it the frames of an exception."""
        time = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S")
        level = record.levelname.lower()
        if color := _COLORS.get(record.levelno):
            level = colored(level, color)
        text = f"{colored(time, 'dim')} {level} {record.name}: {plain(record.getMessage())}"
        if record.exc_info:
            text = f"{text}\n{self.formatException(record.exc_info)}"
        return text


class ForPrograms(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as JSON."""
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "pid": record.process,
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(entry).decode()


def set_up(*, as_json: bool) -> None:
    """Log to stderr: everything from INFO on of ours, and warnings of others.

    Does nothing when the program has set up logging itself.
    """
    root = logging.getLogger()
    logging.getLogger("posthouse").setLevel(logging.INFO)
    if root.handlers:
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(ForPrograms() if as_json or not sys.stderr.isatty() else ForPeople())
    root.addHandler(handler)
