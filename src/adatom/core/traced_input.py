"""What is known of the input while a network is traced into a program.

A trace runs on tensors without values: sizes are symbols, and nothing may depend on a value. Code
that looks at values (to check them, or to choose a size) asks :func:`traced_input` and takes
another way while it is set. The input then is one system without periodic images: no two edges
join the same two atoms in the same direction.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True)
class TracedInput:
    """What holds for every input of the program.

    Attributes:
        elements: Atomic numbers, all that can come.
    """

    elements: tuple[int, ...]


_CURRENT: ContextVar[TracedInput | None] = ContextVar("traced_input", default=None)


def traced_input() -> TracedInput | None:
    """Return what is known of the traced input, or None where tensors have values."""
    return _CURRENT.get()


@contextmanager
def tracing(elements: Sequence[int]) -> Iterator[None]:
    """Let networks compute without looking at values, in this thread and scope only.

    Args:
        elements: Atomic numbers that the input is made of.
    """
    token = _CURRENT.set(TracedInput(tuple(elements)))
    try:
        yield
    finally:
        _CURRENT.reset(token)
