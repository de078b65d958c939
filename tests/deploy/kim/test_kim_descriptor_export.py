"""Descriptor networks as portable models: emulated, refused, and run by the driver."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase.build import bulk
from kim_descriptors import DESCRIPTORS, direct, make_potential
from kim_systems import named_systems, random_cell, silicon_carbide

from adatom.calculators.ase_calculator import MLIPCalculator
from adatom.core.errors import ConfigError, OutOfDomainError, UnknownNameError
from adatom.data.ase_convert import from_ase
from adatom.deploy.kim import descriptor_export
from adatom.deploy.kim.calculator import KimCalculator
from adatom.deploy.kim.configuration import Configuration, make_configuration
from adatom.deploy.kim.descriptor_file import read_descriptor_file
from adatom.deploy.kim.descriptor_function import descriptor_function
from adatom.deploy.kim.emulator import emulate
from adatom.deploy.kim.export import ExportOptions, export_potential
from adatom.deploy.kim.export_check import ExportError
from adatom.deploy.kim.items import install_item
from adatom.deploy.kim.kim_model import KimModel
from adatom.deploy.kim.libkim import KimError
from adatom.deploy.kim.model_install import install_model
from adatom.deploy.kim.model_json import read_model_json
from adatom.deploy.kim.parameter_file import read_parameter_file
from adatom.deploy.kim.scripted_model import quiet_torchscript
from adatom.models.energy_head import EnergyHead
from adatom.models.gcn import GraphConvModel

NAME = "Descriptor__MO_300000000000_000"


def export(potential, folder, name=NAME, **options):
    """Write a model of the pattern descriptor and return its folder."""
    chosen = ExportOptions(name=name, pattern="descriptor", **options)
    return export_potential(potential, chosen, folder, provenance={}).folder


def shuffled(configuration: Configuration) -> Configuration:
    """Return the same particles, ghosts between atoms."""
    order = np.random.default_rng(0).permutation(len(configuration.species))
    return Configuration(
        species=configuration.species[order],
        coordinates=configuration.coordinates[order],
        contributing=configuration.contributing[order],
        image_of=configuration.image_of[order],
    )


def emulated(folder, atoms, **kwargs):
    """Evaluate the files of a folder, ghosts between atoms."""
    about, _ = read_model_json(folder)
    with quiet_torchscript():
        network = torch.jit.load(folder / about.model_file)
    file = read_descriptor_file(folder / "descriptor.dat", about.descriptor)
    function = descriptor_function(file.descriptor(about.species))
    codes = {symbol: code for code, symbol in enumerate(about.species)}
    configuration = shuffled(make_configuration(atoms, codes, about.influence_distance))
    return configuration, emulate(network, about, configuration, descriptor=function, **kwargs)


@pytest.mark.parametrize("kind", DESCRIPTORS)
def test_folder_gives_what_the_potential_gives(kind, tmp_path):
    potential = make_potential(kind)
    potential.backbone.learn_scales([from_ase(silicon_carbide(1))])
    folder = export(potential, tmp_path / "model")
    assert read_parameter_file(folder / "adatom.param").descriptor == kind.lower()
    for label, atoms in named_systems().items():
        energy, forces = direct(potential, atoms)
        configuration, found = emulated(folder, atoms)
        assert found.energy == pytest.approx(energy, abs=1e-10), label
        assert configuration.onto_atoms(found.forces) == pytest.approx(forces, abs=1e-10), label


def test_a_single_species_may_have_a_network_and_a_reference_of_its_own(tmp_path):
    potential = make_potential("SymmetryFunctions", ("Si",), per_element=True)
    folder = export(potential, tmp_path / "model")
    atoms = bulk("Si")
    energy, _ = direct(potential, atoms)
    assert emulated(folder, atoms)[1].energy == pytest.approx(energy, abs=1e-10)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"per_element": True}, "layers of its own for each of Si, C"),
        ({"same_references": False}, "element references of Si, C differ"),
        ({"max_neighbors": 20}, "at most 20 neighbors"),
        ({"resolved": True}, "resolved by species"),
    ],
)
def test_what_the_driver_could_not_tell_apart_is_refused(changes, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        export(make_potential("SymmetryFunctions", **changes), tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_options_that_the_pattern_cannot_follow_are_refused(tmp_path):
    potential = make_potential("SymmetryFunctions")
    for error, options, message in (
        (ConfigError, {"species": ("Si",)}, "those of the descriptor, Si, C"),
        (ConfigError, {"composition": "SiC"}, "no weights depend on it"),
        (ConfigError, {"backend": "aotinductor"}, "the backend script"),
        (OutOfDomainError, {"charge": 1}, "charge 1"),
    ):
        with pytest.raises(error, match=message):
            export(potential, tmp_path / "model", **options)


def test_single_precision_is_that_of_the_layers_only(tmp_path):
    potential = make_potential("SymmetryFunctions")
    folder = export(potential, tmp_path / "model", dtype=torch.float32)
    atoms = silicon_carbide(1)
    energy, forces = direct(potential, atoms)
    configuration, found = emulated(folder, atoms)
    assert read_model_json(folder)[0].dtype == "float32"
    assert found.energy == pytest.approx(energy, abs=1e-4)
    assert abs(found.energy - energy) > 1e-12
    assert configuration.onto_atoms(found.forces) == pytest.approx(forces, abs=1e-4)


def test_other_networks_and_datasets_are_refused(tmp_path):
    potential = make_potential("SymmetryFunctions")
    with pytest.raises(UnknownNameError, match="Unknown task 'other'"):
        export(potential, tmp_path / "model", dataset="other")
    potential.head = EnergyHead(6, None, reduce="mean")
    with pytest.raises(ConfigError, match="sums over atoms"):
        export(potential, tmp_path / "model")
    potential.backbone = GraphConvModel()
    with pytest.raises(ConfigError, match="GraphConvModel has no descriptor"):
        export(potential, tmp_path / "model")


def test_a_wrong_model_is_not_written(tmp_path, monkeypatch):
    potential = make_potential("SymmetryFunctions")
    text = descriptor_export.descriptor_file_text(potential.backbone.descriptor)
    monkeypatch.setattr(
        descriptor_export, "descriptor_file_text", lambda _: text.replace("1.1 ", "1.2 ")
    )
    with pytest.raises(ExportError, match="differs from the potential by"):
        export(potential, tmp_path / "model")
    assert not (tmp_path / "model").exists()


@pytest.fixture(scope="module", params=DESCRIPTORS)
def installed(request, kim_driver, tmp_path_factory):
    """Install a portable model of each kind; give its potential and its name."""
    potential = make_potential(request.param)
    number = list(DESCRIPTORS).index(request.param)
    name = f"Descriptor__MO_30000000000{number}_000"
    folder = tmp_path_factory.mktemp("model") / name
    export(potential, folder, name)
    install_model(folder, "environment")
    return potential, name, folder


@pytest.mark.slow
def test_driver_gives_what_the_potential_gives(installed):
    potential, name, _ = installed
    calculator, native = KimCalculator(name), MLIPCalculator(potential)
    systems = named_systems() | {f"random {seed}": random_cell(seed) for seed in range(10)}
    for label, atoms in systems.items():
        energy, forces = direct(potential, atoms)
        atoms.calc = native
        energies = atoms.get_potential_energies()
        stress = atoms.get_stress() if atoms.cell.rank == 3 else None
        atoms.calc = calculator
        assert atoms.get_potential_energy() == pytest.approx(energy, abs=1e-10), label
        assert atoms.get_forces() == pytest.approx(forces, abs=1e-10), label
        assert atoms.get_potential_energies() == pytest.approx(energies, abs=1e-10), label
        if stress is not None:
            assert atoms.get_stress() == pytest.approx(stress, abs=1e-10), label
    calculator.close()


@pytest.mark.slow
def test_driver_and_python_agree_particle_by_particle(installed):
    _, name, folder = installed
    # Of the larger system one part after the other is computed.
    for atoms in (named_systems()["slab"], silicon_carbide(5)):
        configuration, expected = emulated(folder, atoms)
        with KimModel(name) as opened:
            found = opened.compute(configuration)
            energies = opened.compute(configuration, ["partialParticleEnergy"]).particle_energies
        scale = max(1.0, np.abs(expected.forces).max())
        assert energies == pytest.approx(expected.particle_energies, abs=1e-12)
        assert found.forces == pytest.approx(expected.forces, abs=1e-12 * scale)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "kind", "change"),
    [
        (0, "SymmetryFunctions", lambda text: text.replace("g1    1    1\n0.0 ", "g1 ")),
        (1, "SOAP", lambda _: "# n_max\n3\n3\n4.0\n0.7\npolynomial\n2\nC Si\n"),
    ],
)
def test_driver_reads_what_others_write(kim_driver, tmp_path, number, kind, change):
    name = f"Descriptor__MO_32000000000{number}_000"
    folder = tmp_path / "model"
    export(make_potential(kind), folder, name)
    file = folder / "descriptor.dat"
    text = file.read_text()
    file.write_text(change(text))
    assert file.read_text() != text
    install_item(folder, name, "environment")
    configuration, expected = emulated(folder, named_systems()["slab"])
    with KimModel(name) as opened:
        found = opened.compute(configuration)
    assert found.energy == pytest.approx(expected.energy, abs=1e-11)
    assert found.forces == pytest.approx(expected.forces, abs=1e-12)


@pytest.mark.slow
def test_species_may_come_as_atomic_numbers(installed, monkeypatch):
    _, name, _ = installed
    codes = {"Si": 0, "C": 1}
    configuration = make_configuration(named_systems()["slab"], codes, 4.0)
    with KimModel(name) as opened:
        expected = opened.compute(configuration)
    monkeypatch.setenv("KIM_MODEL_ELEMENTS_MAP", "1")
    with KimModel(name) as opened:
        found = opened.compute(configuration)
    assert found.energy == expected.energy
    assert (found.forces == expected.forces).all()


@pytest.mark.slow
@pytest.mark.parametrize("kind", DESCRIPTORS)
def test_networks_of_several_elements_go_the_raw_way(kind, tmp_path):
    potential = make_potential(kind, per_element=True, same_references=False)
    options = ExportOptions(name=NAME, pattern="raw")
    found = export_potential(potential, options, tmp_path / "model", provenance={})
    assert max(found.differences.values()) < 1e-10


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "old", "new", "message"),
    [
        (0, "cos", "tanh", "'tanh' for the cutoff function"),
        (1, "Si  C  3.6", "Si  C  3.5", "two different cutoffs for"),
        (2, "Si  Si  4.0", "Si  Si  4.5", "longest cutoff is 4.5"),
        (3, "g3 ", "g9 ", "'g9' for a symmetry function"),
        (4, "ize  False\n\n6", "ize  True\n\n6 0.5 1 #", "first step of the network"),
    ],
)
def test_driver_names_what_is_wrong_with_a_file(kim_driver, tmp_path, number, old, new, message):
    name = f"Descriptor__MO_31000000000{number}_000"
    folder = tmp_path / "model"
    export(make_potential("SymmetryFunctions"), folder, name)
    file = folder / "descriptor.dat"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new).partition("# mean")[0])
    install_item(folder, name, "environment")
    with pytest.raises(KimError, match=message):
        KimModel(name)
