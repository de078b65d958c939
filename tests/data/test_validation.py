from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

from adatom.core.errors import DataError
from adatom.data import collate, from_ase, validate


def test_zero_cell_with_pbc():
    with pytest.raises(DataError, match=r"'w' is periodic along a, b, c.*pbc=False"):
        from_ase(Atoms("H", pbc=True), sid="w")
    with pytest.raises(DataError, match="periodic along c"):
        from_ase(Atoms("H", cell=[3, 3, 0], pbc=True))
    from_ase(Atoms("H", cell=[3, 3, 0], pbc=[True, True, False]))


def test_flat_cell():
    cell = [[3, 0, 0], [0, 3, 0], [3, 3, 0]]
    with pytest.raises(DataError, match="no volume"):
        from_ase(Atoms("H", cell=cell, pbc=True))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_non_finite_geometry(bad):
    with pytest.raises(DataError, match=r"'w' has NaN .* positions"):
        from_ase(Atoms("H", [[0, bad, 0]]), sid="w")
    with pytest.raises(DataError, match="cell"):
        from_ase(Atoms("H", cell=[3, bad, 3]))


@pytest.mark.parametrize("number", [0, -1, 119])
def test_atomic_number_out_of_range(number):
    atoms = Atoms("H")
    atoms.numbers[0] = number
    with pytest.raises(DataError, match=f"'w' has an atom with atomic number {number}"):
        from_ase(atoms, sid="w")


def test_no_atoms():
    with pytest.raises(DataError, match="no atoms"):
        from_ase(Atoms(), sid="w")


def test_wrong_shapes():
    data = from_ase(molecule("H2O"))
    with pytest.raises(DataError, match=r"tags of shape \(2,\)"):
        validate(replace(data, tags=data.tags[:2]))
    with pytest.raises(DataError, match="label forces with 2 rows"):
        validate(replace(data, labels={"forces": torch.zeros(2, 3)}))


@pytest.mark.parametrize("pbc", [False, True])
def test_atoms_on_top_of_each_other(pbc):
    atoms = bulk("Cu", cubic=True)
    atoms.pbc = pbc
    atoms += Atoms("H", [atoms.positions[2] + 0.05])
    with pytest.raises(DataError, match=r"'w' has atoms 2 and 4 at 0.087 angstrom"):
        validate(from_ase(atoms, sid="w"))


def test_overlap_through_the_boundary_only_counts_if_periodic():
    atoms = Atoms("H2", [[0.02, 1, 1], [2.98, 1, 1]], cell=[3, 3, 3], pbc=[True, False, False])
    with pytest.raises(DataError, match=r"0\.040 angstrom"):
        validate(from_ase(atoms))
    atoms.pbc = [False, True, True]
    validate(from_ase(atoms))


@pytest.mark.parametrize(
    "cell",
    [
        [[1e-3, 0, 0], [0, 5, 0], [0, 0, 5]],
        # Long vectors with a short difference.
        [[5, 0, 0], [4.96, 0.05, 0], [0, 0, 500]],
    ],
)
def test_an_atom_on_top_of_its_own_image(cell):
    atoms = Atoms("Si", cell=cell, pbc=True)
    with pytest.raises(DataError, match=r"repeats after 0\.0"):
        validate(from_ase(atoms))
    atoms.pbc = [False, False, True]
    validate(from_ase(atoms))


def test_overlap_agrees_with_a_direct_search():
    rng = np.random.default_rng(3)
    shifts = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3), -1).reshape(-1, 3)
    found = 0
    for _ in range(60):
        cell = np.eye(3) * 2.0 + rng.normal(size=(3, 3)) * 0.6
        pos = rng.uniform(-2, 4, size=(12, 3))
        pos[1] = pos[0] + rng.normal(size=3) * 0.06 + rng.integers(-2, 3, 3) @ cell
        fractional = np.linalg.solve(cell.T, pos.T).T
        delta = fractional[:, None] - fractional[None]
        delta -= np.round(delta)
        distances = np.linalg.norm((delta[..., None, :] + shifts) @ cell, axis=-1).min(-1)
        direct = (distances[np.triu_indices(12, 1)] < 0.1).any()
        data = from_ase(Atoms("H12", pos, cell=cell, pbc=True))
        if direct:
            found += 1
            with pytest.raises(DataError, match="angstrom from each other"):
                validate(data)
        else:
            validate(data)
    assert 10 < found < 60


def test_a_batch_is_checked_per_system():
    good = from_ase(molecule("H2O"), sid="good")
    bad = from_ase(Atoms("H2", [[0, 0, 0], [0, 0, 0.01]]), sid="bad")
    validate(collate([good, good]))
    with pytest.raises(DataError, match="'bad'"):
        validate(collate([good, bad]))
