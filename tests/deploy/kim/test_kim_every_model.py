"""Every model as a portable model of KIM gives what it gives in its cell, and passes the checks."""

from __future__ import annotations

import json

import pytest
from kim_models import MODELS, TOYS

from adatom.cli import main as cli
from adatom.deploy.kim.calculator import KimCalculator
from adatom.deploy.kim.kim_model import KimModel

pytestmark = pytest.mark.slow

#: Networks that treat rotations as symmetries, not reflections; the check is informational.
CHIRAL = ("escn_md", "uma", "default")
#: Toys have a test of their own.
NETWORKS = [each for each in MODELS if each not in TOYS]


@pytest.mark.parametrize("tested", NETWORKS, indirect=True)
def test_kim_gives_what_the_potential_gives(tested):
    portable, compared = KimCalculator(tested.name), tested.structures()
    assert len(compared) >= 4
    per_atom = "energies" in tested.native.implemented_properties
    for label, atoms in compared.items():
        atoms.calc = tested.native
        energy, forces = atoms.get_potential_energy(), atoms.get_forces()
        energies = atoms.get_potential_energies() if per_atom else None
        stress = atoms.get_stress() if atoms.cell.rank == 3 else None
        atoms.calc = portable
        assert atoms.get_potential_energy() == pytest.approx(energy, abs=1e-10), label
        assert atoms.get_forces() == pytest.approx(forces, abs=1e-10), label
        assert atoms.get_potential_energies() == pytest.approx(energies, abs=1e-10), label
        if stress is not None:
            assert atoms.get_stress() == pytest.approx(stress, abs=1e-10), label
            assert atoms.get_stresses().sum(axis=0) == pytest.approx(stress, abs=1e-10), label
    portable.close()


def test_verification_passes(tested, tmp_path, monkeypatch, capsys):
    if tested.composition:
        # Its structures have any composition.
        monkeypatch.setenv("ADATOM_KIM_COMPOSITION", "any")
    path = tmp_path / "found.json"
    assert cli.main(["kim", "verify", tested.name, "--json", str(path)]) == cli.OK
    found = {each["check"]: each for each in json.loads(path.read_text())["checks"]}
    failed = {name for name, each in found.items() if each["verdict"] != "passed"}
    assert failed == ({"inversion"} if tested.label in CHIRAL else set())
    assert found["forces"]["grade"] == "A"
    assert found["threads"]["value"] == 0
    assert found["units"]["value"] < 1e-6
    assert f"Verification of {tested.name}, double precision" in capsys.readouterr().out


@pytest.mark.parametrize("tested", ["default"], indirect=True)
def test_the_domain_is_that_of_the_task(tested):
    with KimModel(tested.name) as model:
        assert model.species_codes == {"Si": 0}
        assert "partialParticleVirial" in model.supported
