"""Node features of an eSCN-MD backbone from the compiled kernel."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

import torch

from adatom.data.atomic_data import AtomicData
from adatom.models.base import Neighborhood, NodeFeatures
from adatom.models.escn_kernel.build import Kernel, kernel_for
from adatom.models.escn_kernel.call import Call, CompiledFeatures
from adatom.models.escn_kernel.prepared_systems import PreparedSystems
from adatom.models.escn_kernel.problem import Problem, edge_arrays
from adatom.nn.prepared_weights import weight_versions

if TYPE_CHECKING:
    from adatom.models.escn_md import eSCNMDBackbone

#: What the kernel computes; anything else goes through PyTorch.
_OPTIONS = {"norm_type": "rms_norm_sh", "act_type": "gate", "ff_type": "spectral"}


def kernel_of(backbone: eSCNMDBackbone) -> Kernel | str:
    """Return the kernel for a backbone, or one sentence that says why there is none."""
    for option, known in _OPTIONS.items():
        if getattr(backbone, option) != known:
            return (
                f"The compiled kernel has {option} = {known!r} only, and this model has "
                f"{getattr(backbone, option)!r}."
            )
    weight = backbone.mix_csd.weight
    if weight.device.type != "cpu":
        return f"The compiled kernel runs on the CPU, and this model is on {weight.device}."
    kernel = kernel_for(weight.dtype)
    if isinstance(kernel, Kernel) and backbone.layout.lmax > kernel.max_degree:
        return f"The compiled kernel has degrees up to {kernel.max_degree} only."
    return kernel


class CompiledBackbone:
    """The kernel with the weights of one backbone, which must stay as they are.

    Args:
        backbone: With frozen weights, gates, spectral feed-forward and RMS norms.
        kernel: For the backbone's dtype.
    """

    def __init__(self, backbone: eSCNMDBackbone, kernel: Kernel) -> None:
        self.kernel = kernel
        self._systems = PreparedSystems(backbone, kernel)
        self._parameters = list(backbone.parameters())
        self._versions = weight_versions(self._parameters)
        self._idle: list[int] = []

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle as None: a copy packs its own weights."""
        return type(None), ()

    def is_current(self) -> bool:
        """Tell whether the backbone's weights are still those that were packed."""
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
        with torch.no_grad():
            # Making tables takes memory, which is short where nothing is kept.
            tables_for = edges.source.shape[0] if backbone.execution.kept_bytes else 0
            systems = self._systems.of(backbone, data, edges, tables_for)
            arrays = edge_arrays(edges.source, edges.target, systems)
        call = Call(self, backbone, systems, arrays, edges.halo)
        scalars, spherical = CompiledFeatures.apply(  # type: ignore[no-untyped-call]
            edges.vectors, call
        )
        return NodeFeatures(scalars, spherical)

    def borrow(self, problem: Problem) -> int:
        """Return an engine: one that was given back, with its memory, or a new one."""
        try:
            return self._idle.pop()
        except IndexError:
            engine = self.kernel.library.adatom_engine_new(ctypes.byref(problem))
        if not engine:
            raise MemoryError("There is no memory for the compiled kernel")
        return int(engine)

    def give_back(self, engine: int) -> None:
        """Keep one idle engine, whose memory the next call uses again."""
        if self._idle:
            self.kernel.library.adatom_engine_free(engine)
        else:
            self._idle.append(engine)

    def __del__(self) -> None:
        """Free the idle engine."""
        for engine in self.__dict__.get("_idle", ()):
            self.kernel.library.adatom_engine_free(engine)
