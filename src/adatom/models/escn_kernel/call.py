"""One call of the compiled kernel, and its place in automatic differentiation."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

import torch

from adatom.core.errors import ConfigError
from adatom.graph.halo import Halo
from adatom.models.base import Execution
from adatom.models.escn_kernel.exchange import HaloExchange
from adatom.models.escn_kernel.problem import EdgeArrays, Problem, Systems
from adatom.models.escn_kernel.radial_tables import INTERVALS
from adatom.nn.message_passing import DEGREE_RESCALE

if TYPE_CHECKING:
    from adatom.models.escn_kernel.kernel import CompiledBackbone
    from adatom.models.escn_md import eSCNMDBackbone

#: Edges computed at once, so that a tile stays in the cache of one core.
_TILE = 60


class Call:
    """One forward and at most one backward pass."""

    def __init__(
        self,
        owner: CompiledBackbone,
        backbone: eSCNMDBackbone,
        systems: Systems,
        edges: EdgeArrays,
        halo: Halo | None = None,
    ) -> None:
        self.owner = owner
        self.systems = systems
        self.edges = edges
        self.vectors = torch.empty(0)
        self.problem = _problem(backbone, systems, edges)
        self.engine: int | None = None
        self.exchange: HaloExchange | None = None
        if halo is not None:
            width = backbone.layout.node_size * backbone.num_channels
            self.exchange = HaloExchange(halo, owner.kernel.dtype, width)
            self.problem.halo = halo.num_rows - halo.num_own
            self.problem.exchange = self.exchange.address

    def forward(self, vectors: torch.Tensor, *, keep: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Return scalars ``[N, C]`` and spherical features ``[N, S, C]``.

        Args:
            vectors: ``[E, 3]`` edge vectors.
            keep: Whether a backward pass will follow.
        """
        self.vectors = vectors.detach().contiguous()
        problem, channels = self.problem, self.problem.channels
        problem.vectors = self.vectors.data_ptr()
        if not keep:
            problem.kept_bytes = 0
        shape = (problem.atoms, (problem.lmax + 1) ** 2, channels)
        scalars, spherical = vectors.new_empty(problem.atoms, channels), vectors.new_empty(shape)
        self.engine = self.owner.borrow(problem)
        status = self.owner.kernel.library.adatom_forward(
            self.engine, ctypes.byref(problem), scalars.data_ptr(), spherical.data_ptr()
        )
        self._check(status)
        if not keep:
            self.release()
        return scalars, spherical

    def backward(self, *gradients: torch.Tensor | None) -> torch.Tensor:
        """Return the gradient of the vectors from those of both results."""
        if self.engine is None:
            raise ConfigError(
                "The compiled kernel was asked for a second derivative or backward pass",
                fix="Set backbone.execution = Execution('general') for this.",
            )
        given = [None if g is None else g.contiguous() for g in gradients]
        result = torch.zeros_like(self.vectors)
        status = self.owner.kernel.library.adatom_backward(
            self.engine,
            ctypes.byref(self.problem),
            *(None if g is None else g.data_ptr() for g in given),
            result.data_ptr(),
        )
        self._check(status)
        self.release()
        return result

    def _check(self, status: int) -> None:
        if self.exchange is not None and self.exchange.error is not None:
            raise self.exchange.error
        if status == 1:
            raise MemoryError("The compiled kernel ran out of memory")
        if status:
            raise RuntimeError("The compiled kernel failed")

    def release(self) -> None:
        """Give the engine back."""
        engine, self.engine = self.engine, None
        if engine is not None:
            self.owner.give_back(engine)

    def __del__(self) -> None:
        """Give the engine back if there was no backward pass."""
        if "engine" in self.__dict__:
            self.release()


class CompiledFeatures(torch.autograd.Function):
    """Scalars ``[N, C]`` and spherical features ``[N, S, C]`` from edge vectors ``[E, 3]``."""

    @staticmethod
    def forward(ctx: Any, vectors: torch.Tensor, call: Call) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute; see :meth:`Call.forward`."""
        ctx.set_materialize_grads(False)
        keep = vectors.requires_grad
        if keep:
            ctx.call = call
        return call.forward(vectors, keep=keep)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor | None) -> tuple[torch.Tensor, None]:
        """Differentiate once; see :meth:`Call.backward`."""
        if torch.is_grad_enabled():
            raise ConfigError(
                "The compiled kernel has first derivatives only",
                fix="Set backbone.execution = Execution('general') for second ones.",
            )
        return ctx.call.backward(*gradients), None


def _problem(backbone: eSCNMDBackbone, systems: Systems, edges: EdgeArrays) -> Problem:
    execution: Execution = backbone.execution
    charge = backbone.charge_channels or slice(0, 0)
    spin = backbone.spin_channels or slice(0, 0)
    return Problem(
        channels=backbone.num_channels,
        hidden=backbone.hidden_channels,
        edge_channels=backbone.edge_channels,
        basis=backbone.num_distance_basis,
        lmax=backbone.layout.lmax,
        mmax=backbone.layout.mmax,
        layers=len(backbone.blocks),
        types=systems.num_types,
        groups=systems.num_groups,
        systems=systems.embeddings.shape[0],
        threads=max(1, min(torch.get_num_threads(), systems.group.shape[0])),
        room=execution.edges_per_tile or _TILE,
        intervals=INTERVALS if systems.ranks.numel() else 0,
        charge_start=charge.start,
        charge_stop=charge.stop,
        spin_start=spin.start,
        spin_stop=spin.stop,
        cutoff=backbone.cutoff,
        degree_rescale=DEGREE_RESCALE,
        atoms=systems.group.shape[0],
        edges=edges.source.shape[0],
        kept_bytes=execution.kept_bytes,
        weights=ctypes.addressof(systems.weights),
        ranks=systems.ranks.data_ptr(),
        first_edge=edges.first_edge.data_ptr(),
        source=edges.source.data_ptr(),
        pairs=edges.pairs.data_ptr(),
        group=systems.group.data_ptr(),
        system=systems.system.data_ptr(),
        invariants=systems.invariants.data_ptr(),
        embeddings=systems.embeddings.data_ptr(),
        charge=systems.charge.data_ptr(),
        spin=systems.spin.data_ptr(),
        all_atoms=systems.all_atoms,
    )
