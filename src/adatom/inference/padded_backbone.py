"""A backbone behind padding, so that what is prepared for one shape serves many inputs."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from adatom.data.atomic_data import AtomicData
from adatom.inference.buckets import bucket, pad_edges
from adatom.models.base import Backbone, Neighborhood, NodeFeatures


class PaddedBackbone(Backbone):
    """Stands in for a backbone and shares its weights.

    Where the input or the execution does not fit, and after a failure, the backbone itself
    computes. The execution ``"general"`` (for Hessians) is always its own.

    Args:
        backbone: Frozen, in evaluation mode.

    Attributes:
        backbone: The same.
        reason: Why the backbone itself computes, after a failure; else None.
    """

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        self.cutoff = backbone.cutoff
        self.max_neighbors = backbone.max_neighbors
        self.num_message_layers = backbone.num_message_layers
        self.num_channels = backbone.num_channels
        self.max_num_elements = backbone.max_num_elements
        self.reflection_invariant = backbone.reflection_invariant
        self.execution = backbone.execution
        self.reason: str | None = None

    def unavailable(self, mode: str) -> str | None:
        """Say why an execution mode cannot be had; see :class:`adatom.models.base.Backbone`."""
        return self.backbone.unavailable(mode)

    def forward(self, data: AtomicData, edges: Sequence[Neighborhood]) -> NodeFeatures:
        """Compute node features; see :meth:`adatom.models.base.Backbone.forward`."""
        self.backbone.execution = self.execution
        own = edges[0]
        shared = all(other is own for other in edges)
        if self.execution.mode == "general" or self.reason or not shared or not self.fits(data):
            features: NodeFeatures = self.backbone(data, edges)
            return features
        return self.padded(data, pad_edges(own, data.batch, bucket(len(own.source)), self.cutoff))

    @abstractmethod
    def fits(self, data: AtomicData) -> bool:
        """Tell whether a batch can take the prepared path."""

    @abstractmethod
    def padded(self, data: AtomicData, edges: Neighborhood) -> NodeFeatures:
        """Compute node features on the prepared path, or give :attr:`reason` and fall back."""
