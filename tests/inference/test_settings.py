"""Inference settings: presets, what is refused, and that nothing outlives a call."""

from __future__ import annotations

import copy
import pickle
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from ase.build import bulk, molecule

from adatom.core.errors import ConfigError, DataError, UnknownNameError
from adatom.data.ase_convert import from_ase
from adatom.inference.predict_unit import MLIPPredictUnit
from adatom.inference.settings import DROPPED, PRESETS, InferenceSettings, inference_settings
from toy_backbone import toy_potential


def test_presets_are_found_by_name_and_objects_pass_through():
    assert inference_settings("turbo") is PRESETS["turbo"]
    assert inference_settings(None) is PRESETS["default"]
    own = InferenceSettings(tf32=True)
    assert inference_settings(own) is own
    assert inference_settings({"tf32": True}) == own
    assert inference_settings({"preset": "turbo", "tf32": True}) == replace(
        PRESETS["turbo"], tf32=True
    )
    with pytest.raises(UnknownNameError, match="did you mean 'turbo'"):
        inference_settings("turb")


def test_presets_differ_from_each_other():
    assert len(set(PRESETS.values())) == len(PRESETS)


@pytest.mark.parametrize("name", DROPPED)
def test_a_dropped_setting_says_why(name):
    with pytest.raises(ConfigError, match=rf"no setting '{name}' here: .+\. "):
        InferenceSettings(**{name: True})
    with pytest.raises(ConfigError, match=name):
        replace(PRESETS["default"], **{name: True})


def test_unknown_settings_and_values_are_refused():
    with pytest.raises(UnknownNameError, match="did you mean 'merge_mole'"):
        InferenceSettings(merge_moel=True)
    with pytest.raises(ConfigError, match="belongs to fairchem-core"):
        InferenceSettings(execution_mode="umas_fast_pytorch")
    with pytest.raises(UnknownNameError, match="did you mean 'tiled'"):
        InferenceSettings(execution_mode="tild")
    with pytest.raises(ConfigError, match="float32 or float64"):
        InferenceSettings(base_precision_dtype="bfloat16")
    with pytest.raises(ConfigError, match="edge_chunk_size is 0"):
        InferenceSettings(edge_chunk_size=0)
    with pytest.raises(ConfigError, match="internal_graph_gen_version is 3"):
        InferenceSettings(internal_graph_gen_version=3)
    with pytest.raises(ConfigError, match="batch_memory"):
        InferenceSettings(batch_memory=0)
    with pytest.raises(ConfigError, match="a set of dataset names"):
        InferenceSettings(predict_untrained_stress="omol")


def test_a_dtype_may_be_named():
    for value in ("float64", "torch.float64", torch.float64):
        assert InferenceSettings(base_precision_dtype=value).dtype == torch.float64
    assert MLIPPredictUnit(toy_potential().float(), "high-precision").dtype == torch.float64
    named = MLIPPredictUnit(toy_potential(), {"base_precision_dtype": "float32"})
    assert named.dtype == torch.float32


def test_settings_can_be_copied_and_pickled():
    settings = InferenceSettings(predict_untrained_stress={"omol"}, merge_mole=True)
    assert pickle.loads(pickle.dumps(settings)) == settings
    assert copy.deepcopy(settings) == settings


def test_the_checkpoint_may_have_no_such_dataset():
    with pytest.raises(UnknownNameError, match="predict_untrained_stress"):
        MLIPPredictUnit(toy_potential(), {"predict_untrained_stress": {"defualt"}})


@pytest.mark.parametrize("preset", PRESETS)
def test_nothing_outlives_a_prediction(preset):
    torch.set_float32_matmul_precision("high")
    # The global generators are the point here.
    numbers = np.random.get_state()[1].copy()  # noqa: NPY002
    state = (random.getstate(), torch.get_rng_state())
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    try:
        settings = replace(PRESETS[preset], torch_num_threads=threads + 1)
        unit = MLIPPredictUnit(toy_potential(), settings)
        seen = []
        unit.add_output("probe", _Probe(seen))
        unit.predict(molecule("H2O"), ["energy", "probe"])
        unit.predict([molecule("H2O"), bulk("Cu", cubic=True)])
        assert seen[0] == (threads + 1, "highest")
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert (torch.get_num_threads(), torch.get_default_dtype()) == (threads, dtype)
    assert random.getstate() == state[0]
    assert np.array_equal(np.random.get_state()[1], numbers)  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), state[1])
    assert torch.is_grad_enabled()


class _Probe:
    """Remembers the threads and precision during a prediction."""

    level = "system"

    def __init__(self, seen):
        self.seen = seen

    def __call__(self, potential, batch, predicted):
        assert potential.cutoff * batch.num_atoms > 0
        self.seen.append((torch.get_num_threads(), torch.get_float32_matmul_precision()))
        return predicted["energy"] * 0


def test_tf32_is_allowed_only_during_a_prediction():
    unit, seen = MLIPPredictUnit(toy_potential(), {"tf32": True}), []
    unit.add_output("probe", _Probe(seen))
    unit.predict(molecule("H2O"), ["energy", "probe"])
    assert seen[0][1] == "high"
    assert torch.get_float32_matmul_precision() == "highest"


def test_default_properties_follow_the_settings():
    potential = toy_potential(("omat", "omol"), stress=False)
    copper = bulk("Cu", cubic=True)
    every = MLIPPredictUnit(potential).predict(copper, task_name="omat")
    trained = MLIPPredictUnit(potential, {"auto_add_default_untrained_tasks": False})
    assert "stress" in every
    assert "stress" not in trained.predict(copper, task_name="omat")
    # Asked for by name it is there: it is a derivative of the energy.
    assert "stress" in trained.predict(copper, ["stress"], task_name="omat")
    some = MLIPPredictUnit(
        potential,
        InferenceSettings(
            auto_add_default_untrained_tasks=False,
            predict_untrained_stress={"omat"},
            predict_untrained_hessian={"omol"},
        ),
    )
    assert "stress" in some.predict(copper, task_name="omat")
    found = some.predict(molecule("H2O"), task_name="omol")
    assert found["hessian"].shape == (9, 9)
    assert "hessian" not in some.predict(copper, task_name="omat")


def test_the_hessian_is_the_same_in_both_ways():
    potential = toy_potential()
    together = MLIPPredictUnit(potential).predict(molecule("H2O"), ["hessian"])["hessian"]
    loop = MLIPPredictUnit(potential, {"hessian_vmap": False})
    torch.testing.assert_close(
        loop.predict(molecule("H2O"), ["hessian"])["hessian"], together, rtol=0, atol=1e-12
    )


def test_edges_may_have_to_come_with_the_structures():
    unit = MLIPPredictUnit(toy_potential(), {"external_graph_gen": True})
    data = from_ase(bulk("Cu", cubic=True))
    with pytest.raises(DataError, match="has no edges, and external_graph_gen"):
        unit.predict(data)
    expected = MLIPPredictUnit(toy_potential()).predict(data)
    found = unit.predict(data.with_edges(unit.potential.cutoff))
    torch.testing.assert_close(found["forces"], expected["forces"], rtol=0, atol=0)


def test_the_neighbor_search_changes_nothing():
    data = bulk("Cu", cubic=True)
    data.rattle(0.1, seed=1)
    found = [
        MLIPPredictUnit(toy_potential(), {"internal_graph_gen_version": version}).predict(data)
        for version in (1, 2)
    ]
    torch.testing.assert_close(found[0]["forces"], found[1]["forces"], rtol=0, atol=1e-12)
