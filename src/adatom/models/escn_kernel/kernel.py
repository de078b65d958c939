"""Node features of an eSCN-MD backbone from the compiled kernel."""

from __future__ import annotations

import ctypes
import itertools
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import torch

from adatom.data.atomic_data import AtomicData
from adatom.models.base import Neighborhood, NodeFeatures
from adatom.models.escn_kernel.build import Kernel, kernel_for
from adatom.models.escn_kernel.call import Call, CompiledFeatures
from adatom.models.escn_kernel.expert_cache import ExpertCache, Layers
from adatom.models.escn_kernel.packing import (
    bias_of,
    convolution_weights,
    element_table,
    feed_forward_weights,
    norm_weights,
    radial_weights,
    rotation_constants,
)
from adatom.models.escn_kernel.problem import Problem, Systems, edge_arrays

if TYPE_CHECKING:
    from adatom.models.escn_block import EscnBlock
    from adatom.models.escn_md import eSCNMDBackbone

#: Different sets of systems that are remembered.
_MAX_SYSTEMS = 8


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
        self._blocks: list[EscnBlock] = list(backbone.blocks)  # type: ignore[arg-type]
        self._experts = ExpertCache(self._packed_experts)
        self._constants = list(rotation_constants(backbone.layout.lmax, kernel.dtype))
        self._feed_forward = [
            [tensor.contiguous() for tensor in feed_forward_weights(block, kernel.panel)]
            for block in self._blocks
        ]
        self._parameters = list(backbone.parameters())
        self._versions = self._current_versions()
        self._systems: OrderedDict[tuple[Any, ...], Systems] = OrderedDict()
        self._idle: list[int] = []
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle as None: a copy packs its own weights."""
        return type(None), ()

    def is_current(self) -> bool:
        """Tell whether the backbone's weights are still those that were packed."""
        return self._versions == self._current_versions()

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
            systems = self._prepared(backbone, data)
            arrays = edge_arrays(edges.source, edges.target, systems)
        call = Call(self, backbone, systems, arrays)
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

    def _current_versions(self) -> list[tuple[int, int, bool]]:
        return [
            (p.data_ptr(), p._version, p.requires_grad)  # noqa: SLF001 - counts in-place changes
            for p in self._parameters
        ]

    def _packed_experts(self, coefficients: torch.Tensor | None) -> list[Layers]:
        layers = [
            convolution_weights(block, coefficients, self.kernel.panel) for block in self._blocks
        ]
        return [list(group) for group in zip(*layers, strict=True)]

    def _prepared(self, backbone: eSCNMDBackbone, data: AtomicData) -> Systems:
        """Return what depends on the systems only, remembered from call to call."""
        arrays = (data.atomic_numbers, data.natoms, data.charge, data.spin)
        key = (*(array.numpy().tobytes() for array in arrays), tuple(data.dataset))
        with self._lock:
            systems = self._systems.get(key)
            if systems is None:
                systems = self._prepare(backbone, data)
                self._systems[key] = systems
            self._systems.move_to_end(key)
            while len(self._systems) > _MAX_SYSTEMS:
                self._systems.popitem(last=False)
        return systems

    def _prepare(self, backbone: eSCNMDBackbone, data: AtomicData) -> Systems:
        embeddings = backbone.embed_system(data)
        groups, coefficients = backbone.route(data, embeddings)
        elements = backbone.element_types(data)
        merged = self._experts.get(coefficients)
        tables = (elements.source_features, elements.target_features)
        panel = self.kernel.panel
        degree = backbone.edge_degree_embedding.rad_func
        tensors = [*self._constants]
        tensors += radial_weights(degree, element_table(degree, *tables), panel)
        for k, block in enumerate(self._blocks):
            conv = block.edge_wise.so2_conv_1
            tensors += norm_weights(block.norm_1)
            tensors += radial_weights(conv.rad_func, element_table(conv.rad_func, *tables), panel)
            tensors += [bias_of(conv.fc_m0), bias_of(block.edge_wise.so2_conv_2.fc_m0)]
            tensors += itertools.chain.from_iterable(group[k] for group in merged)
            tensors += self._feed_forward[k]
        tensors += norm_weights(backbone.norm)
        tensors = [tensor.detach().contiguous() for tensor in tensors]
        of_system = torch.zeros(data.num_systems) if groups is None else torch.tensor(groups)
        dtype = self.kernel.dtype
        return Systems(
            types=elements.of_atom,
            num_types=elements.source_features.shape[0],
            group=of_system.to(torch.int32)[data.batch],
            num_groups=len(merged),
            system=data.batch.to(torch.int32),
            invariants=backbone.invariants(data, embeddings[data.batch]).contiguous(),
            embeddings=embeddings.contiguous(),
            charge=data.charge.to(dtype),
            spin=data.spin.to(dtype),
            weights=(ctypes.c_void_p * len(tensors))(*(t.data_ptr() for t in tensors)),
            tensors=tensors,
        )
