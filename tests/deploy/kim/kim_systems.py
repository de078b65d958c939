"""Structures that are hard for neighbor lists: small cells, skewed cells, mixed boundaries."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.build import bulk


def random_cell(seed: int) -> Atoms:
    """Return 1 to 6 atoms in a random cell that is 2 to 5 angstrom wide, any boundaries."""
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 7))
    cell = np.diag(rng.uniform(2.5, 5.0, 3)) + rng.uniform(-0.8, 0.8, (3, 3))
    atoms = Atoms(
        rng.choice(["Si", "C"], count),
        scaled_positions=rng.uniform(-1.0, 2.0, (count, 3)),
        cell=cell,
        pbc=rng.choice([True, False], 3),
    )
    return apart(atoms, rng)


def apart(atoms: Atoms, rng: np.random.Generator) -> Atoms:
    """Move atoms until no two are closer than 0.7 angstrom."""
    for _ in range(1000):
        distances = atoms.get_all_distances(mic=True) + 10 * np.eye(len(atoms))
        close = np.flatnonzero((distances < 0.7).any(axis=1))
        if len(close) == 0:
            break
        atoms.positions[close[0]] += rng.uniform(-1.0, 1.0, 3)
    return atoms


def silicon_carbide(repeat: int = 2, seed: int = 0) -> Atoms:
    """Return rattled silicon carbide, 8 atoms per repeated cubic cell."""
    atoms = bulk("SiC", "zincblende", a=4.36, cubic=True) * (repeat, repeat, repeat)
    atoms.rattle(0.1, seed=seed)
    return atoms


def named_systems() -> dict[str, Atoms]:
    """Return the cases that go wrong most easily."""
    slab = silicon_carbide(2)
    slab.pbc = (True, True, False)
    slab.cell[2] *= 3
    cluster = silicon_carbide(2)
    cluster.pbc = False
    primitive = bulk("Si", a=5.43)
    return {
        "bulk": silicon_carbide(2),
        "slab": slab,
        "cluster": cluster,
        "one cell": silicon_carbide(1),
        "primitive cell": primitive,
        "one atom": Atoms("Si", cell=[2.5, 2.6, 2.7], pbc=True),
        "chain": Atoms("C", cell=[1.9, 0, 0], pbc=(True, False, False)),
        "dimer": Atoms("SiC", positions=[[0, 0, 0], [0, 1.1, 1.5]]),
        "far dimer": Atoms("SiC", positions=[[0, 0, 0], [0, 0, 30.0]]),
        "lone atom": Atoms("C", positions=[[5.0, 6.0, 7.0]]),
    }
