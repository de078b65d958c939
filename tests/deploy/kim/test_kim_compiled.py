"""Models that are exported with their derivatives and compiled when they are installed."""

from __future__ import annotations

import pytest
from kim_systems import named_systems, silicon_carbide
from kim_toys import GraphToy, RawToy, description, direct

from adatom.core.errors import ConfigError, DataError
from adatom.deploy.kim.calculator import KimCalculator
from adatom.deploy.kim.compiled_model import compile_in_folder
from adatom.deploy.kim.configuration import make_configuration
from adatom.deploy.kim.exported_model import save_exported
from adatom.deploy.kim.model_install import install_model
from adatom.deploy.kim.portable_model import write_portable_model

pytestmark = pytest.mark.slow

CODES = {"Si": 0, "C": 1}


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    """Return a network and the folder of its exported program."""
    model, folder = GraphToy(), tmp_path_factory.mktemp("compiled")
    about = description(
        model,
        name="Compiled__MO_600000000000_000",
        backend="aotinductor",
        model_file="model.pt2",
        outputs=("energy", "forces", "particle_energies", "particle_virial"),
        edge_vectors=False,
    )
    example = make_configuration(silicon_carbide(1), CODES, about.influence_distance)
    program = save_exported(model, about, example, folder / "model.ep")
    return model, write_portable_model(folder / "folder", about, program, provenance={})


def test_compiled_model_gives_what_the_potential_gives(shipped, kim_driver):
    model, folder = shipped
    calculator = KimCalculator(install_model(folder, "environment").name)
    for label, atoms in named_systems().items():
        expected = direct(model, atoms)
        atoms.calc = calculator
        assert atoms.get_potential_energy() == pytest.approx(expected.energy, abs=1e-10), label
        assert atoms.get_forces() == pytest.approx(expected.forces, abs=1e-10), label
        energies = atoms.get_potential_energies()
        assert energies == pytest.approx(expected.energies, abs=1e-10), label
        if expected.stress is not None:
            assert atoms.get_stress() == pytest.approx(expected.stress, abs=1e-10), label
            shares = atoms.get_stresses().sum(axis=0)
            assert shares == pytest.approx(expected.stress, abs=1e-10), label


def test_damaged_programs_are_not_compiled(shipped):
    _, folder = shipped
    program = folder / "model.ep"
    content = bytearray(program.read_bytes())
    content[len(content) // 2] ^= 1
    program.write_bytes(content)
    with pytest.raises(DataError, match="damaged: its SHA-256"):
        compile_in_folder(folder)


def test_only_graphs_are_exported(tmp_path):
    about = description(RawToy())
    configuration = make_configuration(silicon_carbide(1), CODES, 4.0)
    with pytest.raises(ConfigError, match="raw model is to be compiled"):
        save_exported(RawToy(), about, configuration, tmp_path / "model.ep")
