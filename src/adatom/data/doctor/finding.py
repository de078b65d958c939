"""What a check has to say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "info"]

#: Gravest first.
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")


@dataclass(frozen=True, slots=True)
class Finding:
    """One observation about a dataset.

    Attributes:
        severity: ``"error"``: training on this gives a wrong potential; ``"warning"``: it may, or
            scores will flatter; ``"info"``: good to know.
        code: Short stable name of the kind of finding.
        message: What was found, in one or two sentences.
        fix: What to do about it.
        sids: The structures it is about (empty: the dataset as a whole).
    """

    severity: Severity
    code: str
    message: str
    fix: str
    sids: tuple[str, ...] = ()
