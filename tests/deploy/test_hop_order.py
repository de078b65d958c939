"""Particles and edges in the order of their steps from the contributing ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase.build import bulk

from adatom.deploy.hop_order import hop_order
from adatom.deploy.kim.configuration import make_configuration
from adatom.deploy.kim.inputs import staged_graph
from adatom.deploy.kim.neighbor_lists import neighbor_pairs
from adatom.deploy.staged_potential import StagedPotential
from adatom.models.dimenet import AtomOutput, DimeNetPlusPlus
from adatom.models.egnn import EGNN, EquivariantBlock
from adatom.models.escn_block import EscnBlock
from adatom.models.escn_md import eSCNMDBackbone
from adatom.models.gcn import GraphConvBlock, GraphConvModel
from adatom.tasks.domain import Domain
from adatom.tasks.potential import Potential
from adatom.tasks.task import Normalizer, OutputSpec, Task

CUTOFF, LAYERS = 2.6, 3
#: Backbones with three message layers, and the parts that compute per atom.
NETWORKS = {
    "escn": (
        eSCNMDBackbone,
        {
            "sphere_channels": 4,
            "hidden_channels": 4,
            "edge_channels": 4,
            "num_distance_basis": 4,
            "lmax": 1,
            "mmax": 1,
            "dataset_list": ["omat"],
        },
        EscnBlock,
    ),
    "egnn": (EGNN, {"hidden_dim": 4, "num_layers": LAYERS}, EquivariantBlock),
    "gcn": (
        GraphConvModel,
        {"num_blocks": 2, "atom_embedding_dim": 6, "out_dim": 4},
        GraphConvBlock,
    ),
    "dimenet": (
        DimeNetPlusPlus,
        {"num_blocks": 2, "emb_size": 4, "out_emb_size": 4, "int_emb_size": 4},
        AtomOutput,
    ),
}


def particles():
    """Return a rattled crystal with its ghosts in an order that tells nothing, and its edges."""
    atoms = bulk("Si", cubic=True)
    atoms.rattle(0.1, seed=3)
    whole = make_configuration(atoms, {"Si": 0}, LAYERS * CUTOFF)
    order = np.random.default_rng(5).permutation(len(whole.species))
    coordinates, contributing = whole.coordinates[order], whole.contributing[order]
    pairs = neighbor_pairs(coordinates, CUTOFF)
    return coordinates, contributing, pairs


def reached(contributing, sender, receiver):
    """Return the set of particles that are at most 0, 1 ... steps away."""
    found = [set(np.flatnonzero(contributing).tolist())]
    for _ in range(LAYERS):
        near = {j for j, i in zip(sender, receiver, strict=True) if i in found[-1]}
        found.append(found[-1] | near)
    return found


@pytest.mark.parametrize("directed", [True, False], ids=["directed", "symmetric"])
def test_the_first_rows_and_edges_are_those_that_a_layer_needs(directed):
    coordinates, contributing, (sender, receiver) = particles()
    graph = staged_graph(sender, receiver, contributing, LAYERS, directed=directed)
    source, target = (torch.from_numpy(side) for side in graph[-1])
    found = hop_order(source, target, torch.from_numpy(contributing), LAYERS)
    vectors = torch.from_numpy(coordinates)[source] - torch.from_numpy(coordinates)[target]
    near = reached(contributing, sender.tolist(), receiver.tolist())
    assert len(near[-1]) < len(contributing), "some ghosts are needed by nobody"
    for k, particles_near in enumerate(near):
        assert set(found.particles[: found.rows[k]].tolist()) == particles_near
    for k, edges in enumerate(reversed(found.neighborhoods(vectors))):
        assert edges.rows == found.rows[k]
        assert (edges.target[1:] >= edges.target[:-1]).all()
        ends = found.particles[edges.source], found.particles[edges.target]
        wanted = {
            pair
            for pair in zip(sender.tolist(), receiver.tolist(), strict=True)
            if pair[1] in near[k]
        }
        assert set(zip(*(side.tolist() for side in ends), strict=True)) == wanted
        own = torch.from_numpy(coordinates)
        assert torch.equal(edges.vectors, own[ends[0]] - own[ends[1]])


@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_computed_per_atom_is_computed_for_atoms_that_matter(name):
    cls, arguments, part = NETWORKS[name]
    backbone = cls(cutoff=CUTOFF, **arguments)
    assert backbone.num_message_layers == LAYERS
    task = Task("energy", "system", "energy", OutputSpec((1,)), Normalizer(0.0, 1.0), ["omat"])
    potential = Potential(
        backbone, backbone.default_head(), [task], {"omat": Domain((14,), charges=(0,), spins=(0,))}
    )
    staged = StagedPotential(potential, "omat", [14])
    rows = []
    for module in staged.modules():
        if isinstance(module, part):
            module.register_forward_hook(
                lambda _m, _a, out: rows.append(len(out[0] if isinstance(out, tuple) else out))
            )
    coordinates, contributing, (sender, receiver) = particles()
    graph = staged_graph(sender, receiver, contributing, LAYERS, directed=True)
    layers = [tuple(torch.from_numpy(side) for side in edges) for edges in graph]
    x = torch.from_numpy(coordinates)
    vectors = [x[source] - x[target] for source, target in layers]
    species = torch.zeros(len(x), dtype=torch.int64)
    energies = staged(species, x, layers, vectors, torch.from_numpy(contributing))
    assert (energies[torch.from_numpy(contributing)] != 0).all()
    assert not energies[torch.from_numpy(~contributing)].any()
    sizes = [len(near) for near in reached(contributing, sender.tolist(), receiver.tolist())]
    if name == "dimenet":
        assert rows == [sizes[0]] * LAYERS
    else:
        assert rows == sizes[: len(rows)][::-1]
