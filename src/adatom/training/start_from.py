"""A training that begins from a potential instead of from random weights."""

from __future__ import annotations

from dataclasses import dataclass

from adatom.checkpoint.format import load_potential
from adatom.core.errors import ConfigError
from adatom.tasks.potential import Potential
from adatom.training.conservative import to_conservative


@dataclass(slots=True, kw_only=True)
class StartFrom:
    """A potential that was trained before on the same datasets.

    Its network, heads, tasks and element references are kept. (For other data, see ``adatom
    finetune``.)

    Attributes:
        checkpoint: File of a potential; in a run directory, ``best.safetensors``.
        conserving: Drop heads for forces and stress: these become derivatives of the energy.
        max_neighbors: Of the network from now on, with ``conserving``; null keeps it. Derivatives
            need all neighbors within the cutoff to be smooth.
    """

    checkpoint: str
    conserving: bool = False
    max_neighbors: int | None = None


def load_start(start: StartFrom) -> Potential:
    """Return the potential that a training begins from.

    Raises:
        ConfigError: If ``max_neighbors`` is given without ``conserving``, or nothing is there to
            be made conserving.
        FileAccessError: If there is no such file.
    """
    if start.max_neighbors is not None and not start.conserving:
        raise ConfigError(
            "start_from.max_neighbors is given without start_from.conserving",
            expected="max_neighbors for a network whose forces become derivatives",
        )
    potential = load_potential(start.checkpoint)
    if start.conserving:
        potential = to_conservative(potential, max_neighbors=start.max_neighbors)
    return potential.train()
