"""What one evaluation of a portable model gives, and its virial."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from adatom.deploy.kim.configuration import Floats

#: Rows and columns of the six numbers of a virial: 11, 22, 33, 23, 31, 12 (ASE's order, too).
ROWS, COLUMNS = [0, 1, 2, 1, 2, 0], [0, 1, 2, 2, 0, 1]


@dataclass(frozen=True)
class Results:
    """Sums over contributing particles, and values of all N particles, in the chosen units.

    Attributes:
        energy: Of the contributing particles.
        forces: ``[N, 3]`` minus the derivative of that energy, ghosts included; None if not
            computed.
        particle_energies: ``[N]``, zero for ghosts; None if not computed.
        virial: ``[6]`` the sum of dE/dx (x) x, or None if not computed.
        particle_virial: ``[N, 6]`` shares that add up to the virial, or None if not computed.
    """

    energy: float
    forces: Floats | None = None
    particle_energies: Floats | None = None
    virial: Floats | None = None
    particle_virial: Floats | None = None


def virial_of(forces: Floats, coordinates: Floats) -> Floats:
    """Return ``-sum f (x) x`` as ``[6]``; both arguments are ``[N, 3]``."""
    product: Floats = -(forces[:, ROWS] * coordinates[:, COLUMNS]).sum(axis=0)
    return np.asarray(product, dtype=np.float64)
