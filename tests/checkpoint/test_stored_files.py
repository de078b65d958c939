"""A file of every format version that was ever released is still read, to the last digit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from ase import Atoms

from adatom.checkpoint.format import load_potential, verify
from adatom.checkpoint.names import EMBEDDED
from adatom.checkpoint.upgrades import FORMAT_VERSION
from adatom.data.ase_convert import from_ase
from adatom.tasks.metrics import check_metrics

#: Energy of a water molecule (eV) and force on its oxygen (eV/angstrom), by format version.
STORED = {
    1: (-0.8112383814062787, [0.007054477072512338, 0.009655615169263084, 0.0009620007162753743]),
}


def stored_file(version):
    return Path(__file__).parent / "files" / f"format_{version}.safetensors"


@pytest.mark.parametrize("version", STORED)
def test_a_stored_file_gives_its_numbers(version):
    energy, force = STORED[version]
    verify(stored_file(version))
    potential = load_potential(stored_file(version), dtype=torch.float64)
    atoms = Atoms("OH2", positions=[[0, 0, 0], [0.9, 0.1, 0], [-0.2, 0.9, 0.1]])
    data = from_ase(atoms, dataset="fine").with_edges(potential.cutoff)
    predicted = potential.denormalize(potential(data), data)
    assert predicted["energy"].item() == pytest.approx(energy, abs=1e-12)
    assert predicted["forces"][0].tolist() == pytest.approx(force, abs=1e-12)
    assert potential.metadata["license"] == "CC-BY-4.0"


def test_the_current_version_has_a_stored_file():
    assert FORMAT_VERSION in STORED
    assert stored_file(FORMAT_VERSION).is_file()


def test_metrics_of_the_embedded_potential_have_their_present_names():
    for task in load_potential(EMBEDDED["default"]).tasks:
        check_metrics(task.property, task.metrics)
