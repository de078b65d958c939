"""What a label map may say of a label: a key, its negative, or a product of keys."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LabelKey:
    """Where a file keeps a label.

    Attributes:
        sign: -1.0 if the file has the negative of the label.
        keys: One key; or several, whose values are multiplied. All but the first are numbers.
    """

    sign: float
    keys: tuple[str, ...]

    @classmethod
    def of(cls, text: str) -> LabelKey:
        """Read ``"key"``, ``"-key"`` or ``"key*number_key"``, such as ``"e_per_ads*n_ads"``."""
        keys = tuple(part.strip() for part in text.removeprefix("-").split("*"))
        return cls(-1.0 if text.startswith("-") else 1.0, keys)
