"""Computes batches: checks, properties, the right copy of the potential, memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import torch

from adatom.core.errors import DataError, GraphError, OutOfMemoryError
from adatom.data.atomic_data import AtomicData, collate
from adatom.data.validation import OVERLAP, check_overlap
from adatom.graph.edges import Edges
from adatom.graph.neighbors import neighbor_list
from adatom.inference.available import AvailableProperties
from adatom.inference.composition import Compositions, Key
from adatom.inference.engine import Engine
from adatom.inference.extra_outputs import ExtraOutput
from adatom.inference.finite import require_finite
from adatom.inference.memory_model import MemoryModel, PeakMemory, free_memory
from adatom.inference.out_of_memory import is_out_of_memory, release
from adatom.inference.packing import Fits, Item, halves
from adatom.inference.prediction import Prediction
from adatom.inference.scopes import tf32_scope, thread_scope
from adatom.inference.settings import GRAPH_BACKENDS, InferenceSettings
from adatom.inference.single_atoms import SingleAtoms
from adatom.inference.well_formed import check_well_formed
from adatom.models.gradients import cell_volume
from adatom.nn.experts import MixedLinear
from adatom.tasks.potential import PROPERTIES, Potential

_NO_VOLUME = "it has no cell, hence no volume"


class BatchRunner:
    """What the calls of a predict unit share.

    Args:
        potential: Frozen, on ``device``.
        settings: How to compute.
        device: Where to compute.
        max_atoms: Atoms per batch at most, or None.

    Attributes:
        engine: Chooses who computes.
        memory: Knows what fits.
        single_atoms: Answers lone atoms.
        extras: Further outputs by name.
    """

    def __init__(
        self,
        potential: Potential,
        settings: InferenceSettings,
        device: torch.device,
        max_atoms: int | None,
    ) -> None:
        self.potential = potential
        self.settings = settings
        self.device = device
        self.max_atoms = max_atoms
        self.extras: dict[str, ExtraOutput] = {}
        self.single_atoms = SingleAtoms(potential)
        self.engine = Engine(potential, settings, _merge)
        budget = settings.batch_memory
        self.memory = MemoryModel(
            device,
            budget if budget >= 1 else budget * free_memory(device),
            _merged_bytes(potential),
        )
        self._available = AvailableProperties(potential, settings)
        self._compositions = Compositions(potential)

    def key(self, system: AtomicData) -> Key:
        """Check one structure and return what it is made of."""
        check_well_formed(system)
        return self._compositions.keys(system)[0]

    def window_atoms(self) -> int:
        """Return how many atoms are looked at together: several batches' worth."""
        return max(2048, 2 * self.memory.largest[1])

    def fits(self, names: Sequence[str] | None) -> Fits:
        """Return what tells how much may be computed at once."""
        alone = bool(names) and "hessian" in (names or ())
        alone = alone or bool(names is None and self.settings.predict_untrained_hessian)

        def fits(edges: int, atoms: int, kinds: int) -> bool:
            if alone or (self.max_atoms is not None and atoms > self.max_atoms):
                return False
            return self.memory.fits(edges, atoms, kinds)

        return fits

    def with_edges(self, data: AtomicData) -> AtomicData:
        """Return a system or batch on the device, with edges.

        Raises:
            DataError: If edges have to come with the data and do not, or atoms are on top of each
                other.
        """
        if data.pos.device != self.device or data.atomic_numbers.device != self.device:
            data = data.to(self.device)
        if data.edges is not None:
            return data
        if self.settings.external_graph_gen:
            raise DataError(
                f"Structure {data.sid[0]!r} has no edges, and external_graph_gen says that they "
                "come with the data",
                fix="Call data.with_edges(cutoff), or leave external_graph_gen out.",
            )
        return replace(data, edges=self._edges(data))

    def _edges(self, data: AtomicData) -> Edges:
        try:
            return neighbor_list(
                data.pos.detach(),
                data.cell.detach(),
                data.pbc,
                self.potential.cutoff,
                natoms=data.natoms,
                max_neighbors=self.potential.max_neighbors,
                backend=GRAPH_BACKENDS[self.settings.internal_graph_gen_version],
                min_distance=OVERLAP,
            )
        except GraphError:
            # The search knows no names.
            for system in data.unbatch():
                check_overlap(system)
            raise

    def whole(self, data: AtomicData, names: tuple[str, ...] | None) -> Prediction | None:
        """Predict a system or batch as it is, or return None if it has to be taken apart."""
        check_well_formed(data)
        keys = self._compositions.keys(data)
        single = len(keys) == 1
        if single and self.single_atoms.concerns(data):
            return self.lone_atom(data, names)
        if not single and self.single_atoms.some(data):
            return None
        data = self.with_edges(data)
        edges = 0 if data.edges is None else int(data.edges.index.shape[1])
        if single:
            return self.run([Item(0, data, keys[0])], names)[0]
        # Systems of one kind that are apart would each have their weights merged.
        grouped = len(set(keys)) == 1 + sum(a != b for a, b in pairwise(keys))
        if not grouped or not self.fits(names)(edges, data.num_atoms, len(set(keys))):
            return None
        meter = PeakMemory(self.device)
        try:
            found = self._compute(data, keys, names)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
        else:
            self.memory.succeeded(edges, data.num_atoms, len(set(keys)), meter.taken())
            return found
        release(self.device)
        self.memory.failed(edges, data.num_atoms, len(set(keys)))
        return None

    def lone_atom(self, system: AtomicData, names: tuple[str, ...] | None) -> Prediction:
        """Answer a lone atom from the table of the checkpoint."""
        wanted = [n for n in self._wanted(system, names) if n not in self.extras]
        values = self.single_atoms.predict(system.to(self.device), wanted, self.potential.dtype)
        reasons = {
            n: {0: "it is a single atom without neighbors"} for n in wanted if n not in values
        }
        if float(cell_volume(system.cell)[0]) == 0 and values.pop("stress", None) is not None:
            reasons["stress"] = {0: _NO_VOLUME}
        return Prediction(values, list(system.sid), reasons, [1])

    def run(self, batch: Sequence[Item], names: tuple[str, ...] | None) -> list[Prediction]:
        """Predict structures together, or in smaller batches if memory does not suffice.

        Raises:
            OutOfMemoryError: If one structure alone does not fit.
        """
        edges, atoms = sum(item.edges for item in batch), sum(item.atoms for item in batch)
        joined = batch[0].system if len(batch) == 1 else collate([item.system for item in batch])
        keys = [item.key for item in batch]
        meter = PeakMemory(self.device) if len(batch) > 1 else None
        try:
            found = self._compute(joined, keys, names).split()
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            # The error's traceback holds the tensors of the attempt: it ends with this block.
        else:
            if meter is not None:
                self.memory.succeeded(edges, atoms, len(set(keys)), meter.taken())
            return found
        release(self.device)
        self.memory.failed(edges, atoms, len(set(keys)))
        if len(batch) == 1:
            return [self._lean(joined, keys, names)]
        first, second = halves(batch)
        return [*self.run(first, names), *self.run(second, names)]

    def _lean(
        self, system: AtomicData, keys: Sequence[Key], names: tuple[str, ...] | None
    ) -> Prediction:
        try:
            return self._compute(system, keys, names, lean=True)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            edges = 0 if system.edges is None else int(system.edges.index.shape[1])
            free = free_memory(self.device) / 2**30
            raise OutOfMemoryError(
                f"Structure {system.sid[0]!r} ({system.num_atoms} atoms, {edges} edges) does not "
                f"fit into the memory of {self.device} ({free:.1f} GiB free), even with nothing "
                "kept for the backward pass and the smallest tiles",
                fix="Use a machine with more memory, float32, or only the energy.",
            ) from error

    def _compute(
        self,
        batch: AtomicData,
        keys: Sequence[Key],
        names: tuple[str, ...] | None,
        *,
        lean: bool = False,
    ) -> Prediction:
        wanted = self._wanted(batch, names)
        absent = self._absent(batch, wanted)
        count = len(keys)
        computed = [n for n in wanted if n in PROPERTIES and len(absent.get(n, ())) < count]
        out = self.outputs(batch, keys, wanted, computed, lean=lean)
        values = {name: out[name].detach() for name in wanted if name in out}
        systems = frozenset(n for n, extra in self.extras.items() if extra.level == "system")
        natoms = [batch.num_atoms] if count == 1 else batch.natoms.tolist()
        prediction = Prediction(values, list(batch.sid), absent, natoms, systems)
        require_finite(prediction)
        return prediction

    def outputs(
        self,
        batch: AtomicData,
        keys: Sequence[Key],
        wanted: Sequence[str],
        computed: Sequence[str],
        *,
        lean: bool,
    ) -> dict[str, torch.Tensor]:
        """Compute a batch in physical units.

        Args:
            batch: With edges, on the device.
            keys: What each system is made of.
            wanted: What is asked for, further outputs included.
            computed: What the network is asked for.
            lean: In the least memory.
        """
        edges = 0 if batch.edges is None else int(batch.edges.index.shape[1])
        with (
            thread_scope(self.settings, edges, self.engine.mode),
            tf32_scope(self.settings),
            # The potential turns gradients on again where it needs them.
            torch.no_grad(),
        ):
            potential = self.engine.ready(batch, keys)
            if lean:
                potential = self.engine.lean(potential)
            vmap = self.settings.hessian_vmap and not lean
            raw = potential(batch, computed, hessian_vmap=vmap)
            out = potential.denormalize(raw, batch)
            for name in wanted:
                if name in self.extras:
                    out[name] = self.extras[name](potential, batch, out)
        self.engine.finished(keys)
        return out

    def _wanted(self, batch: AtomicData, names: tuple[str, ...] | None) -> tuple[str, ...]:
        if names is not None:
            return names
        if len(set(batch.dataset)) == 1:
            return self._available.wanted(None, batch.dataset[0])
        every = {n for d in batch.dataset for n in self._available.wanted(None, d)}
        return tuple(n for n in PROPERTIES if n in every)

    def _absent(self, batch: AtomicData, wanted: Sequence[str]) -> dict[str, dict[int, str]]:
        """Return why systems do not have some properties, by property and system."""
        absent: dict[str, dict[int, str]] = {}
        if "stress" in wanted:
            volumes = cell_volume(batch.cell.detach()).tolist()
            without = [i for i, volume in enumerate(volumes) if volume == 0]
            if without:
                absent["stress"] = dict.fromkeys(without, _NO_VOLUME)
        for i, dataset in enumerate(batch.dataset):
            for name, reason in self._available.reasons(dataset).items():
                if name in wanted:
                    absent.setdefault(name, {})[i] = reason
        return absent


def _merge(potential: Potential, system: AtomicData) -> Potential:
    from adatom.checkpoint.merge import merged_potential

    return merged_potential(potential, system)


def _merged_bytes(potential: Potential) -> float:
    """Return what the merged expert weights of one composition take, in the forms they are used."""
    layers = [m for m in potential.modules() if isinstance(m, MixedLinear) and m.num_experts]
    return 2.0 * sum(m.weights.nbytes / m.num_experts for m in layers)
