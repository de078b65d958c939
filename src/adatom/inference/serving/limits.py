"""How much one request may ask for, so that nobody takes the service away from the others."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from adatom.core.errors import ConfigError, DataError
from adatom.data.atomic_data import AtomicData


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of one request; what exceeds them is refused, with a sentence that says so.

    Attributes:
        max_atoms: Atoms of one structure.
        max_hessian_atoms: Atoms of one structure whose Hessian is asked for.
        max_edges: Edges of one structure, estimated from its density before any search.
        max_structures: Structures of one request.
        max_body_mb: Size of a request in MB (10^6 bytes).

    Raises:
        ConfigError: If a limit is not positive.
    """

    max_atoms: int = 10_000
    max_hessian_atoms: int = 200
    max_edges: float = 3e6
    max_structures: int = 256
    max_body_mb: float = 32.0

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if not value > 0:
                raise ConfigError(f"{name} is {value!r}", expected="more than 0")

    @property
    def max_body(self) -> int:
        """Size of a request in bytes."""
        return int(self.max_body_mb * 1e6)

    def check_atoms(self, count: int, where: str) -> None:
        """Refuse too large a structure.

        Args:
            count: Its atoms.
            where: Names it.

        Raises:
            DataError: If it has too many atoms.
        """
        if count > self.max_atoms:
            raise DataError(
                f"{where} has {count} atoms",
                expected=f"at most {self.max_atoms}, the limit of this service",
                fix="Run the potential locally, or ask for another limit (--max-atoms).",
            )

    def check_cost(self, system: AtomicData, cutoff: float, *, hessian: bool) -> None:
        """Refuse a structure that would take memory away from everybody.

        Args:
            system: One valid system.
            cutoff: Of the potential, in angstrom.
            hessian: Whether its Hessian is asked for.

        Raises:
            DataError: If it is too large for a Hessian, or so dense that it has too many edges.
        """
        where, atoms = f"Structure {system.sid[0]!r}", system.num_atoms
        if hessian and atoms > self.max_hessian_atoms:
            raise DataError(
                f"{where} has {atoms} atoms, and a Hessian is asked for",
                expected=f"at most {self.max_hessian_atoms} atoms",
            )
        edges = estimated_edges(system, cutoff)
        if edges > self.max_edges:
            raise DataError(
                f"{where} has about {edges:.2g} pairs of atoms within {cutoff:g} angstrom",
                expected=f"at most {self.max_edges:.2g}",
                fix="Check the units of the cell and the positions: angstrom.",
            )


def estimated_edges(system: AtomicData, cutoff: float) -> float:
    """Return about how many edges a structure has, if its atoms fill their space evenly.

    Args:
        system: One system with at least one atom.
        cutoff: In angstrom.
    """
    pos = system.pos.detach().cpu()
    cell, pbc = system.cell[0].detach().cpu(), system.pbc[0].cpu()
    periodic = cell[pbc]
    rest = 3 - len(periodic)
    basis = torch.eye(3, dtype=pos.dtype)
    if len(periodic):
        # Orthonormal directions, those that are not periodic last.
        basis = torch.linalg.qr(torch.cat([periodic, basis]).T)[0].T
    volume = 1.0
    if len(periodic):
        gram = periodic @ periodic.T
        volume = math.sqrt(max(float(torch.linalg.det(gram)), 0.0))
    extent = (pos @ basis[3 - rest :].T).aminmax(dim=0) if rest else None
    if extent is not None:
        volume *= float((extent.max - extent.min + cutoff).prod())
    sphere = 4.0 / 3.0 * math.pi * cutoff**3
    density = system.num_atoms / max(volume, 1e-12)
    evenly = system.num_atoms * density * sphere
    return evenly if len(periodic) else min(evenly, float(system.num_atoms) ** 2)
