"""The eSCN-MD backbone with frozen weights on a GPU, with Triton kernels for everything per edge.

All that depends on elements, charges, spins and datasets is computed once and remembered; a call
takes the edges of a step to features. If one tile holds all edges and all systems share their
expert weights, a call reads nothing back from the device, so that small systems are recorded as
CUDA graphs. Not run on a GPU yet: see :mod:`adatom.nn.triton_messages`.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch

from adatom.core.errors import ConfigError
from adatom.data.atomic_data import AtomicData
from adatom.models.base import Neighborhood, NodeFeatures
from adatom.models.escn_block import EscnBlock
from adatom.models.escn_graphs import MAX_ATOMS, MAX_EDGES, Recorder, Recordings, record
from adatom.models.escn_tiled import tiled_unavailable
from adatom.nn.device_degrees import degree_messages
from adatom.nn.experts import Run, runs_of
from adatom.nn.message_passing import DEGREE_RESCALE
from adatom.nn.message_tiles import MessageTile, message_tiles
from adatom.nn.message_weights import message_weights, radial_function
from adatom.nn.prepared_weights import PreparedWeights, weight_versions
from adatom.nn.triton_messages import MessageWeights, triton_messages, unavailable

if TYPE_CHECKING:
    from adatom.models.escn_md import eSCNMDBackbone

#: Different batches that are remembered, with their merged expert weights and recordings.
_MAX_BATCHES = 4
#: What the preparation of a batch depends on, besides the datasets.
_IDENTITY = ("atomic_numbers", "natoms", "charge", "spin")


def device_unavailable(backbone: eSCNMDBackbone) -> str | None:
    """Say in one sentence why a backbone cannot be prepared like this, or None if it can."""
    reason = unavailable(next(backbone.parameters()).device)
    return reason or tiled_unavailable(backbone)


class DeviceBackbone:
    """The kernels with the weights of one backbone, which must stay as they are.

    Args:
        backbone: For which :func:`device_unavailable` is None.
        recorder: What records small systems; None records nothing.
    """

    def __init__(self, backbone: eSCNMDBackbone, recorder: Recorder | None = None) -> None:
        self._parameters = list(backbone.parameters())
        self._versions = weight_versions(self._parameters)
        if recorder is None and self._parameters[0].is_cuda:
            recorder = record
        self._recorder = recorder
        self._prepared: list[PreparedEscn] = []
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle as None: a copy prepares its own."""
        return type(None), ()

    def is_current(self) -> bool:
        """Tell whether the backbone's weights are still those that were prepared."""
        return self._versions == weight_versions(self._parameters)

    def features(
        self, backbone: eSCNMDBackbone, data: AtomicData, edges: Neighborhood
    ) -> NodeFeatures:
        """Return the node features, which can be differentiated once to the edge vectors.

        Args:
            backbone: The one that this was made from.
            data: The systems.
            edges: The same for every layer.
        """
        elsewhere = None if edges.halo is None else Elsewhere.of(backbone, data, edges)
        with self._lock:
            known = (p for p in self._prepared if p.serves(backbone, data, elsewhere))
            prepared = next(known, None)
            if prepared is None:
                prepared = PreparedEscn(backbone, data, elsewhere)
                if self._recorder is not None and prepared.recordable():
                    prepared.record_with(self._recorder)
            else:
                self._prepared.remove(prepared)
            self._prepared = [*self._prepared[1 - _MAX_BATCHES :], prepared]
            return prepared.features(edges)


class Elsewhere(NamedTuple):
    """What depends on the atoms of other workers too.

    Attributes:
        numbers: ``[N + H]`` atomic numbers of own atoms and of the halo.
        groups: Weight group of each system, or None without experts.
        coefficients: ``[G, X]`` expert coefficients, or None.
    """

    numbers: torch.Tensor
    groups: list[int] | None
    coefficients: torch.Tensor | None

    @classmethod
    def of(cls, backbone: eSCNMDBackbone, data: AtomicData, edges: Neighborhood) -> Elsewhere:
        """Ask the other workers, all of which come here in every call."""
        with torch.inference_mode(mode=False), torch.no_grad():
            routed = backbone.route(data, backbone.embed_system(data), edges)
            return cls(edges.extended(data.atomic_numbers), *routed)

    def same(self, other: Elsewhere | None) -> bool:
        """Tell whether nothing has changed."""
        if other is None or not torch.equal(self.numbers, other.numbers):
            return False
        if self.coefficients is None or other.coefficients is None:
            return self.coefficients is other.coefficients
        return torch.equal(self.coefficients, other.coefficients)


