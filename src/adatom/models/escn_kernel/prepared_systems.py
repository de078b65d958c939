"""What the kernel needs to know of the systems, and all weights in the order it reads them."""

from __future__ import annotations

import ctypes
import threading
from collections import OrderedDict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from adatom.data.atomic_data import AtomicData
from adatom.models.base import Neighborhood
from adatom.models.escn_kernel.build import Kernel
from adatom.models.escn_kernel.expert_cache import ExpertCache, Layers
from adatom.models.escn_kernel.packing import (
    bias_of,
    convolution_weights,
    element_table,
    feed_forward_weights,
    norm_weights,
    radial_weights,
    rotation_constants,
    table_weights,
)
from adatom.models.escn_kernel.problem import Systems
from adatom.models.escn_kernel.radial_tables import RadialTable, radial_tables
from adatom.nn.geometry import ElementTypes
from adatom.nn.radial import RadialMLP

if TYPE_CHECKING:
    from adatom.models.escn_block import EscnBlock
    from adatom.models.escn_md import eSCNMDBackbone

#: Radial tables are made for at most this many pairs of elements, and only after this many edges
#: per pair: making one costs as much as it saves on about so many.
_MAX_PAIRS = 16
_WORTH = 10_000
#: In place of the number of edges once that was decided.
_SETTLED = -(2**62)
#: Different sets of systems that are remembered.
_MAX_SYSTEMS = 8


class _Elsewhere(NamedTuple):
    """What depends on the atoms of other workers too.

    Attributes:
        numbers: ``[N + H]`` atomic numbers of own atoms and of the halo.
        routed: Weight groups and expert coefficients of the systems, or None where all is here.
    """

    numbers: torch.Tensor
    routed: tuple[list[int] | None, torch.Tensor | None] | None

    def key(self) -> bytes:
        """Return what tells coefficients apart."""
        coefficients = self.routed[1] if self.routed else None
        return b"" if coefficients is None else coefficients.numpy().tobytes()


