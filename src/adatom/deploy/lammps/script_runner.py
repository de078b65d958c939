"""Runs a LAMMPS script command by command, so that something can be done between any two.

LAMMPS reads a file as a whole and tells nobody when a simulation box appears. The commands that
steer the reading (include, jump, label, next, if, quit) are therefore followed here, with LAMMPS's
meaning of them; conditions and variables are evaluated by LAMMPS itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from adatom.core.errors import AdatomError
from adatom.core.files import require_readable
from adatom.deploy.lammps.errors import LammpsError, plain_message
from adatom.deploy.lammps.script_text import Line, branches_of, logical_lines, unquoted, words_of

_BRANCH, _WORD = "adatom_branch", "adatom_word"


class ScriptRunner:
    """Reads scripts and passes their commands on.

    Args:
        lmp: The ``lammps.lammps`` object.
        before: Called with the words of a command before LAMMPS gets it.
        after: Called after LAMMPS did a command.
    """

    def __init__(
        self, lmp: Any, before: Callable[[list[str]], None], after: Callable[[], None]
    ) -> None:
        self._lmp = lmp
        self._before = before
        self._after = after
        self._files: list[_File] = []
        self._sought: str | None = None
        self._skip_jump = False
        self._own = {
            "include": self._include,
            "jump": self._jump,
            "label": self._label,
            "next": self._next,
            "if": self._if,
            "quit": self._quit,
        }

    def run(self, script: str | os.PathLike[str]) -> int:
        """Run a script to its end.

        Args:
            script: The file.

        Returns:
            The exit status that ``quit`` names, or 0.

        Raises:
            LammpsError: If LAMMPS refuses a command; names the line.
            FileAccessError: If a file cannot be read.
        """
        try:
            self._run_file(str(script))
        except _QuitError as stop:
            return stop.status
        return 0

    def _run_file(self, name: str) -> None:
        self._files.append(_File(name))
        while (line := self._files[-1].next_line()) is not None:
            self._execute(line.text)
        if self._sought is not None:
            raise LammpsError(
                f"There is no label {self._sought!r} in {self._files[-1].name!r}, where a jump "
                "leads to"
            )
        self._files.pop()

    def _execute(self, text: str) -> None:
        """Do one command of the script."""
        words = words_of(text)
        if not words:
            return
        name = self._expanded(words[0]) if self._sought is None else words[0]
        if self._sought is not None and name != "label":
            return
        if name in self._own:
            self._own[name](words)
            return
        self._before([name, *words[1:]])
        self._pass_on(text)
        self._after()

    def _pass_on(self, text: str) -> None:
        try:
            self._lmp.command(text)
        except AdatomError:
            raise
        # LAMMPS's Python module raises plain exceptions.
        except Exception as error:
            where = self._files[-1]
            raise LammpsError(
                f"LAMMPS refuses line {where.line.number} of {where.name!r} "
                f"({' '.join(where.line.text.split())[:80]}): {plain_message(error)}"
            ) from error

    def _expanded(self, word: str) -> str:
        """Return a word with its variables replaced, unless it is quoted."""
        if "$" not in word or unquoted(word) != word:
            return unquoted(word)
        self._pass_on(f"variable {_WORD} string {word}")
        return str(self._lmp.extract_variable(_WORD))

    def _include(self, words: list[str]) -> None:
        if len(words) != 2:
            return self._pass_on(" ".join(words))
        return self._run_file(self._expanded(words[1]))

    def _jump(self, words: list[str]) -> None:
        if self._skip_jump:
            self._skip_jump = False
            return
        if len(words) not in (2, 3):
            self._pass_on(" ".join(words))
        target = self._expanded(words[1])
        self._sought = self._expanded(words[2]) if len(words) == 3 else None
        if target == "SELF":
            self._files[-1].rewind()
        else:
            self._files[-1] = _File(target)

    def _label(self, words: list[str]) -> None:
        if len(words) == 2 and self._sought in (words[1], unquoted(words[1])):
            self._sought = None

    def _next(self, words: list[str]) -> None:
        names = [self._expanded(word) for word in words[1:]]
        self._pass_on(" ".join(words))
        # LAMMPS deletes variables that have no further value, and skips the next jump.
        if any(not self._lmp.has_id("variable", name) for name in names):
            self._pass_on("jump SELF")
            self._skip_jump = True

    def _if(self, words: list[str]) -> None:
        branches = branches_of(words)
        if branches is None:
            self._pass_on(" ".join(words))
            return
        self._pass_on(f"variable {_BRANCH} internal -1")
        command = "if"
        for number, branch in enumerate(branches):
            choose = f'"variable {_BRANCH} internal {number}"'
            if branch.condition is None:
                command += f" else {choose}"
            else:
                command += f"{' elif' if number else ''} {branch.condition}"
                command += f" {choose}" if number else f" then {choose}"
        self._pass_on(command)
        chosen = round(self._lmp.extract_variable(_BRANCH))
        for each in branches[chosen].commands if chosen >= 0 else []:
            self._execute(each)

    def _quit(self, words: list[str]) -> None:
        status = self._expanded(words[1]) if len(words) > 1 else "0"
        raise _QuitError(int(status) if status.lstrip("-").isdecimal() else 1)


class _File:
    """A script that is being read."""

    def __init__(self, name: str) -> None:
        self.name = name
        text = require_readable(Path(name)).read_text(encoding="utf-8", errors="replace")
        self._lines = logical_lines(text)
        self._next = 0
        self.line = Line(0, "")

    def next_line(self) -> Line | None:
        """Return the next command, or None at the end."""
        if self._next >= len(self._lines):
            return None
        self.line = self._lines[self._next]
        self._next += 1
        return self.line

    def rewind(self) -> None:
        """Start again from the first line."""
        self._next = 0


class _QuitError(Exception):
    """The script says quit."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status
