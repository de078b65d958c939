"""Atoms with all pairs within a distance, for tests of descriptors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from ase import Atoms
from ase.build import bulk
from ase.neighborlist import neighbor_list
from scipy.spatial.transform import Rotation

from adatom.nn.descriptors.base import Descriptor


@dataclass
class Pairs:
    """Species codes, positions with gradients, and edges sorted by target."""

    species: torch.Tensor
    positions: torch.Tensor
    source: torch.Tensor
    target: torch.Tensor
    shifts: torch.Tensor

    @property
    def vectors(self) -> torch.Tensor:
        return self.positions[self.source] - self.positions[self.target] + self.shifts


def pairs(atoms: Atoms, species: tuple[str, ...], cutoff: float) -> Pairs:
    """Find pairs with ASE, whose first index is non-decreasing."""
    i, j, shift = neighbor_list("ijS", atoms, cutoff)
    return Pairs(
        torch.tensor([species.index(symbol) for symbol in atoms.symbols]),
        torch.from_numpy(atoms.positions.copy()).requires_grad_(),
        torch.from_numpy(j),
        torch.from_numpy(i),
        torch.from_numpy(shift @ atoms.cell.array),
    )


def evaluate(descriptor: Descriptor, atoms: Atoms) -> torch.Tensor:
    """Return the values of a structure in float64."""
    found = pairs(atoms, descriptor.species, descriptor.cutoff)
    values = descriptor(found.species, found.source, found.target, found.vectors)
    return values.detach()


def cluster(seed: int = 0, count: int = 9) -> Atoms:
    """Return atoms of two elements in a box, none closer than 1.2 angstrom."""
    rng = np.random.default_rng(seed)
    placed = [np.zeros(3)]
    while len(placed) < count:
        candidate = rng.uniform(-3.0, 3.0, 3)
        if min(np.linalg.norm(candidate - other) for other in placed) > 1.2:
            placed.append(candidate)
    return Atoms(["Si", "C", "Si"] * (count // 3), positions=placed)


def crystal(seed: int = 0) -> Atoms:
    """Return a rattled cell that is smaller than a cutoff."""
    atoms = bulk("SiC", "zincblende", a=4.36)
    atoms.rattle(0.1, seed=seed)
    return atoms


def check_slopes(descriptor: Descriptor, atoms: Atoms, tolerance: float = 1e-8) -> None:
    """Compare gradients of a random combination of all values with finite differences."""
    generator = torch.Generator().manual_seed(1)
    weights = torch.randn(len(atoms), descriptor.width, dtype=torch.float64, generator=generator)

    def combined(positions: np.ndarray) -> float:
        moved = atoms.copy()
        moved.positions = positions
        return float((evaluate(descriptor, moved) * weights).sum())

    found = pairs(atoms, descriptor.species, descriptor.cutoff)
    total = descriptor(found.species, found.source, found.target, found.vectors) * weights
    (gradient,) = torch.autograd.grad(total.sum(), found.positions)
    numeric = np.zeros_like(atoms.positions)
    for atom, axis in np.ndindex(*numeric.shape):
        for multiple, weight in ((-2, 1 / 12), (-1, -2 / 3), (1, 2 / 3), (2, -1 / 12)):
            positions = atoms.positions.copy()
            positions[atom, axis] += multiple * 1e-3
            numeric[atom, axis] += weight * combined(positions) / 1e-3
    scale = max(1.0, float(gradient.abs().max()))
    np.testing.assert_allclose(gradient.numpy() / scale, numeric / scale, rtol=0, atol=tolerance)


def check_symmetry(descriptor: Descriptor, tolerance: float = 1e-10) -> None:
    """Turn, mirror and renumber a structure."""
    atoms = cluster(seed=3)
    expected = evaluate(descriptor, atoms)
    scale = float(expected.abs().max())
    turned = atoms.copy()
    turned.positions = -atoms.positions @ Rotation.random(random_state=1).as_matrix() + 1.5
    torch.testing.assert_close(
        evaluate(descriptor, turned), expected, rtol=0, atol=tolerance * scale
    )
    order = np.random.default_rng(2).permutation(len(atoms))
    torch.testing.assert_close(
        evaluate(descriptor, atoms[order]), expected[order], rtol=0, atol=tolerance * scale
    )


def check_twice_differentiable(descriptor: Descriptor, atoms: Atoms) -> None:
    """Compare second derivatives with finite differences of the first, as training needs them."""
    found = pairs(atoms, descriptor.species, descriptor.cutoff)
    vectors = found.vectors.detach().requires_grad_()
    torch.autograd.gradgradcheck(
        lambda v: descriptor(found.species, found.source, found.target, v), vectors, atol=1e-5
    )
