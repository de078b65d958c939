"""A potential for staged evaluation: particles with ghosts instead of a periodic cell.

A simulator that divides space among processes gives each of them some atoms of its own and the
ghosts around them. A network of n message layers then needs n lists of edges: its first layer has
to be right for atoms that are n - 1 steps away, the last one for the own atoms only. The weights
and the code are those of ordinary prediction, where all layers share one list.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from adatom.core.errors import ConfigError
from adatom.core.traced_input import tracing
from adatom.data.atomic_data import AtomicData
from adatom.deploy.hop_order import hop_order
from adatom.inference.private_copy import prepared
from adatom.models.base import Execution, NodeFeatures
from adatom.models.graph_network import GraphNetwork
from adatom.nn.first_rows import first_rows
from adatom.tasks.potential import Potential

#: Source and target of each edge of one layer, ``[E]`` int64 each, sorted by target.
EdgeEnds = tuple[torch.Tensor, torch.Tensor]


class StagedPotential(nn.Module):
    """Energies of particles in eV, from one list of edges per message layer.

    Args:
        potential: Without experts (merged, see :func:`adatom.checkpoint.merge.merged_potential`).
        dataset: The level of theory.
        numbers: Atomic numbers; the position is the species code.
        charge: Total charge of every system.
        spin: Multiplicity of every system, 0 for "not given".
        dtype: What the network computes in.

    Raises:
        ConfigError: If the potential cannot be evaluated in stages; says why.
        OutOfDomainError: If it was not trained on one of the elements, the charge or the spin.
        UnknownNameError: If it has no such dataset.
    """

    references: torch.Tensor
    elements: torch.Tensor

    def __init__(
        self,
        potential: Potential,
        dataset: str,
        numbers: Sequence[int],
        *,
        charge: int = 0,
        spin: int = 0,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__()
        require_staged(potential, dataset)
        self.dataset, self.charge, self.spin = dataset, charge, spin
        self.numbers = tuple(numbers)
        self.dtype = dtype
        own = prepared(potential, torch.device("cpu"), dtype)
        self.backbone, self.head = own.backbone, own.head
        # Derivatives become part of the program: only plain operations can be traced.
        self.backbone.execution = Execution("general")
        self.scale = own.normalizer_for(dataset, "energy").rmsd
        table = own.task_for(dataset, "energy").element_references
        elements = torch.tensor(self.numbers)
        zeros = torch.zeros(len(self.numbers), dtype=torch.float64)
        self.register_buffer("references", zeros if table is None else table.double()[elements])
        self.register_buffer("elements", elements)

    @property
    def num_layers(self) -> int:
        """Number of edge lists."""
        return self.backbone.num_message_layers

    def forward(
        self,
        species: torch.Tensor,
        coordinates: torch.Tensor,
        layers: Sequence[EdgeEnds],
        vectors: Sequence[torch.Tensor],
        contributing: torch.Tensor,
    ) -> torch.Tensor:
        """Compute energies; derivatives come from the vectors alone.

        Args:
            species: ``[N]`` int64 codes.
            coordinates: ``[N, 3]`` angstrom.
            layers: The smallest first. All that layers need is taken from the last one: it has all
                edges into particles that are fewer steps than layers away.
            vectors: ``[E, 3]`` float64 per layer, source minus target, in angstrom.
            contributing: ``[N]`` bool; False for ghosts.

        Returns:
            ``[N]`` float64, zero for ghosts.
        """
        source, target = layers[-1]
        order = hop_order(source, target, contributing, len(layers))
        near = first_rows(order.particles, order.rows[-1])
        data = self._data(species.index_select(0, near), coordinates.index_select(0, near))
        edges = order.neighborhoods(vectors[-1].to(self.dtype))
        own = first_rows(order.particles, order.rows[0])
        kinds = species.index_select(0, own)
        with tracing(self.numbers):
            features = _first(self.backbone(data, edges), order.rows[0])
            found = self.head(features, self._data(kinds, coordinates.index_select(0, own)))
        energies: torch.Tensor = found["energies"].double() * self.scale
        energies = energies + self.references.index_select(0, kinds)
        everyone = energies.new_zeros(species.shape[0])
        return everyone.index_copy(0, own, energies)

    def _data(self, species: torch.Tensor, coordinates: torch.Tensor) -> AtomicData:
        one = species.new_ones(1)
        return AtomicData(
            pos=coordinates,
            atomic_numbers=self.elements.index_select(0, species),
            cell=coordinates.new_zeros(1, 3, 3),
            pbc=torch.zeros_like(coordinates[:1], dtype=torch.bool),
            natoms=_count(species),
            batch=torch.zeros_like(species),
            charge=one * self.charge,
            spin=one * self.spin,
            dataset=[self.dataset],
            tags=torch.zeros_like(species),
            fixed=torch.zeros_like(species, dtype=torch.bool),
            sid=["particles"],
        )


def require_staged(potential: Potential, dataset: str) -> None:
    """Refuse a potential whose energies of atoms need more than what is near them.

    Raises:
        ConfigError: Says what stands in the way.
        UnknownNameError: If the potential has no such dataset.
    """
    properties = potential.properties(dataset)
    reason = _obstacle(potential) or _obstacle_of_task(potential, dataset, properties)
    if reason is not None:
        raise ConfigError(
            f"This potential cannot be evaluated in parts of a system: {reason}",
            expected="energies of atoms that depend on what is near them, and forces that are "
            "their derivatives",
        )


def _obstacle(potential: Potential) -> str | None:
    backbone, head = potential.backbone, potential.head
    direct = " and ".join(potential.direct_properties)
    reasons = {
        "its network takes whole graphs and not one list of edges per layer": isinstance(
            backbone, GraphNetwork
        ),
        "its network takes positions or the cell beside the vectors of edges": (
            backbone.uses_positions
        ),
        "it keeps sums of channels over the whole system at its charge or spin": getattr(
            backbone, "balances", False
        ),
        "its experts are not merged yet": getattr(backbone, "init_args", {}).get("num_experts"),
        "its energy is a mean over all atoms": head.mean_energy,
        f"it predicts {direct} directly, not as derivatives of its energy": direct,
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def _obstacle_of_task(potential: Potential, dataset: str, properties: Sequence[str]) -> str | None:
    if potential.is_relaxed(dataset):
        return f"{dataset!r} has energies of relaxed structures, whose derivatives are no forces"
    if "energy" not in properties:
        return f"{dataset!r} has no energy"
    if potential.normalizer_for(dataset, "energy").mean != 0.0:
        return "its normalizer adds a constant to the energy of every system, whatever its size"
    return None


def _count(rows: torch.Tensor) -> torch.Tensor:
    """Return the number of rows ``[1]``, as a tensor that a trace keeps free."""
    return torch.ones_like(rows, dtype=torch.int64).sum(0, keepdim=True)


def _first(features: NodeFeatures, rows: int) -> NodeFeatures:
    """Return the features of the first atoms, where a backbone has computed those of more."""
    spherical = features.spherical
    return NodeFeatures(
        first_rows(features.scalars, rows),
        None if spherical is None else first_rows(spherical, rows),
    )
