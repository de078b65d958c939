"""A fast path that disagrees is never used, and the user is told once."""

from __future__ import annotations

import warnings

import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

from adatom.core.precision import torch_threads
from adatom.data.ase_convert import from_ase
from adatom.inference.engine import InferenceWarning
from adatom.inference.predict_unit import MLIPPredictUnit
from adatom.inference.verification import MAX_SAMPLE_EDGES, compare, sample_of
from adatom.tasks.potential import Potential
from toy_backbone import ToyBackbone, toy_potential


class FastToy(ToyBackbone):
    """A toy with a tiled execution that errs as it is told."""

    error = 0.0
    fails = False

    def unavailable(self, mode):
        return "There is no compiler." if mode == "compiled" else None

    def forward(self, data, edges):
        features = super().forward(data, edges)
        if self.execution.mode == "tiled":
            if self.fails:
                raise RuntimeError("the kernel crashed\nwith details")
            features = features._replace(scalars=features.scalars * (1 + self.error))
        return features


def fast_toy(error=0.0, *, fails=False):
    toy = toy_potential()
    backbone = FastToy().double()
    backbone.load_state_dict(toy.backbone.state_dict())
    backbone.error, backbone.fails = error, fails
    return Potential(backbone, toy.head, toy.tasks, toy.domains)


def test_a_path_that_agrees_is_used_and_explained():
    unit = MLIPPredictUnit(fast_toy())
    assert "call explain(structure)" in unit.explain()
    text = unit.explain(molecule("H2O"))
    assert "Execution 'tiled'" in text
    assert "'compiled' is not available: There is no compiler." in text
    assert "Compared with the plain computation on the first input" in text
    assert "(the fastest that is available and trusted)" in text
    assert "1 for 6 edges" in text
    assert "assumed until measured" in text


def test_what_the_settings_say_is_explained():
    text = MLIPPredictUnit(fast_toy(), {"execution_mode": "tiled"}).explain(molecule("H2O"))
    assert "Execution 'tiled'" in text
    assert "(the settings say 'tiled')" in text
    text = MLIPPredictUnit(fast_toy(), {"preset": "traineval", "torch_num_threads": 1}).explain(
        molecule("H2O")
    )
    assert "Execution 'general': plain autograd (the settings say 'general')." in text
    assert "This is the plain computation itself." in text
    assert "Memory: all is kept for the backward pass" in text
    assert "Threads: 1 during a prediction, as the settings say." in text


def test_kernel_and_threads_of_an_official_model_are_explained(shared):
    unit = MLIPPredictUnit.load(shared / "reference" / "uma_tiny" / "tiny_uma.pt")
    reason = unit.potential.backbone.unavailable("compiled")
    if reason is not None:
        pytest.skip(reason)
    copper = from_ase(bulk("Cu", cubic=True) * (2, 2, 2), dataset="omat")
    with torch_threads(2):
        text = unit.explain(copper)
    assert "Execution 'compiled': tile by tile, in a kernel compiled for this machine" in text
    edges = copper.with_edges(unit.potential.cutoff).edges.num_edges
    assert f"Threads: 2 for {edges} edges: one per 150 edges, at most 2" in text


@pytest.mark.parametrize("broken", [{"error": 1e-3}, {"error": float("nan")}, {"fails": True}])
def test_a_path_that_disagrees_is_left_with_one_warning(broken):
    water = molecule("H2O")
    expected = MLIPPredictUnit(toy_potential()).predict(water)
    unit = MLIPPredictUnit(fast_toy(**broken))
    with pytest.warns(InferenceWarning, match=r"fast path \(tiled\) does not agree") as caught:
        found = unit.predict(water)
    assert len(caught) == 1
    torch.testing.assert_close(found["energy"], expected["energy"], rtol=0, atol=0)
    torch.testing.assert_close(found["forces"], expected["forces"], rtol=0, atol=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        unit.predict(molecule("CO2"))
    text = unit.explain()
    assert "Execution 'general'" in text
    assert "'tiled' is not trusted" in text
    if "fails" in broken:
        assert "it failed: the kernel crashed." in text


def test_a_large_input_is_represented_by_a_small_one():
    atoms = bulk("Cu", cubic=True) * (3, 3, 3)
    atoms.symbols[5:11] = "Si"
    atoms.rattle(0.1, seed=2)
    potential = toy_potential()
    data = from_ase(atoms).with_edges(potential.cutoff)
    assert data.edges.index.shape[1] > MAX_SAMPLE_EDGES
    sample = sample_of(data, potential.cutoff, exact=False, max_neighbors=None)
    assert 0 < sample.edges.index.shape[1] <= MAX_SAMPLE_EDGES
    # The same reduced formula: 102 Cu and 6 Si are 17 to 1.
    counts = torch.bincount(sample.atomic_numbers)
    assert int(counts[29]) == 17 * int(counts[14])
    assert len(sample.atomic_numbers) < data.num_atoms
    whole = sample_of(data, potential.cutoff, exact=True, max_neighbors=None)
    assert torch.equal(torch.bincount(whole.atomic_numbers), torch.bincount(data.atomic_numbers))
    # The cut-out keeps real distances, so it sees errors that lone atoms would not show.
    assert not compare(
        _with_mode(fast_toy(1e-3), "tiled"), _with_mode(fast_toy(), "general"), sample
    ).trusted


def test_a_small_input_represents_itself():
    data = from_ase(molecule("C6H6")).with_edges(4.0)
    assert sample_of(data, 4.0, exact=False, max_neighbors=None) is data


def test_a_single_element_needs_no_further_atoms():
    data = from_ase(bulk("Cu", cubic=True) * (4, 4, 4)).with_edges(4.0)
    sample = sample_of(data, 4.0, exact=False, max_neighbors=None)
    assert sample.num_atoms <= 20


def test_an_isolated_atom_can_be_compared():
    unit = MLIPPredictUnit(fast_toy())
    assert "energy" in unit.predict(Atoms("Cu"))


def _with_mode(potential, mode):
    from adatom.inference.private_copy import sharing_weights
    from adatom.models.base import Execution

    return sharing_weights(potential, Execution(mode))
