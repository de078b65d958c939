"""What one worker does when several share a system."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Literal
from weakref import WeakSet

import torch
from torch import distributed

from adatom.core.errors import ConfigError, GraphError
from adatom.data.atomic_data import AtomicData
from adatom.graph.domain import Domains
from adatom.graph.links import Links, LocalLinks, ProcessLinks
from adatom.inference.composition import Compositions
from adatom.inference.engine import KEPT_BYTES, Engine
from adatom.inference.memory_model import PeakMemory
from adatom.inference.parallel.outputs import raw_outputs
from adatom.inference.parallel.sample import Together, helped, sample_without_edges
from adatom.inference.private_copy import prepared
from adatom.inference.scopes import tf32_scope, thread_scope
from adatom.inference.settings import GRAPH_BACKENDS, InferenceSettings
from adatom.inference.verification import compare
from adatom.models.partitioned import search_layers
from adatom.tasks.potential import Potential


@dataclass(frozen=True)
class RankStatistics:
    """What a worker had to do for the last system.

    Attributes:
        rank: Number of the worker.
        workers: Number of workers.
        own_atoms: Atoms whose energies it computed.
        halo_atoms: Atoms of others that it needed.
        edges: Edges that it summed over.
        sent_bytes: What it sent to others in the last call.
        exchanges: Collective operations of the last call.
        searches: Neighbor searches, and new partitions with them, so far.
        peak_bytes: Memory that the last call took at most; None where it cannot be measured.
        mode: Mode of execution, or None before the first call.
    """

    rank: int
    workers: int
    own_atoms: int
    halo_atoms: int
    edges: int
    sent_bytes: int
    exchanges: int
    searches: int
    peak_bytes: float | None
    mode: str | None


class RankEngine:
    """Computes a worker's part of each system, together with the other workers.

    All workers make the same calls with the same arguments in the same order; each knows all
    positions, and computes the energies of its own atoms. The results are those of one worker up
    to rounding.

    Args:
        potential: Left as it is.
        settings: How to compute; ``activation_checkpointing`` and the experts' weights must be
            decided alike by all workers.
        device: Of this worker.
        group: The workers' process group (gloo for the CPU, nccl for CUDA); None is one worker.
        skin: Verlet skin in angstrom.
        partition: See :class:`adatom.graph.domain.Domains`.
        links: In place of a group.

    Attributes:
        device: Where it computes.
        settings: How it computes.
        potential: What it computes: frozen, in evaluation mode.
        links: What connects the workers.

    Raises:
        ConfigError: If the potential cannot be computed by several workers.
    """

    def __init__(
        self,
        potential: Potential,
        settings: InferenceSettings,
        device: torch.device | str = "cpu",
        group: distributed.ProcessGroup | None = None,
        *,
        skin: float = 0.5,
        partition: Literal["spatial", "index"] = "spatial",
        links: Links | None = None,
    ) -> None:
        self.device = torch.device(device)
        self.settings = settings
        self.potential = prepared(potential, self.device, settings.dtype or potential.dtype)
        if links is None:
            links = LocalLinks() if group is None else ProcessLinks(group)
        self.links = links
        self._compositions = Compositions(self.potential)
        # Processors share memory. Together the workers keep what one alone would, so that each
        # edge costs what it costs there. A GPU has its memory for itself.
        kept = KEPT_BYTES if self.device.type == "cuda" else KEPT_BYTES // links.size
        self._engine = Engine(self.potential, settings, _merge, sample_without_edges, kept)
        self._domains = self._new_domains(skin, partition)
        self._trusted: WeakSet[Potential] = WeakSet()
        self._statistics: RankStatistics | None = None

    @property
    def notes(self) -> dict[str, str]:
        """What was chosen and why, by topic, in plain words."""
        return self._engine.notes

    def statistics(self) -> RankStatistics | None:
        """Return what the last system took, or None before the first."""
        return self._statistics

    def predict(self, data: AtomicData, properties: Collection[str]) -> dict[str, torch.Tensor]:
        """Predict in physical units.

        Args:
            data: One system or a batch of them, whole; systems are computed one after the other.
                Edges are built here.
            properties: Among :data:`adatom.tasks.potential.PROPERTIES`. A Hessian is computed by
                worker 0 alone.

        Returns:
            On worker 0, what :meth:`adatom.tasks.potential.Potential.denormalize` returns for the
            whole batch; nothing on the others.

        Raises:
            GraphError: If the workers do not agree on how to compute, or together find something
                else than one alone.
        """
        data = data.to(self.device)
        if self.settings.external_graph_gen and data.edges is not None and self.links.size > 1:
            raise ConfigError(
                "The structures bring their edges, and several workers share a structure",
                fix="Leave external_graph_gen out, or use one worker.",
            )
        data = replace(data, edges=None, labels={})
        systems = data.unbatch() if data.num_systems > 1 else [data]
        found = [self._predict_one(system, properties) for system in systems]
        if self.links.rank != 0:
            return {}
        if "hessian" in properties or len(found) == 1:
            return found[0]
        return {name: torch.cat([one[name] for one in found]) for name in found[0]}

    def _predict_one(
        self, system: AtomicData, properties: Collection[str]
    ) -> dict[str, torch.Tensor]:
        keys = self._compositions.keys(system)
        meter = PeakMemory(self.device)
        with tf32_scope(self.settings), torch.no_grad():
            potential = self._engine.ready(system, keys)
            self._agree(potential)
            if potential not in self._trusted:
                self._compare(potential, system)
                self._trusted.add(potential)
            sent, calls = self.links.sent_bytes, self.links.num_calls
            domain = self._domains.of(system.pos, system.cell, system.pbc)
            edges = domain.edges.num_edges
            with thread_scope(self.settings, edges, self._engine.mode):
                if "hessian" in properties:
                    raw = self._alone(potential, system, properties)
                else:
                    raw = raw_outputs(potential, system, domain, properties)
            out = potential.denormalize(raw, system)
        self._engine.finished(keys)
        self._statistics = RankStatistics(
            rank=self.links.rank,
            workers=self.links.size,
            own_atoms=len(domain.own),
            halo_atoms=len(domain.halo.needed),
            edges=edges,
            sent_bytes=self.links.sent_bytes - sent,
            exchanges=self.links.num_calls - calls,
            searches=self._domains.num_searches,
            peak_bytes=meter.taken(),
            mode=self._engine.mode,
        )
        return out

    def _alone(
        self, potential: Potential, system: AtomicData, properties: Collection[str]
    ) -> dict[str, torch.Tensor]:
        """Predict on worker 0 only."""
        if self.links.rank != 0:
            return {}
        backbone = potential.backbone
        system = system.with_edges(backbone.cutoff, max_neighbors=backbone.max_neighbors)
        return potential(system, properties, hessian_vmap=self.settings.hessian_vmap)  # type: ignore[no-any-return]

    def _agree(self, potential: Potential) -> None:
        """Refuse to go on if workers have chosen different ways, which exchange differently."""
        execution = potential.backbone.execution
        own = [
            ("general", "tiled", "compiled").index(execution.mode),
            int(execution.kept_bytes > 0),
            int(potential.backbone.init_args.get("num_experts") or 0),
        ]
        mine = torch.tensor(own, device=self.device)
        if bool((self.links.sum(mine) != self.links.size * mine).any()):
            raise GraphError(
                f"Worker {self.links.rank} computes in another way than the others "
                f"({execution}): {self.notes.get('execution')}",
                expected="workers on equal machines with equal settings",
                fix="Set execution_mode='general' or 'tiled'.",
            )

    def _compare(self, potential: Potential, system: AtomicData) -> None:
        """Compare all workers together with one alone, on a small piece of the system.

        Raises:
            GraphError: If they differ.
        """
        if self.links.size == 1:
            return
        backbone = potential.backbone
        sample = sample_without_edges(
            system,
            backbone.cutoff,
            exact=self._compositions.exact,
            max_neighbors=backbone.max_neighbors,
        )
        domains = self._new_domains(0.0, self._domains.partition)

        def raw(data: AtomicData, properties: list[str]) -> dict[str, torch.Tensor]:
            domain = domains.of(data.pos, data.cell, data.pbc)
            return raw_outputs(potential, data, domain, properties)

        if self.links.rank == 0:
            found = compare(Together(potential, raw), potential, sample)
        else:
            found = helped(raw, sample, potential)
        text = found.text
        doubts = torch.tensor([int(not found.trusted)], device=self.device)
        if bool(self.links.sum(doubts).any()):
            raise GraphError(
                f"{self.links.size} workers together do not find what one finds alone ({text})",
                fix="Use one worker, and report this.",
            )
        self._engine.notes["workers"] = (
            f"{self.links.size} workers together were compared with one alone; {text}."
        )

    def _new_domains(self, skin: float, partition: Literal["spatial", "index"]) -> Domains:
        backbone = self.potential.backbone
        return Domains(
            self.links,
            backbone.cutoff,
            layers=search_layers(backbone) if self.links.size > 1 else 1,
            max_neighbors=backbone.max_neighbors,
            skin=skin,
            backend=GRAPH_BACKENDS[self.settings.internal_graph_gen_version],
            partition=partition,
        )


def _merge(potential: Potential, system: AtomicData) -> Potential:
    from adatom.checkpoint.merge import merged_potential

    return merged_potential(potential, system)