class PreparedSystems:
    """Remembers what depends on the systems only, from call to call.

    Args:
        backbone: With frozen weights, which must stay as they are.
        kernel: For the backbone's dtype.
    """

    def __init__(self, backbone: eSCNMDBackbone, kernel: Kernel) -> None:
        self._kernel = kernel
        self._blocks: list[EscnBlock] = list(backbone.blocks)  # type: ignore[arg-type]
        self._experts = ExpertCache(self._packed_experts)
        self._constants = list(rotation_constants(backbone.layout.lmax, kernel.dtype))
        self._feed_forward = [
            [tensor.contiguous() for tensor in feed_forward_weights(block, kernel.panel)]
            for block in self._blocks
        ]
        self._known: OrderedDict[tuple[Any, ...], tuple[Systems, int]] = OrderedDict()
        self._lock = threading.Lock()

    def of(
        self, backbone: eSCNMDBackbone, data: AtomicData, edges: Neighborhood, num_edges: int
    ) -> Systems:
        """Return what the kernel needs of these systems.

        Args:
            backbone: The one that this was made from.
            data: The systems.
            edges: Connect them with what other workers have.
            num_edges: Of this call, as far as they count; when the same systems have had many,
                radial networks are replaced by tables (float32 only; equal to rounding).
        """
        known = _Elsewhere(data.atomic_numbers, None)
        if edges.halo is not None:
            # All workers have to come here in every call, whatever each one remembers.
            routed = backbone.route(data, backbone.embed_system(data), edges)
            known = _Elsewhere(edges.extended(data.atomic_numbers), routed)
        arrays = (data.atomic_numbers, known.numbers, data.natoms, data.charge, data.spin)
        key = (*(array.numpy().tobytes() for array in arrays), tuple(data.dataset), known.key())
        with self._lock:
            systems, seen = self._known.get(key, (None, 0))
            seen += num_edges
            if systems is None:
                systems = self._prepare(backbone, data, known, None)
            if seen >= _WORTH * systems.num_types**2:
                systems, seen = self._with_tables(backbone, data, known, systems), _SETTLED
            self._known[key] = (systems, seen)
            self._known.move_to_end(key)
            while len(self._known) > _MAX_SYSTEMS:
                self._known.popitem(last=False)
        return systems

    def _packed_experts(self, coefficients: torch.Tensor | None) -> list[Layers]:
        layers = [
            convolution_weights(block, coefficients, self._kernel.panel) for block in self._blocks
        ]
        return [list(group) for group in zip(*layers, strict=True)]

    def _with_tables(
        self, backbone: eSCNMDBackbone, data: AtomicData, elsewhere: _Elsewhere, systems: Systems
    ) -> Systems:
        """Replace radial networks by tables, where they are as exact in the present dtype."""
        if self._kernel.dtype != torch.float32 or systems.num_types**2 > _MAX_PAIRS:
            return systems
        types = backbone.element_types(elsewhere.numbers)
        tables = []
        for net in self._radial_networks(backbone):
            own = radial_tables(net, backbone.cutoff, types.source_features, types.target_features)
            if own is None:
                return systems
            tables.append(own)
        # They take several MB per pair: only the latest systems have them.
        for key in [key for key, (known, _) in self._known.items() if known.ranks.numel()]:
            del self._known[key]
        return self._prepare(backbone, data, elsewhere, tables)

    def _radial_networks(self, backbone: eSCNMDBackbone) -> list[RadialMLP]:
        convolutions = [block.edge_wise.so2_conv_1 for block in self._blocks]
        return [backbone.edge_degree_embedding.rad_func, *(conv.rad_func for conv in convolutions)]

    def _prepare(
        self,
        backbone: eSCNMDBackbone,
        data: AtomicData,
        elsewhere: _Elsewhere,
        tables: list[list[RadialTable]] | None,
    ) -> Systems:
        embeddings = backbone.embed_system(data)
        groups, coefficients = elsewhere.routed or backbone.route(data, embeddings)
        merged = self._experts.get(coefficients)
        elements = backbone.element_types(elsewhere.numbers)
        tensors = [
            t.detach().contiguous() for t in self._in_order(backbone, elements, merged, tables)
        ]
        of_system = torch.zeros(data.num_systems) if groups is None else torch.tensor(groups)
        dtype = self._kernel.dtype
        ranks = [[table.rank for table in own] for own in tables or []]
        return Systems(
            types=elements.of_atom,
            num_types=elements.source_features.shape[0],
            group=of_system.to(torch.int32)[data.batch],
            num_groups=len(merged),
            system=data.batch.to(torch.int32),
            invariants=backbone.invariants(data, embeddings[data.batch]).contiguous(),
            embeddings=embeddings.contiguous(),
            charge=data.charge.to(dtype),
            spin=backbone.spin_embedding.effective(data.spin).to(dtype),
            all_atoms=int(data.natoms.sum()),
            ranks=torch.tensor(ranks, dtype=torch.int32),
            weights=(ctypes.c_void_p * len(tensors))(*(t.data_ptr() for t in tensors)),
            tensors=tensors,
        )

    def _in_order(
        self,
        backbone: eSCNMDBackbone,
        elements: ElementTypes,
        merged: list[Layers],
        tables: list[list[RadialTable]] | None,
    ) -> Iterator[torch.Tensor]:
        """Yield all weights as the kernel reads them."""
        panel = self._kernel.panel
        features = (elements.source_features, elements.target_features)
        radial = [
            [
                *radial_weights(net, element_table(net, *features), panel),
                *(table_weights(tables[k], panel) if tables else ()),
            ]
            for k, net in enumerate(self._radial_networks(backbone))
        ]
        yield from self._constants
        yield from radial[0]
        for k, block in enumerate(self._blocks):
            yield from norm_weights(block.norm_1)
            yield from radial[k + 1]
            yield bias_of(block.edge_wise.so2_conv_1.fc_m0)
            yield bias_of(block.edge_wise.so2_conv_2.fc_m0)
            for group in merged:
                yield from group[k]
            yield from self._feed_forward[k]
        yield from norm_weights(backbone.norm)
