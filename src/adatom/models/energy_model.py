"""A network that somebody wrote for graphs: from a graph to energies, in one forward."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, Literal

import torch

from adatom.models.base import Configurable

#: Whose graphs a network takes.
Framework = Literal["native", "pyg", "dgl"]


class AbstractEnergyModel(Configurable):
    """A network from a graph to energies; subclasses write ``__init__`` and :meth:`forward`.

    Constructor arguments must be plain JSON values: the checkpoint stores them. Forces and stress
    are derivatives of what :meth:`forward` returns, whether it takes geometry from the edge
    vectors or from positions and cell.

    Attributes:
        framework: Which graph :meth:`forward` is given. ``"native"`` is a
            :class:`~adatom.data.frameworks.plain_graph.PlainGraph`, ``"pyg"`` a
            ``torch_geometric.data.Batch``, ``"dgl"`` a batched ``dgl.DGLGraph``.
        cutoff: Of the edges, in angstrom; set it here or in ``__init__``.
        max_neighbors: Limit of edges into an atom, or None.
        max_num_elements: Atomic numbers must be below this.
        reflection_invariant: Whether mirror images are promised the same energy.
        ignores_images: Whether the energy may change when atoms are moved by lattice vectors. A
            network that takes differences of positions of a periodic system for its edges is
            refused unless it says so here.
    """

    framework: ClassVar[Framework] = "native"
    cutoff: float = 6.0
    max_neighbors: int | None = None
    max_num_elements: int = 100
    reflection_invariant: bool = False
    ignores_images: bool = False

    @abstractmethod
    def forward(self, graph: Any) -> torch.Tensor:
        """Return energies in network units: ``[B]`` or ``[B, 1]`` of systems, or ``[N]`` of atoms.

        Args:
            graph: A batch as the framework's graph; N atoms, E edges, B systems. Names and shapes
                are those of :class:`~adatom.data.frameworks.plain_graph.PlainGraph`; a DGL graph
                has them in ``ndata``, ``edata`` and ``system_data``. It has no labels.
        """


class AbstractIS2REModel(AbstractEnergyModel):
    """A network from an initial structure to the energy that it has once relaxed."""
