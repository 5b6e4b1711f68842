"""Reads a page of the docs: which of its blocks are code, and what a reader would do with them.

This file knows Markdown as far as the docs use it: fenced blocks, blocks that are indented by four
spaces, and comments. It runs nothing; the rules of what is run stand in test_docs.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

_FENCE = re.compile(r"^(`{3,})\s*([\w-]*)")
_COMMENT = re.compile(r"<!--\s*(not run|from|goes on|change)\b:?\s*(.*?)\s*-->")
_INDENT = "    "


@dataclass
class Block:
    """A block of code.

    Attributes:
        line: its first line, from 1 on.
        language: of the fence; "" for an indented block.
        text: without fence and indentation.
        before: the last line of text before it.
        marks: the comments right before it, by what they say.
    """

    line: int
    language: str
    text: str
    before: str = ""
    marks: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def is_console(self) -> bool:
        """Whether it shows commands and what they print."""
        return self.language in {"", "console", "sh"} and self.text.startswith("$ ")

    def commands(self) -> Iterator[tuple[str, list[str]]]:
        """Yield each command with the lines that it is shown to print."""
        command, printed = "", list[str]()
        for line in self.text.splitlines():
            if line.startswith("$ "):
                if command:
                    yield command, printed
                command, printed = line[2:], []
            elif command.endswith("\\"):
                command = command[:-1] + line.strip()
            elif line.strip():
                printed.append(line.rstrip())
        if command:
            yield command, printed


def blocks_of(page: Path) -> list[Block]:
    """Return the blocks of a page, in order."""
    lines = page.read_text(encoding="utf-8").splitlines()
    blocks: list[Block] = []
    before, marks, number = "", dict[str, str](), 0
    while number < len(lines):
        line = lines[number]
        start = number
        number += 1
        if fence := _FENCE.match(line):
            while number < len(lines) and lines[number].strip() != fence[1]:
                number += 1
            text = "\n".join(lines[start + 1 : number])
            number += 1
            blocks.append(Block(start + 2, fence[2], text, before, marks))
        elif line.startswith(_INDENT) and (start == 0 or not lines[start - 1].strip()):
            while number < len(lines) and (not lines[number].strip() or lines[number].startswith(_INDENT)):
                number += 1
            text = "\n".join(each[len(_INDENT) :] for each in lines[start:number]).rstrip()
            blocks.append(Block(start + 1, "", text, before, marks))
        elif mark := _COMMENT.fullmatch(line.strip()):
            marks = {**marks, mark[1]: mark[2]}
            continue
        else:
            before = line.strip() or before
            if not line.strip():
                continue
        marks = {}
    return blocks
