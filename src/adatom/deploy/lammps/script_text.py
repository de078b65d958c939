"""LAMMPS's input language: lines, words, quotes and comments.

The rules are those of LAMMPS's documentation, "Parsing rules for input scripts".
"""

from __future__ import annotations

import re
from typing import NamedTuple

_QUOTED = r'"""[\s\S]*?"""|"[^"]*"|\'[^\']*\''
_QUOTED_OR_COMMENT = re.compile(rf"{_QUOTED}|#")
_WORD = re.compile(rf"{_QUOTED}|\S+")


class Line(NamedTuple):
    """One command: the number of its first line in the file, and its text."""

    number: int
    text: str


def logical_lines(text: str) -> list[Line]:
    """Join lines that end in ``&`` or lie within triple quotes; empty ones are left out."""
    lines: list[Line] = []
    begun, start = "", 0
    for number, raw in enumerate(text.splitlines(), start=1):
        start = start if begun else number
        stripped = raw.rstrip()
        if stripped.endswith("&"):
            begun += stripped[:-1]
            continue
        begun += stripped
        if begun.count('"""') % 2:
            begun += "\n"
            continue
        if begun.strip():
            lines.append(Line(start, begun))
        begun = ""
    if begun.strip():
        lines.append(Line(start, begun))
    return lines


def words_of(text: str) -> list[str]:
    """Split a command into words, in their quotes and without its comment."""
    for match in _QUOTED_OR_COMMENT.finditer(text):
        if match[0] == "#":
            text = text[: match.start()]
            break
    return _WORD.findall(text)


def unquoted(word: str) -> str:
    """Return a word without its quotes."""
    for quote in ('"""', '"', "'"):
        if len(word) >= 2 * len(quote) and word.startswith(quote) and word.endswith(quote):
            return word[len(quote) : -len(quote)]
    return word


class Branch(NamedTuple):
    """A condition of an ``if`` command as it is written (None for else), and its commands."""

    condition: str | None
    commands: list[str]


def branches_of(words: list[str]) -> list[Branch] | None:
    """Take an ``if`` command apart; None if it is not well formed."""
    if len(words) < 4 or words[2] != "then":
        return None
    branches = [Branch(words[1], [])]
    rest = iter(words[3:])
    for word in rest:
        if word == "elif":
            condition = next(rest, None)
            if condition is None:
                return None
            branches.append(Branch(condition, []))
        elif word == "else":
            branches.append(Branch(None, []))
        else:
            branches[-1].commands.append(unquoted(word))
    return branches
