"""What a backbone is: one class with one forward."""

from __future__ import annotations

import inspect
from abc import ABCMeta, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import nn

from adatom.data.atomic_data import AtomicData
from adatom.graph.halo import Halo
from adatom.nn.first_rows import first_rows


@dataclass(slots=True, eq=False)
class Neighborhood:
    """The edges one message-passing layer sums over, with their vectors.

    Attributes:
        source: ``[E]`` int64; atom j.
        target: ``[E]`` int64; atom i, non-decreasing.
        vectors: ``[E, 3]`` in angstrom, ``r_j - r_i + n @ cell``, in the model's dtype. Forces and
            stress are derivatives with respect to these, so a backbone must take geometry from
            here, and from ``data.pos`` or ``data.cell`` only where it says ``uses_positions``.
        counts: ``[B]`` int64; edges per system, grouped in batch order.
        halo: What connects the atoms here with those that other workers own, or None where all
            atoms are here. ``target`` numbers own atoms, ``source`` the rows of :meth:`extended`.
        rows: The first so many atoms are all that later layers (or a head, after the last one)
            take features of. These are the edges into them, and the first edges of every layer
            before. None means all atoms. A backbone may compute features of all the same.
    """

    source: torch.Tensor
    target: torch.Tensor
    vectors: torch.Tensor
    counts: torch.Tensor
    halo: Halo | None = None
    rows: int | None = None

    def kept(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the rows ``[N, ...]`` of the atoms whose features are needed after this layer."""
        return rows if self.rows is None else first_rows(rows, self.rows)

    def extended(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the rows that ``source`` numbers: those of own atoms, then those of the halo.

        Every worker must come here equally often and in the same order, whatever its atoms are.

        Args:
            rows: ``[N, ...]`` of own atoms.
        """
        if self.halo is None:
            return rows
        wanted = torch.is_grad_enabled() and self.vectors.requires_grad
        if wanted and rows.is_floating_point() and not rows.requires_grad:
            # So that the way back leads through this exchange for a worker without edges too.
            rows = rows + self.vectors[:0].sum().to(rows.dtype)
        return self.halo.extend(rows)

    def total(self, values: torch.Tensor) -> torch.Tensor:
        """Return the sum over all workers of what each has summed over its own atoms."""
        return values if self.halo is None else self.halo.total(values)


@dataclass(slots=True, frozen=True)
class Execution:
    """How a backbone computes what its definition says; results differ by rounding only.

    Attributes:
        mode: ``"general"`` is plain autograd, which training and Hessians need. ``"tiled"`` goes
            through the edges tile by tile with a hand-written adjoint, in PyTorch; ``"compiled"``
            is the same in a kernel compiled on this machine. Both need frozen weights, and a
            backbone that has neither, or whose weights are trained, computes as in ``"general"``.
        edges_per_tile: Edges computed at once; None leaves it to the backbone.
        kept_bytes: How much of what the forward pass computes per edge is kept for the backward
            pass; the rest is computed again, so that 0 needs the least memory.
    """

    mode: Literal["general", "tiled", "compiled"] = "tiled"
    edges_per_tile: int | None = None
    kept_bytes: int = 2**28


class NodeFeatures(NamedTuple):
    """Output of a backbone.

    Attributes:
        scalars: ``[N, C]`` invariant features.
        spherical: ``[N, (lmax+1)^2, C]`` equivariant features (l-major, e3nn component order), or
            None where the backbone has none.
    """

    scalars: torch.Tensor
    spherical: torch.Tensor | None = None


class _RecordsArguments(ABCMeta):
    """Remember the constructor arguments, so that authors of models need not."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        # mypy warns that a subclass may differ; here the class is the one being called.
        constructor = cls.__init__  # type: ignore[misc]
        bound = inspect.signature(constructor).bind(None, *args, **kwargs)
        bound.apply_defaults()
        instance = super().__call__(*args, **kwargs)
        given = dict(list(bound.arguments.items())[1:])
        for name, parameter in bound.signature.parameters.items():
            if parameter.kind is parameter.VAR_KEYWORD:
                given |= given.pop(name)
            elif parameter.kind is parameter.VAR_POSITIONAL:
                # Of nn.Module, where a class has no constructor of its own.
                del given[name]
        instance.init_args = {name: _plain(value) for name, value in given.items()}
        return instance


def _plain(value: Any) -> Any:
    """Return a part that is a module itself as its class path and arguments."""
    if not isinstance(value, Configurable):
        return value
    cls = type(value)
    path = f"{cls.__module__}.{cls.__qualname__}"
    return {"class_path": path, "init_args": value.init_args}


class Configurable(nn.Module, metaclass=_RecordsArguments):
    """A module that can be rebuilt from its class path and ``init_args``.

    Attributes:
        init_args: The constructor's arguments with defaults filled in; plain JSON values.
    """

    init_args: dict[str, Any]


class Head(Configurable):
    """From node features to one or several properties.

    Attributes:
        gives: What :meth:`forward` returns: ``"energies"`` (per atom; forces, stress and Hessian
            are then its derivatives), or ``"forces"`` and ``"stress"`` predicted directly.
        mean_energy: Whether a system's energy is the mean of ``energies`` instead of their sum.
    """

    gives: tuple[str, ...] = ("energies",)
    mean_energy: bool = False

    @abstractmethod
    def forward(self, features: NodeFeatures, data: AtomicData) -> dict[str, torch.Tensor]:
        """Return the properties of ``gives`` in network units.

        Shapes are ``energies [N]``, ``forces [N, 3]`` and ``stress [B, 3, 3]``.
        """


class Backbone(Configurable):
    """A network from a batch with edges to node features.

    Subclasses set the attributes below in ``__init__`` and implement :meth:`forward`. All
    constructor arguments must be plain JSON values: the checkpoint stores them.

    Attributes:
        cutoff: In angstrom.
        max_neighbors: Limit used when the neighbor list is built, or None.
        num_message_layers: How many times the model sums over neighbors; the length of ``edges``.
        num_channels: C of :class:`NodeFeatures`.
        max_num_elements: Atomic numbers must be below this.
        reflection_invariant: Whether mirror images are promised the same energy.
        exchanges: Whether it takes what it knows of an edge's source from
            :meth:`Neighborhood.extended`, and sums over a whole system from
            :meth:`Neighborhood.total`, so that several workers can share a system and exchange
            features between layers. A worker of another backbone computes the atoms within as
            many cutoffs as there are layers by itself.
        uses_positions: Whether it takes geometry from ``data.pos`` or ``data.cell`` too. Forces,
            stress and Hessian are right then as well; atomic virials cannot be had.
        execution: How to compute; set by whoever prepares a potential for use.
    """

    cutoff: float
    max_neighbors: int | None
    num_message_layers: int
    num_channels: int
    max_num_elements: int = 100
    reflection_invariant: bool = False
    exchanges: bool = False
    uses_positions: bool = False
    execution: Execution = Execution()

    def unavailable(self, mode: str) -> str | None:
        """Say in one sentence why an execution mode cannot be had here, or None if it can.

        Args:
            mode: See :class:`Execution`. Asking may compile a kernel.
        """
        if mode == "general":
            return None
        return f"{type(self).__name__} has no {mode} execution."

    def learn_scales(self, systems: Sequence[AtomicData]) -> str | None:
        """Take fixed numbers, such as means of inputs, from structures before a new training.

        Structures are read for it only if a backbone has one of its own.

        Args:
            systems: Some of the training structures, without edges.

        Returns:
            What was taken, in one sentence for the user; None where a network needs nothing.
        """
        del systems
        return None

    def default_head(self) -> Head:
        """Return a new head for a potential whose configuration names none."""
        from adatom.models.energy_head import EnergyHead

        return EnergyHead(self.num_channels, self.num_channels)

    @abstractmethod
    def forward(self, data: AtomicData, edges: Sequence[Neighborhood]) -> NodeFeatures:
        """Compute node features.

        Args:
            data: The batch: atomic numbers, charge, spin, dataset, natoms, batch. Where several
                workers share a system, ``natoms`` counts all of its atoms, and all else of atoms
                has the rows of this worker only.
            edges: One entry per message-passing layer. Training and ordinary inference pass the
                same object for every layer; staged deployment passes nested ones. Code that is
                derived from an entry (rotations, radial basis) should be reused while
                ``edges[k] is edges[k - 1]``.
        """
