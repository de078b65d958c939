"""The KIM contract in Python: ghosts, lists, staged graphs, and what follows from them."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.neighborlist import neighbor_list
from kim_systems import named_systems, random_cell, silicon_carbide
from kim_toys import (
    DescriptorToy,
    GraphToy,
    RawToy,
    RawToyWithForces,
    description,
    direct,
    radial_descriptor,
)

from adatom.core.errors import ConfigError, DataError, NonFiniteError, OutOfDomainError
from adatom.deploy.kim.configuration import make_configuration
from adatom.deploy.kim.emulator import emulate
from adatom.deploy.kim.inputs import FAR_AWAY, make_inputs, staged_graph
from adatom.deploy.kim.neighbor_lists import neighbor_lists, neighbor_pairs

CODES = {"Si": 0, "C": 1}
SYSTEMS = named_systems()
TOYS = (RawToy, RawToyWithForces, GraphToy, DescriptorToy)


def emulated(model, atoms: Atoms, **options):
    about = description(model)
    configuration = make_configuration(atoms, CODES, about.influence_distance)
    if isinstance(model, DescriptorToy):
        options["descriptor"] = radial_descriptor
    return configuration, emulate(model, about, configuration, **options)


@pytest.mark.parametrize("name", SYSTEMS)
@pytest.mark.parametrize("toy", TOYS)
def test_emulator_gives_what_the_potential_gives_in_its_cell(toy, name):
    atoms, model = SYSTEMS[name], toy()
    expected = direct(model, atoms)
    configuration, found = emulated(model, atoms)
    assert found.energy == pytest.approx(expected.energy, abs=1e-11)
    assert configuration.onto_atoms(found.forces) == pytest.approx(expected.forces, abs=1e-12)
    if found.particle_energies is not None:
        energies = configuration.onto_atoms(found.particle_energies)
        assert energies == pytest.approx(expected.energies, abs=1e-12)
    if expected.stress is not None:
        stress = found.virial / atoms.get_volume()
        assert stress == pytest.approx(expected.stress, abs=1e-12)


def test_staged_layers_agree_with_the_cyclic_graph_in_random_cells():
    model = GraphToy()
    for seed in range(25):
        atoms = random_cell(seed)
        expected = direct(model, atoms)
        configuration, found = emulated(model, atoms)
        assert found.energy == pytest.approx(expected.energy, abs=1e-11), seed
        forces = configuration.onto_atoms(found.forces)
        assert forces == pytest.approx(expected.forces, abs=1e-11), seed


@pytest.mark.parametrize("toy", [RawToy, GraphToy])
def test_virials_of_particles_add_up_to_the_virial(toy):
    _, found = emulated(toy(), silicon_carbide(1), particle_virial=True)
    _, without = emulated(toy(), silicon_carbide(1))
    assert found.particle_virial.sum(axis=0) == pytest.approx(found.virial, abs=1e-11)
    assert found.forces == pytest.approx(without.forces, abs=1e-13)


def brute_force_layers(atoms_lists, contributing, layers):
    """Apply the published definition, word for word, with sets."""
    layer = {i for i, c in enumerate(contributing) if c}
    graph = []
    for _ in range(layers):
        graph.append({pair for i in layer for j in atoms_lists[i] for pair in ((i, j), (j, i))})
        layer = {j for i in layer for j in atoms_lists[i]}
    return graph


def test_staged_graphs_follow_the_published_definition():
    for seed in range(200):
        layers = 1 + seed % 4
        cutoff = 2.2
        configuration = make_configuration(random_cell(seed), CODES, layers * cutoff)
        sender, receiver = neighbor_pairs(configuration.coordinates, cutoff)
        lists = defaultdict(list)
        for j, i in zip(sender.tolist(), receiver.tolist(), strict=True):
            lists[i].append(j)
        graph = staged_graph(sender, receiver, configuration.contributing, layers)
        expected = brute_force_layers(lists, configuration.contributing, layers)
        assert [set(map(tuple, edges.T.tolist())) for edges in graph] == expected
        assert all(len(set(map(tuple, edges.T.tolist()))) == edges.shape[1] for edges in graph)


def test_edges_are_sorted_by_the_receiving_atom():
    configuration = make_configuration(silicon_carbide(1), CODES, 6.4)
    arguments = make_inputs(description(GraphToy()), configuration).arguments
    for first, second in arguments[2:4]:
        order = np.lexsort((first.numpy(), second.numpy()))
        assert order.tolist() == list(range(len(order)))


@pytest.mark.parametrize("name", SYSTEMS)
def test_ghosts_are_all_images_within_the_influence_distance(name):
    atoms, distance = SYSTEMS[name], 5.1
    configuration = make_configuration(atoms, CODES, distance)
    lists = neighbor_lists(configuration, distance, of_ghosts=False)
    counts = np.diff(lists.start)[configuration.contributing]
    expected = np.bincount(neighbor_list("i", atoms, distance), minlength=len(atoms))
    assert counts.tolist() == expected.tolist()
    assert configuration.num_atoms == len(atoms)
    ghosts = ~configuration.contributing
    assert np.diff(lists.start)[ghosts].sum() == 0


def test_a_lone_atom_of_a_graph_gets_a_companion_far_away():
    configuration = make_configuration(SYSTEMS["lone atom"], CODES, 6.4)
    species, coordinates, *graph, batch = make_inputs(
        description(GraphToy()), configuration
    ).arguments
    assert species.tolist() == [1, 1]
    assert coordinates[1].tolist() == [FAR_AWAY] * 3
    assert [edges.shape for edges in graph] == [(2, 0), (2, 0)]
    assert batch.tolist() == [0, 1]


def test_raw_and_graph_count_ghosts_the_other_way_around():
    configuration = make_configuration(silicon_carbide(1), CODES, 6.4)
    ghosts = (~configuration.contributing).astype(int).tolist()
    raw = make_inputs(description(RawToy()), configuration).arguments
    graph = make_inputs(description(GraphToy()), configuration).arguments
    assert raw[4].tolist() == [1 - ghost for ghost in ghosts]
    assert graph[4].tolist() == ghosts
    assert [argument.dtype for argument in raw] == [
        torch.int64,
        torch.float64,
        torch.int32,
        torch.int32,
        torch.int64,
    ]
    assert raw[1].requires_grad
    assert len(raw[2]) == configuration.num_atoms


def test_species_can_be_atomic_numbers():
    about = description(RawToy(), species_input="atomic_number")
    configuration = make_configuration(Atoms("SiC", [[0, 0, 0], [0, 0, 2]]), CODES, 4.0)
    assert make_inputs(about, configuration).arguments[0].tolist() == [14, 6]


def test_energies_of_ghosts_are_noticed():
    def forgets_the_mask(species, coords, *_):
        return coords.sum(dim=1)

    configuration = make_configuration(silicon_carbide(1), CODES, 4.0)
    with pytest.raises(DataError, match="energies for ghost atoms"):
        emulate(forgets_the_mask, description(RawToy()), configuration)


def test_an_energy_without_derivative_is_noticed():
    def detached(species, coords, *_):
        return coords.detach().sum()

    configuration = make_configuration(silicon_carbide(1), CODES, 4.0)
    with pytest.raises(DataError, match="no derivative"):
        emulate(detached, description(RawToy()), configuration)


def test_coordinates_beside_vectors_are_noticed():
    def uses_both(species, coords, n_neigh, nlist, mask, vectors=None):
        return (coords.sum(dim=1) + vectors.sum()) * mask

    configuration = make_configuration(silicon_carbide(1), CODES, 4.0)
    with pytest.raises(DataError, match="uses coordinates although"):
        emulate(uses_both, description(RawToy()), configuration, particle_virial=True)


def test_infinite_energies_and_missing_outputs_are_noticed():
    configuration = make_configuration(silicon_carbide(1), CODES, 4.0)

    def infinite(species, coords, *_):
        return (coords / 0.0).sum()

    with pytest.raises(NonFiniteError):
        emulate(infinite, description(RawToy()), configuration)
    with pytest.raises(DataError, match="at least 2 tensors"):
        emulate(RawToy(), description(RawToyWithForces()), configuration)
    with pytest.raises(DataError, match="does not offer"):
        emulate(RawToyWithForces(), description(RawToyWithForces()), configuration,
                particle_virial=True)  # fmt: skip
    with pytest.raises(ConfigError, match="no descriptor function"):
        emulate(DescriptorToy(), description(DescriptorToy()), configuration)


def test_configurations_refuse_what_they_cannot_surround():
    with pytest.raises(OutOfDomainError, match="does not know Ge"):
        make_configuration(Atoms("Ge"), CODES, 4.0)
    with pytest.raises(DataError, match="no lattice vector"):
        make_configuration(Atoms("Si", pbc=True), CODES, 4.0)
    with pytest.raises(DataError, match="no atoms"):
        make_configuration(Atoms(), CODES, 4.0)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_directed_graphs_hold_what_atoms_of_each_layer_receive(layers):
    for seed in range(20):
        configuration = make_configuration(random_cell(seed), CODES, 3.0 * layers)
        sender, receiver = neighbor_pairs(configuration.coordinates, 3.0)
        whole = staged_graph(sender, receiver, configuration.contributing, layers)
        directed = staged_graph(sender, receiver, configuration.contributing, layers, directed=True)
        inside = set(np.flatnonzero(configuration.contributing).tolist())
        for symmetric, own in zip(whole, directed, strict=True):
            expected = {(j, i) for j, i in symmetric.T.tolist() if i in inside}
            assert set(map(tuple, own.T.tolist())) == expected
            inside |= {j for j, _ in expected}


def test_weights_for_one_composition_refuse_others():
    about = description(GraphToy(), composition=(1, 2))
    forward = GraphToy()
    cell = {"cell": [6.0] * 3, "pbc": True}
    positions = [[0, 0, 0], [1.5, 0, 0], [0, 1.5, 0], [0, 0, 1.5], [3, 3, 3], [3, 3, 1]]
    for symbols in ("SiC2", "Si2C4"):
        atoms = Atoms(symbols, positions[: 3 * (1 + (symbols != "SiC2"))], **cell)
        emulate(forward, about, make_configuration(atoms, CODES, about.influence_distance))
    atoms = Atoms("Si3C3", positions, **cell)
    other = make_configuration(atoms, CODES, about.influence_distance)
    with pytest.raises(OutOfDomainError, match=r"are Si3C3, .* for SiC2 \(any number"):
        emulate(forward, about, other)
    exact = replace(about, composition=(3, 3), composition_multiples=False)
    emulate(forward, exact, other)
    with pytest.raises(OutOfDomainError, match="for SiC only"):
        emulate(forward, replace(exact, composition=(1, 1)), other)


@pytest.mark.parametrize("directed", [False, True])
def test_a_limit_of_neighbors_that_bites_is_refused(directed):
    atoms = silicon_carbide(1)
    forward = GraphToy()
    wide = description(forward, cutoff=3.2, directed_edges=directed)
    configuration = make_configuration(atoms, CODES, wide.influence_distance)
    _, receiver = neighbor_pairs(configuration.coordinates, 3.2)
    most = int(np.bincount(receiver)[configuration.contributing].max())
    emulate(forward, replace(wide, max_neighbors=most), configuration)
    with pytest.raises(OutOfDomainError, match="trained with the nearest"):
        emulate(forward, replace(wide, max_neighbors=most - 1), configuration)
