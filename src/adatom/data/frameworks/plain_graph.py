"""What a network sees of a batch: tensors by name, with no library around them."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from adatom.core.errors import GraphError
from adatom.data.atomic_data import AtomicData


@dataclass(slots=True, eq=False)
class PlainGraph:
    """A batch with edges; N atoms, E edges, B systems. The other frameworks use the same names.

    Attributes:
        atomic_numbers: ``[N]`` int64.
        pos: ``[N, 3]`` angstrom. Atoms may lie outside the cell; differences of positions are not
            edge vectors where a system is periodic.
        cell: ``[B, 3, 3]`` angstrom, rows are lattice vectors (zeros without a cell).
        pbc: ``[B, 3]`` bool.
        natoms: ``[B]`` int64.
        batch: ``[N]`` int64; the system of each atom, non-decreasing.
        tags: ``[N]`` int64; 0 bulk, 1 surface, 2 adsorbate.
        fixed: ``[N]`` bool.
        charge: ``[B]`` int64, in units of e.
        spin: ``[B]`` int64, multiplicity (0 is "not given").
        dataset: One name per system.
        edge_index: ``[2, E]`` int64; source j, target i; sorted by target.
        cell_offsets: ``[E, 3]`` int64, integer image n.
        edge_vectors: ``[E, 3]`` angstrom, ``r_j - r_i + n @ cell``.
    """

    atomic_numbers: torch.Tensor
    pos: torch.Tensor
    cell: torch.Tensor
    pbc: torch.Tensor
    natoms: torch.Tensor
    batch: torch.Tensor
    tags: torch.Tensor
    fixed: torch.Tensor
    charge: torch.Tensor
    spin: torch.Tensor
    dataset: list[str]
    edge_index: torch.Tensor
    cell_offsets: torch.Tensor
    edge_vectors: torch.Tensor

    @property
    def num_atoms(self) -> int:
        """Number of atoms N in all systems."""
        return int(self.pos.shape[0])

    @property
    def num_systems(self) -> int:
        """Number of systems B."""
        return int(self.natoms.shape[0])

    @property
    def edge_distances(self) -> torch.Tensor:
        """Lengths of the edge vectors ``[E]`` in angstrom."""
        distances: torch.Tensor = torch.linalg.vector_norm(self.edge_vectors, dim=1)
        return distances


def to_plain(
    data: AtomicData,
    *,
    vectors: torch.Tensor | None = None,
    dtype: torch.dtype | None = None,
) -> PlainGraph:
    """Return what a network sees of a batch; tensors are shared where the dtype allows.

    Args:
        data: A batch with edges.
        vectors: ``[E, 3]`` edge vectors that are there already; None computes them.
        dtype: Of positions, cell and edge vectors; None keeps theirs.

    Raises:
        GraphError: If ``data`` has no edges, or ``vectors`` is for other edges.
    """
    if data.edges is None:
        raise GraphError(
            "The batch has no edges",
            fix="Call data.with_edges(cutoff, max_neighbors=...) first.",
        )
    if vectors is None:
        vectors = data.edges.vectors(data.pos, data.cell)
    if len(vectors) != data.edges.num_edges:
        raise GraphError(
            f"A graph of {data.edges.num_edges} edges is given {len(vectors)} edge vectors",
            expected="all edges of its systems: a network of graphs sees no part of them",
        )
    return PlainGraph(
        atomic_numbers=data.atomic_numbers,
        pos=data.pos.to(dtype or data.pos.dtype),
        cell=data.cell.to(dtype or data.cell.dtype),
        pbc=data.pbc,
        natoms=data.natoms,
        batch=data.batch,
        tags=data.tags,
        fixed=data.fixed,
        charge=data.charge,
        spin=data.spin,
        dataset=data.dataset,
        edge_index=data.edges.index,
        cell_offsets=data.edges.offsets,
        edge_vectors=vectors.to(dtype or vectors.dtype),
    )
