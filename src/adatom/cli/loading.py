"""What the verbs that use a potential have in common."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NoReturn, TextIO

if TYPE_CHECKING:
    from adatom.calculators.ase_calculator import MLIPCalculator
    from adatom.inference.predict_unit import MLIPPredictUnit

#: Floating types of the network that can be chosen.
Precision = Literal["float32", "float64"]

#: Endings of files that structures are written to.
STRUCTURE_SUFFIXES = (".xyz", ".extxyz", ".db")


def load_unit(
    model: str,
    *,
    device: str,
    dtype: Precision | None,
    settings: str = "default",
    max_atoms: int | None = None,
    workers: int = 1,
) -> MLIPPredictUnit:
    """Load a potential by name or path.

    Args:
        model: Checkpoint file or name.
        device: Where to compute.
        dtype: Precision of the network; None for that of the settings or the checkpoint.
        settings: Preset of inference settings.
        max_atoms: Atoms computed at once at most; None leaves it to the memory there is.
        workers: Processes that compute each structure together.

    Raises:
        AdatomError: If there is no such file or name, or the file is damaged.
    """
    import torch

    from adatom.inference import pretrained_mlip

    precision = None if dtype is None else getattr(torch, dtype)
    return pretrained_mlip.load_unit(
        model, settings, workers=workers, device=device, dtype=precision, max_atoms=max_atoms
    )


def load_calculator(
    model: str, task: str | None, *, device: str, dtype: Precision | None, workers: int = 1
) -> MLIPCalculator:
    """Load a potential as an ASE calculator.

    Args:
        model: As for :func:`load_unit`.
        task: Dataset of the potential, or None.
        device: As for :func:`load_unit`.
        dtype: As for :func:`load_unit`.
        workers: As for :func:`load_unit`.

    Raises:
        AdatomError: As :func:`load_unit`, or if the task has to be chosen or is not known.
    """
    from adatom.calculators.ase_calculator import MLIPCalculator

    return MLIPCalculator(load_unit(model, device=device, dtype=dtype, workers=workers), task)


def require_structure_output(path: str) -> Path:
    """Return ``path`` if structures can be written there.

    Raises:
        ConfigError: If the ending is not known.
        FileAccessError: If the place cannot be written.
    """
    from adatom.core.errors import ConfigError
    from adatom.core.files import require_writable

    if Path(path).suffix.lower() not in STRUCTURE_SUFFIXES:
        raise ConfigError(
            f"Structures cannot be written to {path!r}",
            expected=f"a file name ending in {', '.join(STRUCTURE_SUFFIXES)}",
        )
    return require_writable(path)


@contextmanager
def warnings_as_messages() -> Iterator[None]:
    """Say warnings of adatom's own in one sentence each, without the line of code."""
    import warnings

    from adatom.core.console import say
    from adatom.inference.engine import InferenceWarning

    with warnings.catch_warnings():
        shown = warnings.showwarning

        def show(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if issubclass(category, InferenceWarning):
                say(f"Note: {message}")
            else:
                shown(message, category, filename, lineno, file, line)

        warnings.showwarning = show
        yield


def exit_by_signal(name: str) -> NoReturn:
    """Leave with 128 plus the signal's number, as shells expect.

    Raises:
        SystemExit: Always.
    """
    raise SystemExit(128 + signal.Signals[name])
