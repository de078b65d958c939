"""A pair potential, and versions of it that are each broken in one way."""

from __future__ import annotations

import time

import numpy as np
from ase.calculators.calculator import Calculator, all_changes
from ase.neighborlist import neighbor_list

from adatom.core.errors import OutOfDomainError

CUTOFF = 4.0
#: What is never given back.
KEPT: list[np.ndarray] = []
STRENGTH = {"Si": 1.0, "C": 0.6}


class Pairs(Calculator):
    """``a_i a_j exp(2 - r) (1 - (r / rc)^2)^3`` over all pairs, in eV."""

    implemented_properties = ("energy", "forces")

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, list(properties), list(system_changes))
        energy, forces = self.compute(self.atoms)
        self.results = {"energy": energy, "forces": forces}

    def compute(self, atoms):
        i, j, vectors, r = neighbor_list("ijDd", atoms, CUTOFF)
        each = np.array([self.strength(symbol) for symbol in atoms.symbols])
        energy, slope = self.pair(r)
        weight = each[i] * each[j]
        forces = np.zeros((len(atoms), 3))
        np.add.at(forces, i, (weight * slope / r)[:, None] * vectors)
        return float(0.5 * (weight * energy).sum()), forces

    def strength(self, symbol):
        if symbol not in STRENGTH:
            raise OutOfDomainError(f"{symbol} is unknown")
        return STRENGTH[symbol]

    def pair(self, r):
        inside = 1 - (r / CUTOFF) ** 2
        decay = np.exp(2 - r)
        return decay * inside**3, -decay * (inside**3 + 6 * r / CUTOFF**2 * inside**2)


class WrongSign(Pairs):
    def compute(self, atoms):
        energy, forces = super().compute(atoms)
        return energy, -forces


class SlightlyWrongForces(Pairs):
    def compute(self, atoms):
        energy, forces = super().compute(atoms)
        return energy, forces * (1 + 1e-3)


class ForgetsBoundaries(Pairs):
    def compute(self, atoms):
        alone = atoms.copy()
        alone.pbc = False
        return super().compute(alone)


class ForgetsThirdBoundary(Pairs):
    def compute(self, atoms):
        slab = atoms.copy()
        slab.pbc = (*atoms.pbc[:2], False)
        return super().compute(slab)


class ForgetsToWrap(Pairs):
    def compute(self, atoms):
        energy, forces = super().compute(atoms)
        outside = atoms.positions[:, 0] < 0
        return energy + 0.1 * outside.sum(), forces


class CountsTheFirstAtomMore(Pairs):
    def compute(self, atoms):
        energy, forces = super().compute(atoms)
        if len(atoms) > 1:
            force = 0.01 * (atoms.positions[0] - atoms.positions[1])
            energy += 0.5 * force @ force / 0.01
            forces = forces.copy()
            forces[0] -= force
            forces[1] += force
        return energy, forces


class InAField(Pairs):
    """Sees where up is, but not where the origin is, and respects lattices."""

    def compute(self, atoms):
        vectors = neighbor_list("D", atoms, CUTOFF)
        energy, forces = super().compute(atoms)
        return energy + 0.01 * float((vectors[:, 2] ** 2 < 1.0).sum()), forces


class Handed(Pairs):
    """Adds the chirality of the three nearest neighbors of each atom to the energy."""

    def compute(self, atoms):
        i, vectors = neighbor_list("iD", atoms, CUTOFF)
        energy, forces = super().compute(atoms)
        chirality = 0.0
        for atom in range(len(atoms)):
            around = vectors[i == atom]
            around = around[np.argsort((around**2).sum(1))][:3]
            if len(around) == 3:
                chirality += np.tanh(np.linalg.det(around))
        return energy + 0.1 * chirality, forces


class Truncated(Pairs):
    """Ends at 3 angstrom with a step of a few meV."""

    def pair(self, r):
        energy, slope = super().pair(r)
        return np.where(r < 3.0, energy, 0.0), np.where(r < 3.0, slope, 0.0)


class SmallStepOfForce(Pairs):
    """Has a continuous energy whose slope steps by 1e-5 eV/angstrom at 3.3 angstrom."""

    def pair(self, r):
        energy, slope = super().pair(r)
        beyond = np.maximum(r - 3.3, 0.0)
        return energy + 1e-5 * beyond, slope + 1e-5 * (r > 3.3)


class Leaks(Pairs):
    def compute(self, atoms):
        KEPT.append(np.ones(4000))
        return super().compute(atoms)


class LeaksWhenMade(Pairs):
    def __init__(self):
        super().__init__()
        KEPT.append(np.ones(100_000))


class SharedScratch(Pairs):
    """All calculators keep the structure of a call in one place."""

    scratch = None

    def compute(self, atoms):
        type(self).scratch = atoms
        time.sleep(2e-4)
        return super().compute(type(self).scratch)


class Noisy(Pairs):
    generator = np.random.default_rng(0)

    def compute(self, atoms):
        energy, forces = super().compute(atoms)
        return energy + 1e-12 * self.generator.normal(), forces


class NoCarbon(Pairs):
    def strength(self, symbol):
        if symbol == "C":
            raise OutOfDomainError("C was never seen")
        return super().strength(symbol)


class InfiniteCarbon(Pairs):
    def strength(self, symbol):
        return float("nan") if symbol == "C" else super().strength(symbol)


def in_bohr(atoms, *, bohr=0.529177210903):
    """Compute in atomic units, as a simulator would see it, and convert back."""
    energy, forces = Pairs().compute(atoms)
    hartree = 27.211386245988
    return (energy / hartree) * hartree, (forces * 0.529177210903 / hartree) * hartree / bohr
