"""A backbone through ``torch.compile``: one compilation for a whole run, compared before use.

Only for backbones that PyTorch can trace as a whole. eSCN-MD is not one: it decides on the host how
edges are grouped, and its own kernels do more. The first call takes one to several minutes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from adatom.data.atomic_data import AtomicData
from adatom.inference.padded_backbone import PaddedBackbone
from adatom.models.base import Backbone, Neighborhood, NodeFeatures

#: Largest difference from the plain computation, relative to the largest number.
_TOLERANCES = {torch.float64: 1e-10, torch.float32: 1e-4}

Traced = Callable[[AtomicData, list[Neighborhood]], NodeFeatures]


class CompiledBackbone(PaddedBackbone):
    """A backbone compiled once for all sizes; edges are padded to buckets.

    The first result and its gradient are compared with the plain computation. If they differ, or
    the compiler fails, the backbone itself is used from then on and :attr:`reason` says why.

    Args:
        backbone: Frozen, in evaluation mode.
    """

    def __init__(self, backbone: Backbone) -> None:
        super().__init__(backbone)

        # A function, because what is returned for a module would be a second child module.
        def compute(data: AtomicData, edges: list[Neighborhood]) -> NodeFeatures:
            features: NodeFeatures = backbone(data, edges)
            return features

        self._traced: Traced = torch.compile(compute, dynamic=True, fullgraph=True)
        self._checked = False

    def fits(self, data: AtomicData) -> bool:
        """Tell whether there are atoms: compilers specialize on none and on one."""
        return data.num_atoms > 1

    def padded(self, data: AtomicData, edges: Neighborhood) -> NodeFeatures:
        """Compute with the compiled code, which is compared the first time."""
        if not self._checked:
            self._checked = True
            self.reason = self._difference(data, edges)
        compute = self.backbone if self.reason else self._traced
        features: NodeFeatures = compute(data, [edges] * self.num_message_layers)
        return features

    def _difference(self, data: AtomicData, edges: Neighborhood) -> str | None:
        """Say why the compiled code cannot be used, or None if it can."""
        try:
            found = self._gradient(self._traced, data, edges)
        # Compilers raise anything, from errors of their own to those of the C++ compiler.
        except Exception as error:  # noqa: BLE001
            first = (str(error).strip().splitlines() or [""])[0]
            return f"torch.compile failed: {type(error).__name__}: {first}"
        expected = self._gradient(self.backbone, data, edges)
        tolerance = _TOLERANCES.get(edges.vectors.dtype, 1e-2)
        for a, b in zip(found, expected, strict=True):
            difference = float((a - b).abs().max()) / max(float(b.abs().max()), 1e-30)
            if not difference <= tolerance:
                return f"The compiled code differs from the plain computation by {difference:.1e}."
        return None

    def _gradient(
        self, compute: Traced, data: AtomicData, edges: Neighborhood
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return scalar features and the gradient of the sum of their squares."""
        with torch.enable_grad():
            vectors = edges.vectors.detach().clone().requires_grad_()
            own = Neighborhood(edges.source, edges.target, vectors, edges.counts)
            scalars = compute(data, [own] * self.num_message_layers).scalars
            (gradient,) = torch.autograd.grad(scalars.square().sum(), vectors)
        return scalars.detach(), gradient
