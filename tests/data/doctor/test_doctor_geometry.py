"""Distances, cells and periodicity: constructed mistakes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from doctor_structures import codes, crystals, the

from adatom.data.ase_convert import from_ase
from adatom.data.doctor import check_dataset
from adatom.data.survey import survey


def one(atoms: Atoms) -> set[str]:
    return codes(check_dataset([from_ase(atoms, sid="x")])) - {"no-labels"}


def test_overlapping_and_compressed_atoms() -> None:
    systems = [from_ase(Atoms("Cu2", [[0, 0, 0], [0, 0, d]]), sid=str(d)) for d in (0.5, 1.4, 2.2)]
    findings = [f for f in check_dataset(systems) if f.code == "short-distances"]
    assert [(f.severity, f.sids) for f in findings] == [("error", ("0.5",)), ("warning", ("1.4",))]
    assert "Cu-Cu at 0.500" in findings[0].message


def test_periodic_without_a_cell() -> None:
    system = from_ase(molecule("H2O"), sid="x")
    system = replace(system, pbc=torch.ones(1, 3, dtype=torch.bool))
    finding = the(check_dataset([system]), "zero-cell")
    assert (finding.severity, finding.sids) == ("error", ("x",))


def test_slab_with_a_partial_cell_is_fine() -> None:
    slab = fcc111("Cu", (2, 2, 3))
    assert not slab.cell.array[2].any() or not slab.pbc[2]
    assert one(slab) == set()


def test_tiny_left_handed_and_crowded_cells() -> None:
    assert "tiny-volume" in one(Atoms("Cu", cell=[1.0, 1.0, 1.0], pbc=True))
    atoms = bulk("Cu", cubic=True)
    assert one(atoms) == set()
    atoms.set_cell(atoms.cell.array[[1, 0, 2]])
    assert one(atoms) == {"left-handed-cell"}
    water = molecule("H2O", vacuum=1.0)
    water.pbc = True
    assert one(water) == {"crowded-molecule"}
    water.center(vacuum=5.0)
    assert one(water) == set()


def test_molecular_crystal_and_chain_are_not_crowded_molecules() -> None:
    two = molecule("H2O", vacuum=1.5)
    other = molecule("H2O")
    other.positions += two.positions[0] + [0.0, 0.0, 3.0]
    two += other
    two.set_cell([4.0, 4.0, 6.0])
    two.pbc = True
    assert "crowded-molecule" not in one(two)
    chain = Atoms("C2", [[0, 0, 0], [1.3, 0, 0]], cell=[2.6, 4, 4], pbc=True)
    assert "crowded-molecule" not in one(chain)


def test_atoms_far_outside_the_cell_are_only_mentioned() -> None:
    atoms = bulk("Cu", cubic=True)
    atoms.positions[0] += 3 * atoms.cell.array[1]
    finding = the(check_dataset([from_ase(atoms, sid="x")]), "atoms-outside")
    assert finding.severity == "info"


def test_fingerprint_is_invariant_and_a_contraction() -> None:
    random = np.random.default_rng(0)
    atoms = bulk("NaCl", "rocksalt", a=5.6, cubic=True)
    atoms.positions += 0.05 * random.normal(size=atoms.positions.shape)
    moved = atoms[random.permutation(len(atoms))]
    moved.rotate(35, (1, 2, 3), rotate_cell=True)
    moved.positions += 1.7
    moved.wrap()
    rattled = atoms.copy()
    rattled.positions += 0.01 * random.normal(size=atoms.positions.shape)
    swapped = atoms.copy()
    swapped.numbers = swapped.numbers[[0, 2, 1, 3, 4, 5, 6, 7]]
    systems = [atoms, moved, atoms.repeat((2, 1, 1)), rattled, swapped]
    prints = survey([from_ase(a, sid="x") for a in systems]).fingerprint
    assert np.abs(prints[1] - prints[0]).max() < 1e-10
    assert np.abs(prints[2] - prints[0]).max() < 1e-10
    assert 1e-4 < np.abs(prints[3] - prints[0]).max() < 0.05
    assert np.abs(prints[4] - prints[0]).max() > 1e-3


def test_survey_columns_of_a_known_crystal() -> None:
    columns = survey(crystals(3))
    atoms = crystals(3)[1].to_ase()[0]
    assert columns.volume[1] == pytest.approx(atoms.get_volume())
    images = atoms.repeat((3, 3, 3)).get_all_distances()
    assert columns.min_distance[1] == pytest.approx(images[images > 0].min())
    assert columns.force_max[1] == pytest.approx(np.linalg.norm(atoms.get_forces(), axis=1).max())
    assert columns.stress_trace[1] == pytest.approx(atoms.get_stress()[:3].mean())