class PreparedEscn:
    """From the edges of a batch to node features; the same numbers as the backbone to rounding.

    Values and first derivatives with respect to edge vectors; a second derivative raises.

    Args:
        backbone: Frozen. Its weights must not change afterwards.
        data: The batch; its positions and edges are not used.
        elsewhere: Where other workers have parts of the system, what depends on them.

    Raises:
        ConfigError: If :func:`device_unavailable` gives a reason.
    """

    def __init__(
        self, backbone: eSCNMDBackbone, data: AtomicData, elsewhere: Elsewhere | None = None
    ) -> None:
        reason = device_unavailable(backbone)
        if reason is not None:
            raise ConfigError(reason, fix="Choose another execution mode.")
        self._backbone = backbone
        self._execution = backbone.execution
        # Copies, because the caller may change theirs in place.
        own = {name: getattr(data, name).clone() for name in (*_IDENTITY, "batch")}
        self._data = data = replace(data, edges=None, dataset=list(data.dataset), **own)
        self._elsewhere = elsewhere
        self._recordings: Recordings | None = None
        with torch.inference_mode(mode=False), torch.no_grad():
            system = backbone.embed_system(data)
            if elsewhere is None:
                elsewhere = Elsewhere(data.atomic_numbers, *backbone.route(data, system))
            numbers, groups, coefficients = elsewhere
            self._types = backbone.element_types(numbers)
            self._per_atom = system[data.batch]
            self._invariants = backbone.invariants(data, self._per_atom).unsqueeze(1)
            self._runs = [Run(0, 0, data.num_atoms)]
            if groups is not None and data.num_systems > 1:
                self._runs = runs_of(groups, data.natoms.tolist())
            self._blocks = [cast("EscnBlock", block) for block in backbone.blocks]
            self._weights: list[MessageWeights] = [
                message_weights(block.edge_wise, coefficients, PreparedWeights())
                for block in self._blocks
            ]

    def serves(
        self, backbone: eSCNMDBackbone, data: AtomicData, elsewhere: Elsewhere | None = None
    ) -> bool:
        """Tell whether this is what was prepared: the same systems, to be computed alike."""
        if elsewhere is not None and not elsewhere.same(self._elsewhere):
            return False
        return (
            (elsewhere is None) == (self._elsewhere is None)
            and self._backbone is backbone
            and self._execution == backbone.execution
            and self._data.dataset == data.dataset
            and all(torch.equal(getattr(self._data, n), getattr(data, n)) for n in _IDENTITY)
        )

    def recordable(self) -> bool:
        """Tell whether this is one small system, and nothing is read back from the device."""
        if self._backbone.ff_type == "grid":  # copies a table in each call
            return False
        if self._elsewhere is not None:  # exchanges with other workers are no part of a recording
            return False
        if (self._execution.edges_per_tile or MAX_EDGES) < MAX_EDGES:  # tiles are cut on the host
            return False
        return self._data.num_systems == 1 and self._data.num_atoms <= MAX_ATOMS

    def record_with(self, recorder: Recorder) -> None:
        """Record numbers of edges that come again."""
        self._recordings = Recordings(self, self._data.batch, self._backbone.cutoff, recorder)

    def features(self, edges: Neighborhood) -> NodeFeatures:
        """Compute node features, from a recording where there is one.

        Args:
            edges: Of all layers.
        """
        return self(edges) if self._recordings is None else self._recordings.features(edges)

    def __call__(self, edges: Neighborhood) -> NodeFeatures:
        """Compute node features.

        Args:
            edges: Of all layers.
        """
        backbone, execution = self._backbone, self._execution
        tiles = message_tiles(
            edges.source,
            edges.target,
            self._runs,
            self._data.num_atoms,
            execution.edges_per_tile,
            self._types.of_atom.shape[0],
        )
        features = self._embed(edges, tiles)
        left = execution.kept_bytes // max(len(self._blocks), 1)
        for block, weights in zip(self._blocks, self._weights, strict=True):
            network = block.edge_wise.so2_conv_1.rad_func
            radial = radial_function(network, self._pairs(edges), self._types[1:], backbone.cutoff)
            seen = edges.extended(block.normed(features, self._per_atom))
            messages = triton_messages(seen, edges.vectors, tiles, weights, radial, kept_bytes=left)
            features = block.update_atoms(features + messages[: self._data.num_atoms])
            features = backbone.balance(features, self._data, edges)
        features = backbone.norm(features)
        return NodeFeatures(features[:, 0], features)

    def _pairs(self, edges: Neighborhood) -> torch.Tensor:
        return self._types.pairs(edges.source, edges.target)

    def _embed(self, edges: Neighborhood, tiles: list[MessageTile]) -> torch.Tensor:
        """Return the first features, ``[N, S, C]``."""
        backbone = self._backbone
        network = backbone.edge_degree_embedding.rad_func
        radial = radial_function(network, self._pairs(edges), self._types[1:], backbone.cutoff)
        degrees = degree_messages(network, backbone.layout, edges.vectors, tiles, radial)
        degrees = degrees / DEGREE_RESCALE
        return torch.cat([degrees[:, :1] + self._invariants, degrees[:, 1:]], dim=1)
