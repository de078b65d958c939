"""Stillinger-Weber as a network against KIM's own, through the same binding."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk, surface
from kim_silicon import NATIVE, StillingerWeber, native_parameters, silicon_description

from adatom.deploy.kim.calculator import KimCalculator
from adatom.deploy.kim.configuration import make_configuration
from adatom.deploy.kim.emulator import emulate
from adatom.deploy.kim.items import find_item
from adatom.deploy.kim.kim_model import KimModel
from adatom.deploy.kim.libkim import KimError

NAME = "StillingerWeber__MO_700000000000_000"


@pytest.fixture(scope="module")
def native():
    """Open KIM's own model."""
    try:
        found = find_item(NATIVE)
    except KimError as error:
        pytest.skip(str(error))
    if found is None:
        pytest.skip("needs the models that come with KIM: apt-get install openkim-models")
    with KimModel(NATIVE) as model:
        yield model


def silicon():
    """Return 20 structures: bulk, cells of two atoms, slabs, clusters, a dimer, an atom."""
    found = []
    for seed in range(5):
        crystal = bulk("Si", cubic=True) * (2, 1, 1)
        primitive = bulk("Si")
        slab = surface(bulk("Si", cubic=True), (1, 1, 1), 2, vacuum=6.0)
        cluster = bulk("Si", cubic=True)
        cluster.pbc = False
        for atoms in (crystal, primitive, slab, cluster):
            atoms.rattle(0.15, seed=seed)
        found += [crystal, primitive, slab, cluster]
    found[-1] = found[-1][:2]
    found[-5] = found[-5][:1]
    return found


def test_emulated_network_is_the_native_model(native):
    model = StillingerWeber(native_parameters())
    about = silicon_description(model, NAME)
    for atoms in silicon():
        configuration = make_configuration(atoms, native.species_codes, native.influence_distance)
        expected = native.compute(configuration, ["partialForces", "partialParticleEnergy"])
        found = emulate(model, about, configuration)
        assert found.energy == pytest.approx(expected.energy, abs=1e-10)
        assert found.forces == pytest.approx(expected.forces, abs=1e-11)


def test_binding_reads_what_kim_says(native):
    assert native.species_codes == {"Si": 0}
    assert native.influence_distance == pytest.approx(3.77118, abs=1e-5)
    configuration = make_configuration(bulk("Si"), native.species_codes, 4.0)
    with pytest.raises(KimError, match="does not compute partialParticle"):
        native.compute(configuration, ["partialParticleNothing"])
    with KimModel(NATIVE, length="Bohr", energy="Hartree") as other:
        ratio = other.influence_distance / native.influence_distance
    assert ratio == pytest.approx(1.8897, abs=1e-4)


def test_stress_of_the_calculator_is_the_slope_of_the_energy(native):
    atoms = bulk("Si", cubic=True)
    atoms.rattle(0.1, seed=1)
    atoms.calc = KimCalculator(native)
    stress, cell, step = atoms.get_stress(), atoms.cell.array.copy(), 1e-4
    energies = []
    for sign in (1, -1):
        shear = np.eye(3)
        shear[0, 1] = shear[1, 0] = sign * step / 2
        shear[2, 2] += sign * step
        atoms.set_cell(cell @ shear, scale_atoms=True)
        energies.append(atoms.get_potential_energy())
    slope = (energies[0] - energies[1]) / (2 * step) / abs(np.linalg.det(cell))
    assert slope == pytest.approx(stress[2] + stress[5], abs=1e-7)


@pytest.mark.slow
def test_driver_gives_what_the_native_model_gives(native, install):
    model = StillingerWeber(native_parameters())
    name = install(model, silicon_description(model, NAME))
    with KimModel(name) as opened:
        for atoms in silicon():
            configuration = make_configuration(
                atoms, native.species_codes, native.influence_distance
            )
            wanted = ["partialForces", "partialVirial", "partialParticleEnergy"]
            expected = native.compute(configuration, wanted)
            found = opened.compute(configuration, wanted)
            assert found.energy == pytest.approx(expected.energy, abs=1e-10)
            assert found.forces == pytest.approx(expected.forces, abs=1e-12)
            assert found.particle_energies.sum() == pytest.approx(expected.energy, abs=1e-10)
            assert found.virial == pytest.approx(expected.virial, rel=1e-12, abs=1e-12)
