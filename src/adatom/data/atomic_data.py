"""One atomistic system, or a batch of systems, as tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import torch

from adatom.core.errors import DataError
from adatom.graph.edges import Edges
from adatom.graph.neighbors import neighbor_list

if TYPE_CHECKING:
    from ase import Atoms

#: Labels with one row per system; every other label has one row per atom.
SYSTEM_LABELS = frozenset({"energy", "stress", "relaxed_energy"})


@dataclass(slots=True, kw_only=True)
class AtomicData:
    """One system or a batch of systems; N atoms, B systems.

    Attributes:
        pos: ``[N, 3]`` float64, angstrom.
        atomic_numbers: ``[N]`` int64.
        cell: ``[B, 3, 3]`` float64, angstrom; rows are lattice vectors (zeros without a cell).
        pbc: ``[B, 3]`` bool.
        natoms: ``[B]`` int64.
        batch: ``[N]`` int64; the system of each atom, non-decreasing.
        charge: ``[B]`` int64, in units of e.
        spin: ``[B]`` int64, multiplicity 2S+1; 0 means "not given".
        dataset: one name per system (the level of theory the labels come from).
        tags: ``[N]`` int64; Open Catalyst convention 0 bulk, 1 surface, 2 adsorbate.
        fixed: ``[N]`` bool; atoms held by a FixAtoms constraint.
        sid: one identifier per system, used in every message about it.
        edges: neighbor list, or None until :func:`adatom.graph.neighbor_list` made one.
        labels: by property name; ``energy [B]`` eV float64, ``forces [N, 3]`` eV/angstrom,
            ``stress [B, 3, 3]`` eV/angstrom^3 (positive is tensile), ``relaxed_energy [B]`` eV and
            ``relaxed_pos [N, 3]`` angstrom of the relaxed structure. In a batch, rows of systems
            without that label are NaN.
    """

    pos: torch.Tensor
    atomic_numbers: torch.Tensor
    cell: torch.Tensor
    pbc: torch.Tensor
    natoms: torch.Tensor
    batch: torch.Tensor
    charge: torch.Tensor
    spin: torch.Tensor
    dataset: list[str]
    tags: torch.Tensor
    fixed: torch.Tensor
    sid: list[str]
    edges: Edges | None = None
    labels: dict[str, torch.Tensor] = field(default_factory=dict)

    @property
    def num_atoms(self) -> int:
        """Number of atoms N in all systems."""
        return self.pos.shape[0]

    @property
    def num_systems(self) -> int:
        """Number of systems B."""
        return self.natoms.shape[0]

    @classmethod
    def from_ase(cls, atoms: Atoms, **kwargs: Any) -> AtomicData:
        """Convert an ASE structure; see :func:`adatom.data.ase_convert.from_ase`."""
        from adatom.data.ase_convert import from_ase

        return from_ase(atoms, **kwargs)

    def to_ase(self) -> list[Atoms]:
        """Convert to one ASE structure per system; see :func:`adatom.data.ase_convert.to_ase`."""
        from adatom.data.ase_convert import to_ase

        return to_ase(self)

    def with_edges(
        self, cutoff: float, *, max_neighbors: int | None = None, backend: str = "auto"
    ) -> AtomicData:
        """Return a copy with edges within ``cutoff`` (angstrom); tensors are shared.

        See :func:`adatom.graph.neighbors.neighbor_list` for the arguments and errors.
        """
        edges = neighbor_list(
            self.pos.detach(),
            self.cell.detach(),
            self.pbc,
            cutoff,
            natoms=self.natoms,
            max_neighbors=max_neighbors,
            backend=backend,
        )
        return replace(self, edges=edges)

    def to(self, device: torch.device | str) -> AtomicData:
        """Return a copy on ``device`` (tensors already there are shared, never changed)."""
        moved: dict[str, Any] = {}
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, (torch.Tensor, Edges)):
                moved[item.name] = value.to(device)
        moved["labels"] = {name: value.to(device) for name, value in self.labels.items()}
        return replace(self, **moved)

    def unbatch(self) -> list[AtomicData]:
        """Split into single systems, in order; edges are split too."""
        atom_ends = torch.cumsum(self.natoms, 0).tolist()
        edge_ends = torch.cumsum(self.edges.counts, 0).tolist() if self.edges else []
        systems = []
        for i, end in enumerate(atom_ends):
            atoms = slice(end - int(self.natoms[i]), end)
            edges = None
            if self.edges is not None:
                rows = slice(edge_ends[i] - int(self.edges.counts[i]), edge_ends[i])
                edges = Edges(
                    self.edges.index[:, rows] - atoms.start,
                    self.edges.offsets[rows],
                    self.edges.counts[i : i + 1],
                )
            systems.append(self._system(i, atoms, edges))
        return systems

    def _system(self, i: int, atoms: slice, edges: Edges | None) -> AtomicData:
        one = slice(i, i + 1)
        labels = {
            name: value[one] if name in SYSTEM_LABELS else value[atoms]
            for name, value in self.labels.items()
        }
        return AtomicData(
            pos=self.pos[atoms],
            atomic_numbers=self.atomic_numbers[atoms],
            cell=self.cell[one],
            pbc=self.pbc[one],
            natoms=self.natoms[one],
            batch=torch.zeros_like(self.batch[atoms]),
            charge=self.charge[one],
            spin=self.spin[one],
            dataset=self.dataset[one],
            tags=self.tags[atoms],
            fixed=self.fixed[atoms],
            sid=self.sid[one],
            edges=edges,
            labels={name: value for name, value in labels.items() if not bool(value.isnan().all())},
        )


def collate(systems: Sequence[AtomicData]) -> AtomicData:
    """Join systems (or batches) into one batch, in order.

    Edges are kept when every part has them and dropped otherwise. A label that only some parts
    carry gets NaN rows for the others, so that nothing downstream can mistake it for zero.

    Raises:
        DataError: If ``systems`` is empty.
    """
    if not systems:
        raise DataError("An empty list of systems cannot be batched", expected="at least one")
    atom_starts = _starts([s.num_atoms for s in systems])
    system_starts = _starts([s.num_systems for s in systems])
    joined = {
        name: torch.cat([getattr(s, name) for s in systems])
        for name in ("pos", "atomic_numbers", "cell", "pbc", "natoms", "charge", "spin", "tags")
    }
    return AtomicData(
        **joined,
        fixed=torch.cat([s.fixed for s in systems]),
        batch=torch.cat([s.batch + k for s, k in zip(systems, system_starts, strict=True)]),
        dataset=[name for s in systems for name in s.dataset],
        sid=[name for s in systems for name in s.sid],
        edges=_join_edges(systems, atom_starts),
        labels=_join_labels(systems),
    )


def _starts(sizes: list[int]) -> list[int]:
    return list(accumulate(sizes, initial=0))[:-1]


def _join_edges(systems: Sequence[AtomicData], starts: list[int]) -> Edges | None:
    parts = [s.edges for s in systems if s.edges is not None]
    if len(parts) < len(systems):
        return None
    return Edges(
        torch.cat([e.index + k for e, k in zip(parts, starts, strict=True)], dim=1),
        torch.cat([e.offsets for e in parts]),
        torch.cat([e.counts for e in parts]),
    )


def _join_labels(systems: Sequence[AtomicData]) -> dict[str, torch.Tensor]:
    names = sorted({name for s in systems for name in s.labels})
    return {name: torch.cat([_label_rows(s, name, systems) for s in systems]) for name in names}


def _label_rows(system: AtomicData, name: str, systems: Sequence[AtomicData]) -> torch.Tensor:
    if name in system.labels:
        return system.labels[name]
    example = next(s.labels[name] for s in systems if name in s.labels)
    rows = system.num_systems if name in SYSTEM_LABELS else system.num_atoms
    return example.new_full((rows, *example.shape[1:]), float("nan"))
