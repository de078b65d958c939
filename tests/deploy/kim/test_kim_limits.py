"""The driver gives directed graphs to models that want them, and refuses what they are not for."""

from __future__ import annotations

import pytest
from ase import Atoms
from kim_systems import named_systems, silicon_carbide
from kim_toys import GraphToy, description, direct

from adatom.deploy.kim.calculator import KimCalculator
from adatom.deploy.kim.libkim import KimError


@pytest.fixture(scope="module")
def directed(install):
    """Return a graph model for equal numbers of both elements, and for few neighbors."""
    model = GraphToy()
    about = description(
        model,
        name="Directed__MO_700000000001_000",
        directed_edges=True,
        composition=(1, 1),
        max_neighbors=40,
    )
    return model, install(model, about)


def test_directed_graphs_give_what_the_potential_gives(directed, monkeypatch):
    model, name = directed
    monkeypatch.setenv("ADATOM_KIM_COMPOSITION", "any")
    calculator = KimCalculator(name)
    for label, atoms in named_systems().items():
        expected = direct(model, atoms)
        atoms.calc = calculator
        assert atoms.get_potential_energy() == pytest.approx(expected.energy, abs=1e-10), label
        assert atoms.get_forces() == pytest.approx(expected.forces, abs=1e-10), label
        if expected.stress is not None:
            assert atoms.get_stress() == pytest.approx(expected.stress, abs=1e-10), label


def test_another_composition_is_refused_where_the_whole_system_is_seen(directed, monkeypatch):
    _, name = directed
    atoms = silicon_carbide(1)
    atoms.calc = KimCalculator(name)
    atoms.get_potential_energy()
    del atoms[0]
    with pytest.raises(KimError, match="Si3C4, and the weights of this model are for SiC"):
        atoms.get_potential_energy()
    # One of two processes holds a part of the system, which may be anything.
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    atoms.calc = KimCalculator(name)
    atoms.get_potential_energy()


def test_more_neighbors_than_the_network_takes_are_refused(directed):
    _, name = directed
    dense = Atoms("SiC", [[0, 0, 0], [0.7, 0.7, 0.7]], cell=[1.4, 1.4, 1.4], pbc=True)
    dense.calc = KimCalculator(name)
    with pytest.raises(KimError, match=r"neighbours within the cutoff.*nearest 40"):
        dense.get_potential_energy()
