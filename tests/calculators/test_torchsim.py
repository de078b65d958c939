"""The TorchSim model: agreement with the predict unit, batches, charge and spin, dynamics."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from ase.build import bulk, molecule

from adatom.core.errors import DataError, MissingExtraError, OutOfDomainError
from adatom.inference.predict_unit import MLIPPredictUnit
from adatom.inference.settings import PRESETS
from toy_backbone import toy_potential


def test_a_missing_package_is_named(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "torch_sim"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch_sim", None)
    monkeypatch.delitem(sys.modules, "adatom.calculators.torchsim", raising=False)
    with pytest.raises(MissingExtraError, match=r"pip install 'adatom\[torchsim\]'"):
        import adatom.calculators.torchsim  # noqa: F401


@pytest.fixture(scope="module")
def ts():
    return pytest.importorskip(
        "torch_sim", reason="needs the extra 'torchsim' (pip install torch-sim-atomistic)"
    )


@pytest.fixture
def model(ts):
    from adatom.calculators.torchsim import TorchSimModel

    return TorchSimModel(MLIPPredictUnit(toy_potential()))


def crystals():
    first = bulk("Si", "diamond", a=5.43, cubic=True)
    second = bulk("Cu", "fcc", a=3.7, cubic=True) * (2, 1, 1)
    for seed, atoms in enumerate((first, second)):
        atoms.rattle(0.1, seed=seed)
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.02 * np.arange(9).reshape(3, 3) / 9))
    return [first, second]


def state_of(ts, atoms, dtype=torch.float64):
    return ts.io.atoms_to_state(atoms, torch.device("cpu"), dtype)


def test_torchsims_own_checks(ts):
    from torch_sim.models.interface import validate_model_outputs

    from adatom.calculators.torchsim import TorchSimModel

    potential = toy_potential(elements=(14, 26))
    for stress in (False, True):
        model = TorchSimModel(MLIPPredictUnit(potential), compute_stress=stress)
        validate_model_outputs(model, torch.device("cpu"), torch.float64)
    assert model.memory_scales_with == "n_atoms_x_density"


def test_agrees_with_the_predict_unit(ts, model):
    out = model(state_of(ts, crystals()))
    expected = model.predict_unit.predict(crystals(), ["energy", "forces", "stress"])
    assert out["energy"].shape == (2,)
    assert out["stress"].shape == (2, 3, 3)
    for name, value in out.items():
        assert value.dtype == torch.float64
        torch.testing.assert_close(value, expected[name].double(), atol=1e-12, rtol=0)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset(ts, preset):
    from adatom.calculators.torchsim import TorchSimModel

    model = TorchSimModel(toy_potential(), inference_settings=preset, dtype=torch.float32)
    out = model(state_of(ts, crystals(), torch.float32))
    expected = MLIPPredictUnit(toy_potential()).predict(crystals())
    for name, value in out.items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value.double(), expected[name].double(), atol=2e-5, rtol=0)


def test_only_what_is_wanted(ts, model):
    model.compute_stress = False
    model.compute_forces = False
    assert set(model(state_of(ts, crystals()))) == {"energy"}


def test_molecules_have_no_stress(ts, model):
    water = molecule("H2O")
    state = state_of(ts, [water, water])
    state.pbc = False
    out = model(state)
    assert torch.isnan(out["stress"]).all()
    expected = model.predict_unit.predict(water)
    torch.testing.assert_close(out["energy"], expected["energy"].repeat(2), atol=1e-12, rtol=0)


def test_charge_and_spin_of_the_state(ts, model):
    state = state_of(ts, crystals())
    neutral = model(state)["energy"]
    state.charge = torch.tensor([0, 1])
    charged = model(state)["energy"]
    assert charged[0] == neutral[0]
    assert charged[1] != neutral[1]
    state.charge = torch.tensor([0, 5])
    with pytest.raises(OutOfDomainError, match="charge 5"):
        model(state)
    state.charge = torch.tensor([0.5, 0.0])
    with pytest.raises(DataError, match="one whole number for each of the 2"):
        model(state)


def test_charge_and_spin_as_later_versions_of_torchsim_keep_them(ts):
    """There, a state says whether it has extras, and those it has not are an error."""
    from adatom.calculators.torchsim import _of_systems

    class State:
        n_systems = 2
        charge = torch.tensor([[1.0], [-2.0]])

        def has_extras(self, name):
            return name == "charge"

        def __getattr__(self, name):
            raise KeyError(name)

    assert _of_systems(State(), "charge").tolist() == [1, -2]
    assert _of_systems(State(), "spin") is None


def test_the_model_follows_a_state_that_changes(ts, model):
    """As autobatching does: other systems, other sizes, in any order."""
    for some in (slice(0, 2), slice(0, 1), slice(1, 2), slice(0, 1), slice(0, 2)):
        systems = crystals()[some]
        out = model(state_of(ts, systems))
        expected = model.predict_unit.predict(systems)
        for name in ("energy", "forces", "stress"):
            torch.testing.assert_close(out[name], expected[name], atol=1e-10, rtol=0)


def test_energy_is_conserved_in_torchsims_dynamics(ts, model):
    unit_fs = ts.units.MetalUnits.time / 1000.0
    initialize, step = ts.integrators.nve(
        model, dt=torch.tensor(1.0 * unit_fs), kT=torch.tensor(0.01), seed=1
    )
    state = initialize(state_of(ts, crystals()))
    totals = []
    for _ in range(60):
        state = step(state)
        kinetic = 0.5 * (state.momenta**2 / state.masses[:, None]).sum(1)
        totals.append(
            state.energy + torch.zeros(2).double().index_add(0, state.system_idx, kinetic)
        )
    totals = torch.stack(totals)
    assert (totals - totals[0]).abs().max() < 2e-3
    assert model.neighbors.num_searches < 20
