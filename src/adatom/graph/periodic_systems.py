"""Positions, cells and periodicity of a batch, checked and made ready for a search."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from adatom.core.errors import GraphError

#: A cell whose volume is below this fraction of the product of its edge lengths is flat.
_FLAT = 1e-9


@dataclass(slots=True, frozen=True)
class PeriodicSystems:
    """The checked input of a neighbor search; N atoms, B systems, all on one device.

    Attributes:
        pos: ``[N, 3]`` float64, angstrom.
        cell: ``[B, 3, 3]`` float64, angstrom. Rows of directions that are not periodic are
            replaced by unit vectors orthogonal to the others, so that it is always invertible.
        pbc: ``[B, 3]`` bool.
        natoms: ``[B]`` int64.
        batch: ``[N]`` int64, the system of each atom.
    """

    pos: torch.Tensor
    cell: torch.Tensor
    pbc: torch.Tensor
    natoms: torch.Tensor
    batch: torch.Tensor

    @classmethod
    def checked(
        cls,
        pos: torch.Tensor,
        cell: torch.Tensor,
        pbc: torch.Tensor,
        natoms: torch.Tensor | None = None,
    ) -> PeriodicSystems:
        """Check shapes and values and complete the cells.

        Args:
            pos: ``[N, 3]`` positions in angstrom.
            cell: ``[B, 3, 3]`` or, for one system, ``[3, 3]``, in angstrom.
            pbc: ``[B, 3]`` or ``[3]`` bool.
            natoms: ``[B]`` atoms per system; None means one system.

        Raises:
            GraphError: If a shape is wrong, a value is not finite, or a periodic direction has
                no lattice vector of its own.
        """
        pos = _checked_positions(pos)
        cell = cell.detach().to(pos)
        cell = cell.unsqueeze(0) if cell.dim() == 2 else cell
        pbc = pbc.to(pos.device, torch.bool)
        pbc = pbc.unsqueeze(0) if pbc.dim() == 1 else pbc
        if natoms is None:
            natoms = torch.tensor([len(pos)], device=pos.device)
        natoms = natoms.to(pos.device, torch.int64)
        _check_shapes(cell, pbc, natoms)
        if len(natoms) == 1 and int(natoms) == len(pos):
            batch = torch.zeros(len(pos), dtype=torch.int64, device=pos.device)
        else:
            batch = _batch(natoms, len(pos))
        return cls(pos, _checked_cell(cell, pbc), pbc, natoms, batch)

    def moved_to(self, pos: torch.Tensor) -> PeriodicSystems:
        """Return the same systems with other positions ``[N, 3]`` (angstrom), not checked."""
        pos = pos.detach().to(torch.float64)
        return PeriodicSystems(pos, self.cell, self.pbc, self.natoms, self.batch)

    @property
    def num_atoms(self) -> int:
        """Number of atoms N."""
        return int(self.pos.shape[0])

    @property
    def num_systems(self) -> int:
        """Number of systems B."""
        return int(self.natoms.shape[0])

    def copy(self) -> PeriodicSystems:
        """Return a copy that shares no memory with tensors of the caller."""
        return PeriodicSystems(
            self.pos.clone(), self.cell.clone(), self.pbc.clone(), self.natoms.clone(), self.batch
        )

    def same_atoms(self, other: PeriodicSystems) -> bool:
        """Tell whether sizes, periodicity and device agree, whatever positions and cells are."""
        return (
            self.pos.device == other.pos.device
            and (self.natoms is other.natoms or torch.equal(self.natoms, other.natoms))
            and (self.pbc is other.pbc or torch.equal(self.pbc, other.pbc))
        )


def _checked_positions(pos: torch.Tensor) -> torch.Tensor:
    if pos.dim() != 2 or pos.shape[1] != 3:
        raise GraphError(f"Positions have the shape {list(pos.shape)}", expected="[atoms, 3]")
    pos = pos.detach().to(torch.float64)
    if not math.isfinite(float(pos.sum())):
        atom = int(torch.nonzero(~torch.isfinite(pos).all(1))[0])
        raise GraphError(
            f"The position of atom {atom} is {pos[atom].tolist()}",
            expected="finite numbers in angstrom",
        )
    return pos


def _check_shapes(cell: torch.Tensor, pbc: torch.Tensor, natoms: torch.Tensor) -> None:
    if natoms.dim() != 1:
        raise GraphError(f"natoms has the shape {list(natoms.shape)}", expected="[systems]")
    systems = len(natoms)
    if systems == 0:
        raise GraphError("There is no system to search", expected="at least one")
    if list(cell.shape) != [systems, 3, 3]:
        raise GraphError(
            f"Cells have the shape {list(cell.shape)}",
            expected=f"[{systems}, 3, 3] for {systems} system(s)",
        )
    if list(pbc.shape) != [systems, 3]:
        raise GraphError(
            f"Periodicity flags (pbc) have the shape {list(pbc.shape)}",
            expected=f"[{systems}, 3] for {systems} system(s)",
        )


def _batch(natoms: torch.Tensor, num_atoms: int) -> torch.Tensor:
    """Return the system of each atom."""
    if bool((natoms < 0).any()) or int(natoms.sum()) != num_atoms:
        raise GraphError(
            f"natoms sums to {int(natoms.sum())}", expected=f"the number of positions, {num_atoms}"
        )
    systems = torch.arange(len(natoms), device=natoms.device)
    return torch.repeat_interleave(systems, natoms, output_size=num_atoms)


def _checked_cell(cell: torch.Tensor, pbc: torch.Tensor) -> torch.Tensor:
    """Complete the cells and refuse those that span no volume."""
    if not bool(pbc.any()):
        return torch.eye(3, dtype=cell.dtype, device=cell.device).expand_as(cell)
    full = cell if bool(pbc.all()) else _complete(cell, pbc)
    lengths = torch.linalg.vector_norm(full, dim=2).prod(1)
    flat = ~(torch.linalg.det(full).abs() > _FLAT * lengths)
    if bool(flat.any()):
        system = int(torch.nonzero(flat)[0])
        raise _cell_error(system, cell[system], pbc[system])
    return full


def _complete(cell: torch.Tensor, pbc: torch.Tensor) -> torch.Tensor:
    """Replace rows without periodicity by unit vectors orthogonal to all other rows."""
    rows = torch.where(pbc.unsqueeze(2), cell, 0.0)
    axes = torch.eye(3, dtype=cell.dtype, device=cell.device)
    for k in range(3):
        first, second = rows[:, (k + 1) % 3], rows[:, (k + 2) % 3]
        # Where one of the two is still missing (zero), any direction orthogonal to the other one
        # serves, best made from the axis it is least aligned with.
        lone = first + second
        spare = torch.linalg.cross(lone, axes[lone.abs().argmin(1)])
        spare = torch.where((lone != 0).any(1, keepdim=True), spare, axes[k])
        missing = (first == 0).all(1, keepdim=True) | (second == 0).all(1, keepdim=True)
        row = torch.where(missing, spare, torch.linalg.cross(first, second))
        row = row / torch.linalg.vector_norm(row, dim=1, keepdim=True)
        rows[:, k] = torch.where(pbc[:, k : k + 1], rows[:, k], row)
    return rows


def _cell_error(system: int, cell: torch.Tensor, pbc: torch.Tensor) -> GraphError:
    where = f"System {system} is periodic along {_names(pbc)}"
    if not bool(torch.isfinite(cell).all()):
        return GraphError(
            f"The cell of system {system} is {cell.tolist()}", expected="finite numbers in angstrom"
        )
    zero = pbc & (cell == 0).all(-1)
    if bool(zero.any()):
        return GraphError(
            f"{where}, but its lattice vector {_names(zero)} is zero",
            expected="a lattice vector for every periodic direction",
            fix="Set the cell, or switch off pbc along that direction.",
        )
    return GraphError(
        f"{where}, but those lattice vectors are linearly dependent: {cell.tolist()}",
        expected="lattice vectors that span a volume",
        fix="Correct the cell, or switch off pbc along one direction.",
    )


def _names(flags: torch.Tensor) -> str:
    return ", ".join(name for name, flag in zip("abc", flags.tolist(), strict=True) if flag)
