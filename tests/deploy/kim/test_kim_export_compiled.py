"""Exported potentials that are compiled ahead of time give what the potentials give."""

from __future__ import annotations

import pytest
from kim_potentials import Native, make_potential
from kim_systems import named_systems

from adatom.deploy.kim.calculator import KimCalculator
from adatom.deploy.kim.export import ExportOptions, export_potential
from adatom.deploy.kim.model_install import install_model

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", ["gcn", "escn", "egnn", "dimenet"])
def test_a_compiled_potential_gives_what_it_gives_in_its_cell(name, kim_driver, tmp_path):
    potential = make_potential(name)
    options = ExportOptions(
        name=f"Compiled_{name}__MO_700000000003_000",
        species=("Si", "C"),
        backend="aotinductor",
    )
    folder = export_potential(potential, options, tmp_path / "model", provenance={}).folder
    calculator = KimCalculator(install_model(folder, "environment").name)
    native = Native(potential)
    for label, atoms in named_systems().items():
        expected = native(atoms)
        atoms.calc = calculator
        assert atoms.get_potential_energy() == pytest.approx(expected["energy"], abs=1e-9), label
        assert atoms.get_potential_energies() == pytest.approx(expected["energies"], abs=1e-10)
        assert atoms.get_forces() == pytest.approx(expected["forces"], abs=1e-10), label
        if expected["stress"] is not None:
            assert atoms.get_stress() == pytest.approx(expected["stress"], abs=1e-10), label
