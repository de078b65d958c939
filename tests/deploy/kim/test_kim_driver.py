"""The driver in KIM, through ctypes and ASE, against the potential in its cell."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import units
from kim_systems import named_systems, random_cell, silicon_carbide
from kim_toys import GraphToy, RawToy, RawToyWithForces, description, direct

from adatom.deploy.kim import kim_model
from adatom.deploy.kim.calculator import KimCalculator
from adatom.deploy.kim.configuration import Configuration, make_configuration
from adatom.deploy.kim.emulator import emulate
from adatom.deploy.kim.kim_model import KimModel
from adatom.deploy.kim.libkim import KimLibrary
from adatom.deploy.kim.neighbor_lists import neighbor_lists

SYSTEMS = named_systems()
TOYS = {"Raw": RawToy, "RawWithForces": RawToyWithForces, "Graph": GraphToy}
#: KIM 2.3 converts with older constants of nature than ASE.
CONSTANTS = 1e-6


@pytest.fixture(scope="module", params=TOYS)
def toy(request, install):
    """Return a model and the name that it was installed under."""
    model = TOYS[request.param]()
    name = f"{request.param}__MO_100000000000_000"
    return model, install(model, description(model, name=name))


@pytest.fixture(scope="module")
def graph(install):
    model = GraphToy()
    return model, install(model, description(model, name="Graph__MO_200000000000_000"))


def everything(model: KimModel) -> list[str]:
    return [name for name in model.supported if name != "partialEnergy"]


def shuffled(configuration: Configuration, seed: int = 0) -> Configuration:
    """Return the same particles, ghosts between atoms."""
    order = np.random.default_rng(seed).permutation(len(configuration.species))
    return Configuration(
        species=configuration.species[order],
        coordinates=configuration.coordinates[order],
        contributing=configuration.contributing[order],
        image_of=configuration.image_of[order],
    )


def test_ase_gives_what_the_potential_gives_in_its_cell(toy):
    model, name = toy
    calculator = KimCalculator(name)
    systems = SYSTEMS | {f"random {seed}": random_cell(seed) for seed in range(10)}
    for label, atoms in systems.items():
        expected = direct(model, atoms)
        atoms.calc = calculator
        assert atoms.get_potential_energy() == pytest.approx(expected.energy, abs=1e-10), label
        assert atoms.get_forces() == pytest.approx(expected.forces, abs=1e-10), label
        if expected.stress is not None:
            assert atoms.get_stress() == pytest.approx(expected.stress, abs=1e-10), label
        if "energies" in calculator.implemented_properties:
            energies = atoms.get_potential_energies()
            assert energies == pytest.approx(expected.energies, abs=1e-10), label
    calculator.close()


def test_driver_and_emulator_agree_particle_by_particle(toy):
    model, name = toy
    with KimModel(name) as opened:
        about = description(model)
        configuration = shuffled(
            make_configuration(SYSTEMS["slab"], opened.species_codes, opened.influence_distance)
        )
        found = opened.compute(configuration, everything(opened))
    expected = emulate(model, about, configuration, particle_virial=about.edge_vectors)
    assert found.energy == pytest.approx(expected.energy, abs=1e-11)
    assert found.forces == pytest.approx(expected.forces, abs=1e-12)
    assert found.virial == pytest.approx(expected.virial, abs=1e-10)
    if about.edge_vectors:
        assert found.particle_energies == pytest.approx(expected.particle_energies, abs=1e-12)
        assert found.particle_virial == pytest.approx(expected.particle_virial, abs=1e-12)


def test_lists_with_a_skin_and_no_contributing_particles(toy, monkeypatch):
    _, name = toy
    with KimModel(name) as opened:
        atoms = SYSTEMS["one cell"]
        configuration = make_configuration(
            atoms, opened.species_codes, opened.influence_distance + 1.0
        )
        expected = opened.compute(configuration, everything(opened))
        monkeypatch.setattr(
            kim_model,
            "neighbor_lists",
            lambda particles, cutoff, of_ghosts: neighbor_lists(
                particles, cutoff + 1.0, of_ghosts=of_ghosts
            ),
        )
        found = opened.compute(configuration, everything(opened))
        assert found.forces == pytest.approx(expected.forces, abs=1e-13)
        empty = replace(configuration, contributing=np.zeros(len(configuration.species), bool))
        nothing = opened.compute(empty, everything(opened))
    assert nothing.energy == 0.0
    assert not nothing.forces.any()
    assert not nothing.virial.any()


@pytest.mark.parametrize(
    ("length", "energy", "angstrom", "electronvolt"),
    [
        ("Bohr", "Hartree", 1 / units.Bohr, 1 / units.Hartree),
        ("nm", "kcal_mol", 0.1, units.mol / units.kcal),
        ("cm", "erg", 1e-8, 1e7 / units.J),
        ("m", "J", 1e-10, 1 / units.J),
        ("A", "amu_A2_per_ps2", 1.0, (1000 * units.fs) ** 2),
    ],
)
def test_all_units_of_kim(graph, length, energy, angstrom, electronvolt):
    model, name = graph
    atoms = SYSTEMS["bulk"]
    expected = direct(model, atoms)
    with KimModel(name, length=length, energy=energy) as opened:
        assert opened.influence_distance == pytest.approx(6.4 * angstrom, rel=CONSTANTS)
        configuration = make_configuration(atoms, opened.species_codes, 6.4)
        scaled = replace(configuration, coordinates=configuration.coordinates * angstrom)
        found = opened.compute(scaled, everything(opened))
    assert found.energy == pytest.approx(expected.energy * electronvolt, rel=CONSTANTS)
    forces = configuration.onto_atoms(found.forces) * angstrom / electronvolt
    assert forces == pytest.approx(expected.forces, abs=10 * CONSTANTS)
    stress = found.virial / electronvolt / atoms.get_volume()
    assert stress == pytest.approx(expected.stress, abs=CONSTANTS)
    assert found.particle_virial.sum(axis=0) == pytest.approx(found.virial, rel=1e-9)
    assert found.particle_energies.sum() == pytest.approx(found.energy, rel=1e-12)


def test_other_bindings_may_hold_pythons_lock(toy):
    """Autograd refuses to run under the lock, and lists come from a function that needs it."""
    _, name = toy
    with KimModel(name, library=KimLibrary(ctypes.PyDLL)) as opened, KimModel(name) as other:
        configuration = make_configuration(
            SYSTEMS["slab"], opened.species_codes, opened.influence_distance
        )
        found, expected = (each.compute(configuration) for each in (opened, other))
    assert (found.forces == expected.forces).all()


@pytest.mark.slow
def test_torch_may_be_imported_before_or_after(graph):
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from ase import Atoms
from adatom.deploy.kim.calculator import KimCalculator
atoms = Atoms("SiC", [[0, 0, 0], [0, 0, 1.8]])
atoms.calc = KimCalculator({graph[1]!r})
energy = atoms.get_potential_energy()
assert "torch" not in sys.modules
import torch
torch.ones(2, requires_grad=True).sum().backward()
atoms.calc.reset()
assert atoms.get_potential_energy() == energy
atoms.calc = KimCalculator({graph[1]!r})
assert atoms.get_potential_energy() == energy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_threads_get_identical_numbers_and_torch_keeps_its_own(toy):
    _, name = toy
    before = torch.get_num_threads()
    with KimModel(name) as opened:
        systems = [
            make_configuration(
                silicon_carbide(1, seed=seed), opened.species_codes, opened.influence_distance
            )
            for seed in range(4)
        ]
        alone = [opened.compute(each).forces for each in systems]
        with ThreadPoolExecutor(4) as pool:
            for _ in range(3):
                together = list(pool.map(lambda each: opened.compute(each).forces, systems))
                assert all((a == b).all() for a, b in zip(alone, together, strict=True))
    assert torch.get_num_threads() == before


@pytest.mark.slow
def test_memory_stays_flat_and_no_files_are_left(graph):
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    def leftovers() -> set[Path]:
        return set(Path("/tmp").glob("kim-shared-library-parameter-file-directory-*"))

    _, name = graph
    there = leftovers()
    with KimModel(name) as opened:
        configuration = make_configuration(SYSTEMS["one cell"], opened.species_codes, 6.4)
        for _ in range(100):
            opened.compute(configuration)
        for _ in range(5):
            KimModel(name).close()
        before = resident()
        for _ in range(2000):
            opened.compute(configuration)
        evaluated = resident()
    for _ in range(100):
        KimModel(name).close()
    assert evaluated - before < 5e6
    assert resident() - evaluated < 5e6
    assert leftovers() <= there
