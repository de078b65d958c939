"""Batches that workers compute, checked and completed as everywhere else."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from adatom.core.errors import DataError, OutOfMemoryError
from adatom.data.atomic_data import AtomicData
from adatom.data.validation import check_overlap
from adatom.inference.batch_runner import BatchRunner
from adatom.inference.composition import Key
from adatom.inference.packing import Fits
from adatom.inference.parallel.worker_group import WorkerGroup
from adatom.inference.prediction import Prediction
from adatom.inference.settings import InferenceSettings
from adatom.tasks.potential import Potential

#: Atoms of structures that are computed together, per worker. A structure may have any number.
_ATOMS_PER_WORKER = 256


class ParallelRunner(BatchRunner):
    """Checks structures here and computes them in workers.

    Args:
        potential: Answers what it knows; it computes nothing.
        settings: How to compute.
        dtype: Floating dtype of the network in the workers.
        max_atoms: Atoms per batch at most, or None.
        workers: Who computes.
        size: How many they are.
    """

    def __init__(
        self,
        potential: Potential,
        settings: InferenceSettings,
        dtype: torch.dtype,
        max_atoms: int | None,
        workers: WorkerGroup,
        size: int,
    ) -> None:
        super().__init__(potential, settings, torch.device("cpu"), max_atoms)
        self._dtype = dtype
        self._workers = workers
        self._most = max_atoms or _ATOMS_PER_WORKER * size

    def fits(self, names: Sequence[str] | None) -> Fits:
        """Return what tells how much may be computed at once: edges are not known here."""
        del names

        def fits(edges: int, atoms: int, kinds: int) -> bool:
            del edges, kinds
            return atoms <= self._most

        return fits

    def with_edges(self, data: AtomicData) -> AtomicData:
        """Return a batch on the processor; the workers find the edges, each its own.

        Raises:
            DataError: If edges are given or have to be, or atoms are on top of each other.
        """
        if self.settings.external_graph_gen or data.edges is not None:
            what = "external_graph_gen says so" if data.edges is None else "it has edges"
            raise DataError(
                f"The edges of structure {data.sid[0]!r} are given ({what}), but several workers "
                "find the edges of their atoms themselves",
                fix="Leave edges and external_graph_gen out, or use one process.",
            )
        data = data.to(self.device)
        for system in data.unbatch():
            check_overlap(system)
        return data

    def lone_atom(self, system: AtomicData, names: tuple[str, ...] | None) -> Prediction:
        """Answer a lone atom from the table of the checkpoint, in the dtype of the workers."""
        found = super().lone_atom(system, names)
        for name in ("forces", "hessian"):
            if name in found:
                found[name] = found[name].to(self._dtype)
        return found

    def outputs(
        self,
        batch: AtomicData,
        keys: Sequence[Key],
        wanted: Sequence[str],
        computed: Sequence[str],
        *,
        lean: bool,
    ) -> dict[str, torch.Tensor]:
        """Let the workers compute a batch in physical units; see the base class."""
        del keys, wanted, lean
        return self._workers.predict(batch, computed) if computed else {}

    def _lean(
        self, system: AtomicData, keys: Sequence[Key], names: tuple[str, ...] | None
    ) -> Prediction:
        del keys, names
        raise OutOfMemoryError(
            f"Structure {system.sid[0]!r} ({system.num_atoms} atoms) does not fit into the memory "
            "of the workers",
            fix="Use more workers, or float32.",
        )
