"""Cells as coordinates of a relaxation: what the filters of ASE do, for many systems at once.

The coordinates of a system are its atoms in the undeformed cell and three rows that stand for the
deformation ``D``: ``cell = cell_0 D`` and ``r = x D``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from ase import units

from adatom.core.errors import ConfigError
from adatom.simulate.batched.matrix_log import matrix_exp, matrix_log

#: Places of xx, yy, zz, yz, xz, xy in a matrix.
_VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))


@dataclass(frozen=True, kw_only=True)
class CellRelaxation:
    """How cells relax.

    Attributes:
        pressure_gpa: External pressure in GPa; positive compresses.
        hydrostatic: Scale the cell only; its shape stays.
        constant_volume: Change the shape only.
        mask: Which of the strains xx, yy, zz, yz, xz, xy relax; None means all.
        coordinates: ``"frechet"`` takes the logarithm of the deformation as coordinates (as ASE's
            FrechetCellFilter), ``"linear"`` the deformation itself (as its UnitCellFilter).

    Raises:
        ConfigError: If an attribute cannot be used.
    """

    pressure_gpa: float = 0.0
    hydrostatic: bool = False
    constant_volume: bool = False
    mask: Sequence[bool] | None = None
    coordinates: Literal["frechet", "linear"] = "frechet"

    def __post_init__(self) -> None:
        """Refuse what has no meaning."""
        if not abs(self.pressure_gpa) < float("inf"):
            raise ConfigError(f"pressure_gpa is {self.pressure_gpa}", expected="a finite number")
        if self.coordinates not in ("frechet", "linear"):
            raise ConfigError(
                f"coordinates is {self.coordinates!r}", expected="'frechet' or 'linear'"
            )
        if self.mask is not None and len(self.mask) != 6:
            raise ConfigError(
                f"The mask has {len(self.mask)} entries",
                expected="six, for xx, yy, zz, yz, xz, xy",
            )

    def filter(self, device: torch.device) -> CellFilter:
        """Build what converts coordinates and forces."""
        kind = FrechetCells if self.coordinates == "frechet" else LinearCells
        return kind(self, device)


class CellFilter(ABC):
    """Converts between deformations and coordinates.

    Args:
        how: The settings.
        device: Where the systems are.
    """

    def __init__(self, how: CellRelaxation, device: torch.device) -> None:
        self.how = how
        self.pressure = how.pressure_gpa * units.GPa
        self.one = torch.eye(3, dtype=torch.float64, device=device)
        self.mask: torch.Tensor | None = None
        if how.mask is not None and not all(how.mask):
            self.mask = torch.zeros_like(self.one)
            for (i, j), free in zip(_VOIGT, how.mask, strict=True):
                self.mask[i, j] = self.mask[j, i] = float(free)

    @abstractmethod
    def rows(self, deformation: torch.Tensor, natoms: torch.Tensor) -> torch.Tensor:
        """Return the coordinates ``[B, 3, 3]`` of deformations ``D [B, 3, 3]``."""

    @abstractmethod
    def deformation(self, rows: torch.Tensor, natoms: torch.Tensor) -> torch.Tensor:
        """Return ``D [B, 3, 3]`` for coordinates ``[B, 3, 3]``."""

    @abstractmethod
    def forces(
        self, virial: torch.Tensor, rows: torch.Tensor, inverse: torch.Tensor, natoms: torch.Tensor
    ) -> torch.Tensor:
        """Return minus the gradient with respect to the coordinates, ``[B, 3, 3]``.

        Args:
            virial: ``[B, 3, 3]`` minus volume times stress and pressure, eV.
            rows: ``[B, 3, 3]`` the coordinates.
            inverse: ``[B, 3, 3]`` that of the deformation ``D``.
            natoms: ``[B]``.
        """

    def virial(self, stress: torch.Tensor, cell: torch.Tensor) -> torch.Tensor:
        """Return minus the gradient of the enthalpy with respect to strain, in eV.

        Args:
            stress: ``[B, 3, 3]`` in eV/angstrom^3.
            cell: ``[B, 3, 3]`` in angstrom.
        """
        volume: torch.Tensor = torch.linalg.det(cell).abs()[:, None, None]
        return -volume * (stress + self.pressure * self.one)

    def only_hydrostatic(self, virial: torch.Tensor) -> torch.Tensor:
        """Keep the mean of the diagonal, if that is wanted."""
        if not self.how.hydrostatic:
            return virial
        return _trace(virial) / 3 * self.one

    def only_free(self, virial: torch.Tensor) -> torch.Tensor:
        """Keep the components that relax."""
        return virial if self.mask is None else virial * self.mask

    def without_volume(self, forces: torch.Tensor) -> torch.Tensor:
        """Remove what changes the volume, if that is wanted."""
        if not self.how.constant_volume:
            return forces
        return forces - _trace(forces) / 3 * self.one

    def masked(self, deformation: torch.Tensor) -> torch.Tensor:
        """Undo what the mask does not allow."""
        if self.mask is None:
            return deformation
        return self.one + (deformation - self.one) * self.mask


class FrechetCells(CellFilter):
    """Coordinates are the logarithm of the deformation times the number of atoms."""

    def rows(self, deformation: torch.Tensor, natoms: torch.Tensor) -> torch.Tensor:
        """Return the coordinates; see the base class."""
        return matrix_log(deformation.mT) * natoms[:, None, None]

    def deformation(self, rows: torch.Tensor, natoms: torch.Tensor) -> torch.Tensor:
        """Return the deformation; see the base class."""
        return self.masked(matrix_exp(rows / natoms[:, None, None]).mT)

    def forces(
        self, virial: torch.Tensor, rows: torch.Tensor, inverse: torch.Tensor, natoms: torch.Tensor
    ) -> torch.Tensor:
        """Return minus the gradient; see the base class.

        The adjoint of the derivative of the exponential at ``U`` is the derivative at ``U^T``,
        which the exponential of a matrix of twice the size contains (Higham, Functions of
        Matrices, 2008, equation 3.16).
        """
        virial = self.only_free(self.only_hydrostatic(virial))
        gradient = virial @ inverse
        transposed = (rows / natoms[:, None, None]).mT
        zero = torch.zeros_like(transposed)
        # The result is linear in it; small numbers keep their digits.
        scale = gradient.abs().amax((1, 2), keepdim=True).clamp(min=1e-300)
        upper = torch.cat([transposed, gradient / scale], 2)
        double = torch.cat([upper, torch.cat([zero, transposed], 2)], 1)
        found = scale * matrix_exp(double)[:, :3, 3:]
        return self.without_volume(found) / natoms[:, None, None]


class LinearCells(CellFilter):
    """Coordinates are the deformation times the number of atoms.

    Tadmor, Smith, Bernstein and Kaxiras, Phys. Rev. B 59, 235 (1999).
    """

    def rows(self, deformation: torch.Tensor, natoms: torch.Tensor) -> torch.Tensor:
        """Return the coordinates; see the base class."""
        return deformation.mT * natoms[:, None, None]

    def deformation(self, rows: torch.Tensor, natoms: torch.Tensor) -> torch.Tensor:
        """Return the deformation; see the base class."""
        return self.masked((rows / natoms[:, None, None]).mT)

    def forces(
        self, virial: torch.Tensor, rows: torch.Tensor, inverse: torch.Tensor, natoms: torch.Tensor
    ) -> torch.Tensor:
        """Return minus the gradient; see the base class."""
        del rows
        virial = virial @ inverse
        virial = self.only_free(self.only_hydrostatic(virial))
        return self.without_volume(virial) / natoms[:, None, None]


def _trace(matrices: torch.Tensor) -> torch.Tensor:
    return torch.diagonal(matrices, dim1=1, dim2=2).sum(1)[:, None, None]
