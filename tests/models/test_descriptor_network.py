"""The descriptor network: standardization, networks of elements, and its refusals."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from ase import Atoms
from ase.build import bulk

from adatom.core.errors import ConfigError, OutOfDomainError, UnknownNameError
from adatom.data.ase_convert import from_ase
from adatom.data.atomic_data import AtomicData, collate
from adatom.models.base import Neighborhood
from adatom.models.descriptor_network import DescriptorNetwork
from adatom.models.registry import build

DESCRIPTOR = {
    "kind": "SymmetryFunctions",
    "species": ["Si", "C"],
    "cutoffs": 4.0,
    "functions": [["g2", 0.5, 2.0], ["g4", 2, -1, 0.05], ["g2", 0.0, 0.0], ["g2", 90.0, 0.0]],
}


def network(**changes: Any) -> DescriptorNetwork:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return DescriptorNetwork(DESCRIPTOR, hidden=[5, 3], **changes).double()


def structures() -> list[AtomicData]:
    found = []
    for seed in range(4):
        atoms = bulk("SiC", "zincblende", a=4.36) * (1, 1, 1 + seed % 2)
        atoms.rattle(0.1, seed=seed)
        found.append(from_ase(atoms))
    return found


def with_edges(systems: list[AtomicData], model: DescriptorNetwork) -> tuple[AtomicData, Any]:
    data = collate([system.with_edges(model.cutoff) for system in systems])
    source, target = data.edges.index
    vectors = data.edges.vectors(data.pos, data.cell)
    return data, Neighborhood(source, target, vectors, data.edges.counts)


def test_scales_make_values_of_the_structures_standard():
    model = network()
    said = model.learn_scales(structures())
    assert said == "Standardized 4 descriptor values by 12 atoms of 4 training structures."
    data, edges = with_edges(structures(), model)
    values = model.values(model.species_codes(data.atomic_numbers), edges)
    standard = (values - model.mean) / model.scale
    torch.testing.assert_close(standard.mean(0), torch.zeros(4).double(), rtol=0, atol=1e-10)
    # The last one is zero for all of them: it keeps its scale.
    assert standard.std(0, correction=0).tolist() == pytest.approx([1, 1, 1, 0])
    assert model.scale[3] == 1.0


def test_scales_are_part_of_the_weights_and_nothing_else_takes_them():
    model, other = network(), network()
    data, edges = with_edges(structures(), model)
    model.train()
    model(data, [edges])
    assert not model.mean.any()
    model.learn_scales(structures())
    other.load_state_dict(model.state_dict())
    assert torch.equal(model(data, [edges]).scalars, other(data, [edges]).scalars)
    assert {"mean", "scale"} <= set(model.state_dict())


def test_each_element_has_its_own_network_or_shares_one():
    own, shared = network(), network(per_element=False)
    data, edges = with_edges(structures()[:1], own)
    alike = edges
    for model, same in ((own, False), (shared, True)):
        before = model(data, [alike]).scalars
        with torch.no_grad():
            model.dense_layers()[0].weight[-1] += 0.1
        after = model(data, [alike]).scalars
        moved = (after - before).abs().amax(1) > 1e-6
        # Carbon's network is the last one.
        assert moved.tolist() == [same, True]


def test_other_elements_are_refused():
    model = network()
    for symbol in ("O", "Ge", "H"):
        data, edges = with_edges([from_ase(Atoms(["Si", symbol], [[0, 0, 0], [0, 0, 2]]))], model)
        with pytest.raises(OutOfDomainError, match=r"Atom 1 .* Expected only Si, C"):
            model(data, [edges])


def test_settings_are_checked():
    with pytest.raises(ConfigError, match="at least one positive width"):
        DescriptorNetwork(DESCRIPTOR, hidden=[])
    with pytest.raises(UnknownNameError, match="Unknown kind of descriptor"):
        DescriptorNetwork(DESCRIPTOR | {"kind": "Coulomb"})
    with pytest.raises(ConfigError, match="has a kink"):
        DescriptorNetwork(DESCRIPTOR, activation="ReLU")
    jumps = {"kind": "Bispectrum", "species": ["Si"], "cutoffs": 4.0, "switch_flag": False}
    with pytest.raises(ConfigError, match="jumps at its cutoff"):
        DescriptorNetwork(jumps)
    assert build("DescriptorNetwork", {"descriptor": DESCRIPTOR}).cutoff == 4.0
