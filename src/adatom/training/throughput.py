"""How fast a training is, in atoms, structures and edges per second of all ranks together."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch

from adatom.data.atomic_data import AtomicData
from adatom.training.reduction import sum_over_ranks, world_size

_NAMES = ("atoms", "structures", "edges")


class Throughput:
    """Counts what was trained on, and the time that it took; validations are left out."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._reset()

    def resume(self) -> None:
        """Let the clock run, if it does not."""
        if self._since is None:
            self._since = time.perf_counter()

    def pause(self) -> None:
        """Stop the clock."""
        if self._since is not None:
            self._seconds += time.perf_counter() - self._since
            self._since = None

    def add(self, batches: Sequence[AtomicData]) -> None:
        """Count the batches of a step that is done."""
        for batch in batches:
            edges = batch.edges.num_edges if batch.edges is not None else 0
            for i, count in enumerate((batch.num_atoms, batch.num_systems, edges)):
                self._counts[i] += count

    def rates(self, device: torch.device | str = "cpu") -> dict[str, float]:
        """Return ``atoms_per_second`` and so on since the last call; every rank must call this.

        Args:
            device: Of the process group.
        """
        self.pause()
        mine = torch.tensor([*self._counts, self._seconds], dtype=torch.float64, device=device)
        *counts, seconds = sum_over_ranks([mine])[0].tolist()
        self._reset()
        self.resume()
        mean = max(seconds / world_size(), 1e-9)
        return {f"{name}_per_second": n / mean for name, n in zip(_NAMES, counts, strict=True)}

    def _reset(self) -> None:
        self._counts = [0, 0, 0]
        self._seconds = 0.0
