"""A class that a configuration must not be able to make."""

from __future__ import annotations

from pathlib import Path


class Trap:
    """Leaves a file behind when it is made.

    Args:
        path: Of the file.
    """

    def __init__(self, path: str = "sprung") -> None:
        Path(path).touch()
