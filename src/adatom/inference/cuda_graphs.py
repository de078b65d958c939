"""Small systems on a GPU: the launches of a whole backbone recorded once and replayed.

Below about a hundred atoms a GPU waits for the launches of kernels. A CUDA graph replays them at
once, for fixed shapes: edges are padded to buckets, and the composition is part of the key.

Tested on a CPU with a stand-in for the recording; recording itself has not been run on a GPU yet.
It needs a backbone that reads nothing back from the device in its forward pass.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch

from adatom.core.errors import ConfigError
from adatom.data.atomic_data import AtomicData
from adatom.inference.padded_backbone import PaddedBackbone
from adatom.models.base import Backbone, Neighborhood, NodeFeatures

Tensors = tuple[torch.Tensor, ...]
Function = Callable[..., Tensors]
#: From a function of tensors and example arguments to one that does the same for these shapes.
Recorder = Callable[[Function, Tensors], Function]

#: Recordings kept, newest last; each holds the memory of its intermediates.
_MAX_RECORDINGS = 4


def record(function: Function, examples: Tensors) -> Function:
    """Record a function and its gradient as CUDA graphs; see :class:`GraphedBackbone`.

    Raises:
        ConfigError: If the arguments are not on a CUDA device.
    """
    if examples[0].device.type != "cuda":
        raise ConfigError(
            f"CUDA graphs were asked for on {examples[0].device}", expected="a CUDA device"
        )
    return cast("Function", torch.cuda.make_graphed_callables(function, examples))


@dataclass(frozen=True)
class _Recording:
    """What was recorded and for which batch.

    Attributes:
        data: The batch; its composition, charges, spins and datasets went into the recording.
        replay: From vectors, source and target to features.
    """

    data: AtomicData
    replay: Function

    def serves(self, data: AtomicData) -> bool:
        mine = self.data
        return mine.dataset == data.dataset and all(
            torch.equal(a, b)
            for a, b in (
                (mine.atomic_numbers, data.atomic_numbers),
                (mine.charge, data.charge),
                (mine.spin, data.spin),
            )
        )


class GraphedBackbone(PaddedBackbone):
    """A backbone whose forward and backward passes are replayed for single small systems.

    Args:
        backbone: Frozen, in evaluation mode, on a CUDA device.
        max_atoms: Larger systems are computed as usual: their launches do not matter.
        recorder: What records; the default is :func:`record`.
    """

    def __init__(
        self, backbone: Backbone, max_atoms: int = 200, recorder: Recorder = record
    ) -> None:
        super().__init__(backbone)
        self.max_atoms = max_atoms
        self._recorder = recorder
        self._recordings: OrderedDict[tuple[object, ...], _Recording] = OrderedDict()

    def fits(self, data: AtomicData) -> bool:
        """Tell whether this is one small system."""
        return data.num_systems == 1 and data.num_atoms <= self.max_atoms

    def padded(self, data: AtomicData, edges: Neighborhood) -> NodeFeatures:
        """Replay a recording, after making it if there is none; without gradients as usual."""
        vectors = edges.vectors
        if not (vectors.requires_grad and torch.is_grad_enabled()):
            return self._plain(data, edges)
        key = (len(edges.source), data.num_atoms, vectors.dtype, vectors.device, self.execution)
        found = self._recordings.get(key)
        if found is None or not found.serves(data):
            try:
                found = _Recording(data, self._record(data, edges))
            except RuntimeError as error:
                first = str(error).splitlines()[0]
                self.reason = f"The backbone cannot be recorded as a CUDA graph: {first}"
                return self._plain(data, edges)
            self._recordings[key] = found
            while len(self._recordings) > _MAX_RECORDINGS:
                self._recordings.popitem(last=False)
        self._recordings.move_to_end(key)
        # The next replay overwrites the memory of this one.
        out = [x.clone() for x in found.replay(vectors, edges.source, edges.target)]
        return NodeFeatures(out[0], out[1] if len(out) > 1 else None)

    def _plain(self, data: AtomicData, edges: Neighborhood) -> NodeFeatures:
        features: NodeFeatures = self.backbone(data, [edges] * self.num_message_layers)
        return features

    def _record(self, data: AtomicData, edges: Neighborhood) -> Function:
        counts, layers = edges.counts.clone(), self.num_message_layers
        backbone = self.backbone

        def compute(vectors: torch.Tensor, source: torch.Tensor, target: torch.Tensor) -> Tensors:
            own = Neighborhood(source, target, vectors, counts)
            features = backbone(data, [own] * layers)
            both = (features.scalars, features.spherical)
            return tuple(x for x in both if x is not None)

        vectors = edges.vectors.detach().clone().requires_grad_()
        return self._recorder(compute, (vectors, edges.source.clone(), edges.target.clone()))
