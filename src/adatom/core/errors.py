"""Errors that say what was found, what was expected and how to fix it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class AdatomError(Exception):
    """Base of every error that adatom raises on purpose.

    Each subclass is also the built-in exception a caller would catch. The command line prints
    the message alone (no traceback) and exits with code 2.

    Args:
        found: What was found, naming the file, key or structure.
        expected: What was expected instead.
        fix: What the user can do about it.
    """

    def __init__(self, found: str, *, expected: str | None = None, fix: str | None = None) -> None:
        self.found = found
        self.expected = expected
        self.fix = fix
        parts = [_sentence(found)]
        if expected:
            parts.append(_sentence(f"Expected {expected}"))
        if fix:
            parts.append(_sentence(fix))
        self.message = " ".join(parts)
        super().__init__(self.message)

    def __str__(self) -> str:
        """Return the message as written (KeyError would print its repr)."""
        return self.message


class DataError(AdatomError, ValueError):
    """A structure, label or data file is not usable as it is."""


class MissingLabelError(AdatomError, KeyError):
    """A label that was asked for is not in the data."""


class GraphError(AdatomError, ValueError):
    """A neighbor list cannot be built from this input."""


class ConfigError(AdatomError, ValueError):
    """A setting or argument is wrong."""


class UnknownNameError(AdatomError, KeyError):
    """A name (key, task, model, dataset) is not among the known ones."""


class OutOfDomainError(AdatomError, ValueError):
    """The potential never saw this element, task, charge or spin."""


class CheckpointError(AdatomError, ValueError):
    """A checkpoint file is damaged, foreign, too new or not a checkpoint."""


class FileAccessError(AdatomError, OSError):
    """A file is missing, empty, or cannot be written."""


class NonFiniteError(AdatomError, ArithmeticError):
    """A loss, label or prediction is NaN or infinite."""


class OutOfMemoryError(AdatomError, MemoryError):
    """A structure does not fit into memory."""


class WorkerError(AdatomError, RuntimeError):
    """Another process that computes for this one failed; its traceback is in the notes."""


class WorkerDiedError(WorkerError):
    """Another process that computes for this one is gone, or does not answer."""


class MissingExtraError(AdatomError, ImportError):
    """An optional dependency is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"This needs the package {package!r}, which is not installed",
            fix=f"Install it with: pip install 'adatom[{extra}]'",
        )


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the nearest choice, or an empty string."""
    near = difflib.get_close_matches(name, list(choices), n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""


def unknown_name(kind: str, name: str, choices: Iterable[str]) -> UnknownNameError:
    """Build the error for a name that is not among ``choices``, with the nearest one named."""
    known = sorted(choices)
    return UnknownNameError(
        f"Unknown {kind} {name!r}{did_you_mean(name, known)}",
        expected=f"one of: {', '.join(known) if known else '(none are defined)'}",
    )


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else text + "."
