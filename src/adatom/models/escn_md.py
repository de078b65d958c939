"""The eSCN-MD backbone, dense or with mixtures of linear experts (UMA)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from adatom.core.errors import ConfigError, DataError, GraphError
from adatom.core.traced_input import traced_input
from adatom.data.atomic_data import AtomicData
from adatom.models.base import Backbone, Neighborhood, NodeFeatures
from adatom.models.escn_block import EscnBlock
from adatom.models.escn_device import DeviceBackbone, device_unavailable
from adatom.models.escn_kernel.build import Kernel
from adatom.models.escn_kernel.kernel import CompiledBackbone, kernel_of
from adatom.models.escn_tiled import SharedInputs, tiled_features, tiled_unavailable
from adatom.nn.embeddings import ChargeSpinEmbedding, DatasetEmbedding
from adatom.nn.experts import (
    Run,
    expert_coefficients,
    expert_router,
    group_systems,
    known_norm,
    runs_of,
)
from adatom.nn.geometry import EdgeGeometry, ElementTypes, edge_geometry
from adatom.nn.initialization import linear
from adatom.nn.layout import CoefficientLayout
from adatom.nn.message_passing import EdgeDegreeEmbedding
from adatom.nn.norms import build_norm
from adatom.nn.segments import balance_channels, segment_sum
from adatom.nn.triton_messages import triton_serves


class eSCNMDBackbone(Backbone):  # noqa: N801 - the published name of the architecture
    """Equivariant message passing with convolutions in edge frames (eSCN-MD).

    Fu et al., "Learning smooth and expressive interatomic potentials" (eSEN, 2025); Wood et al.,
    "UMA" (2025) for the experts. Parameters have the names and shapes of the published
    checkpoints. Layer 0 of ``edges`` is the edge-degree embedding, block k uses ``edges[k + 1]``.

    Args:
        sphere_channels: C, channels of node features.
        lmax: Highest degree.
        mmax: Highest order in the edge convolutions.
        num_layers: Number of blocks.
        hidden_channels: H, channels inside blocks.
        edge_channels: Ce, width of the radial networks and element embeddings of edges.
        num_distance_basis: K, number of Gaussians.
        cutoff: In angstrom.
        max_neighbors: Limit used when the neighbor list is built, or None.
        max_num_elements: Atomic numbers must be below this.
        norm_type: ``"rms_norm_sh"``, ``"layer_norm_sh"`` or ``"layer_norm"``.
        act_type: ``"gate"`` (exactly equivariant) or ``"s2"`` (as far as its grid resolves).
        ff_type: ``"spectral"`` (exactly equivariant) or ``"grid"``.
        grid_resolution: Points per angle of the grids of ``"s2"`` and ``"grid"``; None takes the
            smallest that represents the coefficients.
        chg_spin_emb_type: ``"rand_emb"``, ``"pos_emb"`` or ``"lin_emb"``.
        dataset_list: Dataset names that data may carry.
        dataset_mapping: From dataset names to the names whose embedding they share; replaces
            ``dataset_list``.
        use_dataset_embedding: Whether the model knows the dataset; None means whenever names are
            given.
        num_experts: X; 0 makes a dense model.
        use_composition_embedding: Whether the experts' weights depend on the composition.
        expert_coefficient_norm: How the router's outputs become the weights of the experts:
            ``"softmax"`` or ``"pnorm"``, see :func:`adatom.nn.experts.expert_coefficients`.
        composition_mean_counts_zero: Divide the composition sum by n + 1 instead of n, as the
            published UMA-S-1.2 does.
        charge_balanced_channels: Consecutive invariant channels whose sum over a system is kept
            at its charge.
        spin_balanced_channels: The same for spin multiplicity minus one.

    Raises:
        ConfigError: If a number is out of range or options contradict each other.
        UnknownNameError: If a type is not known.
    """

    def __init__(
        self,
        sphere_channels: int = 64,
        lmax: int = 2,
        mmax: int = 2,
        num_layers: int = 2,
        hidden_channels: int = 64,
        edge_channels: int = 64,
        num_distance_basis: int = 32,
        cutoff: float = 6.0,
        max_neighbors: int | None = 300,
        max_num_elements: int = 100,
        norm_type: str = "rms_norm_sh",
        act_type: str = "gate",
        ff_type: str = "spectral",
        grid_resolution: int | None = None,
        chg_spin_emb_type: str = "rand_emb",
        dataset_list: list[str] | None = None,
        dataset_mapping: dict[str, str] | None = None,
        use_dataset_embedding: bool | None = None,
        num_experts: int = 0,
        use_composition_embedding: bool = True,
        expert_coefficient_norm: str = "softmax",
        composition_mean_counts_zero: bool = False,
        charge_balanced_channels: list[int] | None = None,
        spin_balanced_channels: list[int] | None = None,
    ) -> None:
        super().__init__()
        _check_sizes(
            sphere_channels=(sphere_channels, 1),
            num_layers=(num_layers, 1),
            hidden_channels=(hidden_channels, 1),
            edge_channels=(edge_channels, 1),
            num_distance_basis=(num_distance_basis, 2),
            num_experts=(num_experts, 0),
        )
        if not cutoff > 0:
            raise ConfigError(f"The cutoff is {cutoff}", expected="a positive length in angstrom")
        self.cutoff = float(cutoff)
        self.max_neighbors = max_neighbors
        self.max_num_elements = max_num_elements
        self.num_channels = sphere_channels
        self.hidden_channels = hidden_channels
        self.edge_channels = edge_channels
        self.norm_type, self.act_type, self.ff_type = norm_type, act_type, ff_type
        self.num_message_layers = num_layers + 1
        self.exchanges = True
        self.num_distance_basis = num_distance_basis
        self.layout = CoefficientLayout(lmax, mmax)
        self.expert_coefficient_norm = known_norm(expert_coefficient_norm)
        self.composition_mean_counts_zero = composition_mean_counts_zero
        self.charge_channels = _channel_range(charge_balanced_channels, sphere_channels)
        self.spin_channels = _channel_range(spin_balanced_channels, sphere_channels)

        self.sphere_embedding = nn.Embedding(max_num_elements, sphere_channels)
        self.source_embedding = nn.Embedding(max_num_elements, edge_channels)
        self.target_embedding = nn.Embedding(max_num_elements, edge_channels)
        self.charge_embedding = ChargeSpinEmbedding(chg_spin_emb_type, "charge", sphere_channels)
        self.spin_embedding = ChargeSpinEmbedding(chg_spin_emb_type, "spin", sphere_channels)
        mapping = dataset_mapping or {name: name for name in dataset_list or []}
        self.dataset_embedding = _dataset_embedding(sphere_channels, mapping, use_dataset_embedding)
        parts = 2 if self.dataset_embedding is None else 3
        self.mix_csd = linear(parts * sphere_channels, sphere_channels)
        self._build_router(sphere_channels, num_experts, use_composition_embedding)

        radial = (num_distance_basis, edge_channels)
        self.edge_degree_embedding = EdgeDegreeEmbedding(self.layout, sphere_channels, *radial)
        self.blocks = nn.ModuleList(
            EscnBlock(
                self.layout,
                sphere_channels,
                hidden_channels,
                radial=radial,
                norm_type=norm_type,
                act_type=act_type,
                ff_type=ff_type,
                num_experts=num_experts,
                grid_resolution=grid_resolution,
            )
            for _ in range(num_layers)
        )
        self.norm = build_norm(norm_type, sphere_channels, lmax)
        self._compiled: CompiledBackbone | DeviceBackbone | None = None

    def forward(self, data: AtomicData, edges: Sequence[Neighborhood]) -> NodeFeatures:
        """Compute node features; see :meth:`adatom.models.base.Backbone.forward`.

        Raises:
            GraphError: If ``edges`` has not one entry per message-passing layer.
            DataError: If an atomic number, charge or spin is outside the tables.
            UnknownNameError: If a dataset name is not known.
        """
        if len(edges) != self.num_message_layers:
            raise GraphError(
                f"{len(edges)} edge lists are given",
                expected=f"{self.num_message_layers}, one per message-passing layer",
            )
        self._check_elements(data)
        compiled = self._compiled_for(edges)
        if compiled is not None:
            return compiled.features(self, data, edges[0])
        system = self.embed_system(data)
        groups, coefficients = self.route(data, system, edges[0])
        types = self.element_types(edges[0].extended(data.atomic_numbers))
        per_atom = system[data.batch]
        staged = edges[0].rows is not None  # tiles compute all atoms in every layer
        if self.execution.mode == "tiled" and not staged and self.unavailable("tiled") is None:
            shared = SharedInputs(data, types, groups, coefficients, per_atom)
            return tiled_features(self, shared, edges)
        layout = self.layout if edges[1] is edges[0] else self.edge_degree_embedding.layout
        geometry = self.geometry(edges[0], types, groups, data, layout)
        features = self.embed(geometry, data, per_atom, edges[0])
        per_atom = edges[0].kept(per_atom)
        for k, block in enumerate(self.blocks):
            if edges[k + 1] is not edges[k]:
                geometry = self.geometry(edges[k + 1], types, groups, data)
            features = block(features, per_atom, edges[k + 1], geometry, coefficients)
            per_atom = edges[k + 1].kept(per_atom)
            features = self.balance(features, data, edges[k + 1])
        features = self.norm(features)
        return NodeFeatures(features[:, 0], features)

    def unavailable(self, mode: str) -> str | None:
        """Say why an execution mode cannot be had; see :class:`adatom.models.base.Execution`."""
        if mode == "compiled":
            if triton_serves(self.mix_csd.weight.device):
                return device_unavailable(self)
            found = kernel_of(self)
            return found if isinstance(found, str) else None
        return tiled_unavailable(self) if mode == "tiled" else super().unavailable(mode)

    def embed(
        self,
        geometry: EdgeGeometry,
        data: AtomicData,
        per_atom: torch.Tensor,
        edges: Neighborhood,
    ) -> torch.Tensor:
        """Return the first features ``[N, S, C]`` of atoms, their systems and their edges."""
        features = self.edge_degree_embedding(geometry)
        invariants = edges.kept(self.invariants(data, per_atom)).unsqueeze(1)
        return torch.cat([features[:, :1] + invariants, features[:, 1:]], dim=1)

    def invariants(self, data: AtomicData, per_atom: torch.Tensor) -> torch.Tensor:
        """Return what the invariant features start from, ``[N, C]``."""
        elements: torch.Tensor = self.sphere_embedding(data.atomic_numbers)
        return elements + per_atom

    def _compiled_for(
        self, edges: Sequence[Neighborhood]
    ) -> CompiledBackbone | DeviceBackbone | None:
        """Return compiled kernels with the present weights, or None where they are of no use."""
        if self.execution.mode != "compiled" or any(layer is not edges[0] for layer in edges):
            return None
        if not edges[0].source.shape[0] and triton_serves(self.mix_csd.weight.device):
            # Kernels on a GPU need edges. Plain autograd makes the same exchanges in their order.
            return None
        if self._compiled is None or not self._compiled.is_current():
            self._compiled = self._compile()
        return self._compiled

    def _compile(self) -> CompiledBackbone | DeviceBackbone | None:
        if triton_serves(self.mix_csd.weight.device):
            return DeviceBackbone(self) if device_unavailable(self) is None else None
        kernel = kernel_of(self)
        frozen = not any(p.requires_grad for p in self.parameters())
        return CompiledBackbone(self, kernel) if isinstance(kernel, Kernel) and frozen else None

    def _build_router(self, channels: int, num_experts: int, use_composition: bool) -> None:
        self.routing_mlp: nn.Sequential | None = None
        self.composition_embedding: nn.Embedding | None = None
        if not num_experts:
            return
        if use_composition:
            self.composition_embedding = nn.Embedding(self.max_num_elements, channels)
        self.routing_mlp = expert_router(channels * (2 if use_composition else 1), num_experts)

    def embed_system(self, data: AtomicData) -> torch.Tensor:
        """Return the embedding of charge, spin and dataset ``[B, C]``."""
        parts = [
            self.charge_embedding(data.charge, data.sid),
            self.spin_embedding(data.spin, data.sid),
        ]
        if self.dataset_embedding is not None:
            parts.append(self.dataset_embedding(data.dataset))
        return nn.functional.silu(self.mix_csd(torch.cat(parts, dim=1)))

    def route(
        self, data: AtomicData, system: torch.Tensor, edges: Neighborhood | None = None
    ) -> tuple[list[int] | None, torch.Tensor | None]:
        """Return each system's weight group, and the expert coefficients ``[G, X]`` of groups.

        Args:
            data: The batch.
            system: ``[B, C]`` embedding of charge, spin and dataset.
            edges: What connects the atoms here with those elsewhere; None if all are here.
        """
        if self.routing_mlp is None:
            return None, None
        columns = [data.charge.unsqueeze(1), data.spin.unsqueeze(1)]
        if self.dataset_embedding is not None:
            indices = self.dataset_embedding.indices(data.dataset)
            columns.append(torch.tensor(indices, device=data.charge.device).unsqueeze(1))
        if self.composition_embedding is not None:
            counts = columns[0].new_zeros(data.num_systems * self.max_num_elements)
            cell = data.batch * self.max_num_elements + data.atomic_numbers
            counts = counts.index_add(0, cell, torch.ones_like(cell))
            counts = counts if edges is None else edges.total(counts)
            columns.append(counts.view(data.num_systems, self.max_num_elements))
            each = self.composition_embedding(data.atomic_numbers)
            total = segment_sum(each, data.batch, data.num_systems)
            total = total if edges is None else edges.total(total)
            natoms = data.natoms + int(self.composition_mean_counts_zero)
            system = torch.cat([total / natoms.to(total.dtype).unsqueeze(1), system], dim=1)
        groups, first = group_systems(torch.cat(columns, dim=1))
        logits = self.routing_mlp(system[first])
        return groups, expert_coefficients(logits, self.expert_coefficient_norm)

    def element_types(self, numbers: torch.Tensor) -> ElementTypes:
        """Number the elements of atoms with these atomic numbers."""
        known = traced_input()
        if known is None:
            elements, of_atom = torch.unique(numbers, return_inverse=True)
        else:
            elements = numbers.new_tensor(known.elements)
            numbering = elements.new_zeros(self.max_num_elements)
            numbering = numbering.index_copy(0, elements, torch.arange(len(known.elements)))
            of_atom = numbering.index_select(0, numbers)
        return ElementTypes(
            of_atom, self.source_embedding(elements), self.target_embedding(elements)
        )

    def geometry(
        self,
        edges: Neighborhood,
        types: ElementTypes,
        groups: list[int] | None,
        data: AtomicData,
        layout: CoefficientLayout | None = None,
    ) -> EdgeGeometry:
        """Return what layers on these edges need in general execution.

        Args:
            edges: Of the layers.
            types: Elements of the rows that ``edges.source`` numbers.
            groups: Weight group of each system, or None without experts.
            data: The batch.
            layout: Orders that the layers take, if fewer than the blocks.
        """
        edge_runs, atom_runs = self.runs(edges, groups, data)
        return edge_geometry(
            edges.source,
            edges.target,
            edges.vectors,
            layout=layout or self.layout,
            cutoff=self.cutoff,
            num_basis=self.num_distance_basis,
            types=types,
            num_atoms=data.num_atoms if edges.rows is None else edges.rows,
            edge_runs=edge_runs,
            atom_runs=atom_runs,
        )

    def runs(
        self, edges: Neighborhood, groups: list[int] | None, data: AtomicData
    ) -> tuple[list[Run], list[Run]]:
        """Return the edges and the atoms that share expert weights."""
        if traced_input() is not None:
            return [], []  # one system: all share the same
        if groups is None:
            groups = [0] * data.num_systems
        # Of several workers on one system, each has some of its atoms.
        rows = data.natoms.tolist() if edges.halo is None else [data.num_atoms]
        return runs_of(groups, edges.counts.tolist()), runs_of(groups, rows)

    @property
    def balances(self) -> bool:
        """Whether sums of channels over a system are kept at its charge or spin."""
        return self.charge_channels is not None or self.spin_channels is not None

    def balance(
        self, features: torch.Tensor, data: AtomicData, edges: Neighborhood | None = None
    ) -> torch.Tensor:
        """Keep the sums of channels that are balanced; ``edges`` as for :meth:`route`."""
        total = None if edges is None else edges.total
        for channels, totals in self._balanced(data):
            features = balance_channels(features, channels, totals, data.batch, data.natoms, total)
        return features

    def balance_adjoint(
        self, gradient: torch.Tensor, data: AtomicData, edges: Neighborhood | None = None
    ) -> torch.Tensor:
        """Return the gradient before :meth:`balance`, a projection but for the wanted sums."""
        total = None if edges is None else edges.total
        for channels, totals in reversed(self._balanced(data)):
            gradient = balance_channels(
                gradient, channels, torch.zeros_like(totals), data.batch, data.natoms, total
            )
        return gradient

    def _balanced(self, data: AtomicData) -> list[tuple[slice, torch.Tensor]]:
        """Return channels and the sums they shall have, ``[B]``."""
        wanted = []
        if self.charge_channels is not None:
            wanted.append((self.charge_channels, data.charge))
        if self.spin_channels is not None:
            wanted.append((self.spin_channels, self.spin_embedding.effective(data.spin) - 1))
        return wanted

    def _check_elements(self, data: AtomicData) -> None:
        if traced_input() is not None:
            return
        numbers = data.atomic_numbers
        outside = (numbers < 1) | (numbers >= self.max_num_elements)
        if bool(outside.any()):
            atom = int(outside.nonzero()[0])
            raise DataError(
                f"Structure {data.sid[int(data.batch[atom])]!r} has atomic number "
                f"{int(numbers[atom])}",
                expected=f"1 to {self.max_num_elements - 1}",
            )


def _check_sizes(**sizes: tuple[int, int]) -> None:
    for name, (value, least) in sizes.items():
        if value < least:
            raise ConfigError(f"{name} is {value}", expected=f"at least {least}")


def _dataset_embedding(
    channels: int, mapping: dict[str, str], use: bool | None
) -> DatasetEmbedding | None:
    """Return the embedding of the mapped names, or None if there are none or it is not wanted."""
    if use and not mapping:
        raise ConfigError(
            "use_dataset_embedding is true, but no dataset names are given",
            fix="Give dataset_list or dataset_mapping.",
        )
    return DatasetEmbedding(channels, mapping) if mapping and use is not False else None


def _channel_range(channels: list[int] | None, available: int) -> slice | None:
    """Return the consecutive channels as a slice, or None if there are none."""
    if not channels:
        return None
    first, last = channels[0], channels[-1]
    if channels != list(range(first, last + 1)) or first < 0 or last >= available:
        raise ConfigError(
            f"Balanced channels {channels}",
            expected=f"consecutive channel numbers from 0 to {available - 1}",
        )
    return slice(first, last + 1)
