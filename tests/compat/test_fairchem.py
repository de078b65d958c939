"""Scripts for fairchem-core run with another import line and give fairchem's numbers."""

from __future__ import annotations

import copy
import json
import warnings

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

from adatom.compat.fairchem import (
    AtomicData,
    FAIRChemCalculator,
    FormationEnergyCalculator,
    InferenceSettings,
    MLIPPredictUnit,
    UMATask,
    atomicdata_list_to_batch,
    get_fcc_carbon_xtal,
    get_fcc_crystal_by_num_atoms,
    get_fcc_crystal_by_num_cells,
    load_predict_unit,
    pretrained_mlip,
)
from adatom.core.errors import ConfigError, DataError, OutOfDomainError, UnknownNameError

BATCH = ("water_anion_omol", "cu_fcc_omat", "pt_co_slab_oc20")


@pytest.fixture(scope="module")
def checkpoint(shared):
    return shared / "reference" / "uma_tiny" / "tiny_uma.pt"


@pytest.fixture(scope="module")
def reference(checkpoint):
    return json.loads((checkpoint.parent / "reference_tiny_uma.json").read_text())


@pytest.fixture(scope="module")
def unit(checkpoint):
    return load_predict_unit(checkpoint)


@pytest.fixture(scope="module")
def double(checkpoint):
    settings = InferenceSettings(base_precision_dtype=torch.float64)
    return pretrained_mlip.get_predict_unit(str(checkpoint), settings, device="cpu")


def atoms_of(system):
    info = {"charge": system["charge"], "spin": system["spin"]}
    return Atoms(
        system["numbers"], system["positions"], cell=system["cell"], pbc=system["pbc"], info=info
    )


def data_of(system, **options):
    return AtomicData.from_ase(
        atoms_of(system),
        task_name=system["task"],
        r_data_keys=["charge", "spin"],
        **options,
    )


@pytest.mark.parametrize("external", [False, True], ids=["internal", "external"])
def test_a_batch_gives_fairchems_numbers_and_shapes(checkpoint, reference, external):
    settings = InferenceSettings(
        base_precision_dtype=torch.float64, external_graph_gen=external, tf32=False, compile=False
    )
    unit = load_predict_unit(checkpoint, inference_settings=settings)
    options = {"r_edges": external, "radius": 6.0, "max_neigh": 300}
    data = [
        data_of(reference["systems"][name], target_dtype=torch.float64, **options) for name in BATCH
    ]
    batch = atomicdata_list_to_batch(data)
    before = copy.deepcopy(dict(batch))
    out = unit.predict(batch)
    expected = reference["batch_of_three"]["float64"]
    assert set(out) == {"energy", "forces", "stress"}
    np.testing.assert_allclose(out["energy"], expected["energy"], atol=1e-9, rtol=0)
    np.testing.assert_allclose(out["forces"], expected["forces"], atol=1e-9, rtol=0)
    assert out["stress"].shape == (3, 9)
    assert torch.isnan(out["stress"][0]).all()
    np.testing.assert_allclose(out["stress"][1:], expected["stress"][1:], atol=1e-10, rtol=0)
    assert not any(value.requires_grad for value in out.values())
    for name, value in batch:
        assert (
            torch.equal(value, before[name])
            if isinstance(value, torch.Tensor)
            else value == before[name]
        )


def test_single_precision_as_scripts_have_it(unit, reference):
    for system in reference["systems"].values():
        out = unit.predict(data_of(system))
        np.testing.assert_allclose(out["energy"], system["float32"]["energy"], atol=1e-5, rtol=0)
        np.testing.assert_allclose(out["forces"], system["float32"]["forces"], atol=1e-5, rtol=0)
        assert out["forces"].dtype == torch.float32
        assert out["energy"].dtype == torch.float64


def test_energies_without_element_references(double, reference):
    data = atomicdata_list_to_batch([data_of(reference["systems"][name]) for name in BATCH])
    total = double.predict(data)["energy"]
    network = double.predict(data, undo_element_references=False)["energy"]
    references = double.unit.potential.reference_energies(data.to_adatom())
    expected = torch.zeros(3).double().index_add(0, data.batch, references)
    torch.testing.assert_close(total - network, expected)


def test_charge_and_spin_are_read_without_being_named(double, reference):
    """fairchem-core would compute with charge 0 and spin 0 here, without a word."""
    system = reference["systems"]["water_anion_omol"]
    data = AtomicData.from_ase(atoms_of(system), task_name="omol", target_dtype=torch.float64)
    assert data.charge.tolist() == [-1]
    assert data.spin.tolist() == [2]
    energy = float(double.predict(data)["energy"][0])
    assert energy == pytest.approx(system["float64"]["energy"][0], abs=1e-9)


def test_a_missing_spin_is_warned_about_or_refused(checkpoint):
    unit = load_predict_unit(checkpoint)
    with pytest.warns(UserWarning, match="no spin, which the task 'omol' needs"):
        assumed = unit.predict(AtomicData.from_ase(molecule("H2O"), task_name="omol"))
    water = molecule("H2O", info={"charge": 0, "spin": 1})
    given = unit.predict(AtomicData.from_ase(water, task_name="omol"))
    assert torch.equal(assumed["energy"], given["energy"])
    with pytest.raises(DataError, match="odd number of electrons"):
        unit.predict(AtomicData.from_ase(molecule("CH3"), task_name="omol"))
    charged = bulk("Cu")
    charged.info["charge"] = 1
    with pytest.raises(OutOfDomainError, match="charge 1"):
        unit.predict(AtomicData.from_ase(charged, task_name="omat"))


@pytest.mark.parametrize("name", ["water_anion_omol", "cu_fcc_omat", "cu_slab_pbcTTF_oc20"])
def test_the_calculator_gives_fairchems_numbers(double, reference, name):
    system = reference["systems"][name]
    atoms = atoms_of(system)
    atoms.calc = FAIRChemCalculator(double, task_name=UMATask(system["task"]))
    info = copy.deepcopy(atoms.info)
    energy = atoms.get_potential_energy()
    assert energy == pytest.approx(system["float64"]["energy"][0], abs=1e-9)
    np.testing.assert_allclose(atoms.get_forces(), system["float64"]["forces"], atol=1e-9)
    assert atoms.info == info
    assert atoms.calc.task_name == system["task"]
    if any(system["pbc"]):
        stress = np.reshape(system["float64"]["stress"], (3, 3))
        np.testing.assert_allclose(atoms.get_stress(voigt=False), stress, atol=1e-10)


def test_from_model_checkpoint(checkpoint):
    calculator = FAIRChemCalculator.from_model_checkpoint(
        str(checkpoint), task_name="omat", inference_settings="turbo", device="cpu"
    )
    assert calculator.predictor.inference_settings.merge_mole
    assert calculator.predictor.device == "cpu"
    atoms = bulk("Cu")
    atoms.calc = calculator
    assert atoms.get_stress().shape == (6,)
    with pytest.raises(UnknownNameError, match="did you mean 'omat'"):
        FAIRChemCalculator(calculator.predictor, task_name="omatt")
    with pytest.raises(ConfigError, match="several tasks"):
        FAIRChemCalculator(calculator.predictor)


def test_seeds_and_workers_have_their_word(checkpoint, unit):
    with pytest.warns(UserWarning, match="seed is left out"):
        load_predict_unit(checkpoint, seed=41)
    with pytest.warns(UserWarning, match="seed is left out"):
        FAIRChemCalculator(unit, "omat", seed=41)
    for load in (load_predict_unit, pretrained_mlip.get_predict_unit):
        with pytest.raises(ConfigError, match="workers is 0"):
            load(checkpoint, workers=0)
        with pytest.raises(ConfigError, match="gp_config='spatial'"):
            load(checkpoint, gp_config="spatial")


def test_published_names():
    assert "uma-s-1p2p1" in pretrained_mlip.available_models
    with pytest.raises(UnknownNameError, match="did you mean 'uma-s-1p2p1'"):
        pretrained_mlip.get_predict_unit("uma-s-1p2p2")


def test_formation_energies_from_the_units_references(checkpoint):
    references = {"omat": {"Cu": -3.5}}
    predictor = load_predict_unit(checkpoint, form_elem_refs=references)
    assert predictor.form_elem_refs == references
    total, formed = bulk("Cu"), bulk("Cu")
    total.calc = FAIRChemCalculator(predictor, "omat")
    formed.calc = FormationEnergyCalculator(
        FAIRChemCalculator(predictor, "omat"), apply_corrections=False
    )
    assert formed.get_potential_energy() == pytest.approx(total.get_potential_energy() + 3.5)


def test_hessian_where_the_settings_ask_for_it(checkpoint):
    settings = InferenceSettings(predict_untrained_hessian={"omol"})
    unit = load_predict_unit(checkpoint, settings)
    water = molecule("H2O", info={"charge": 0, "spin": 1})
    out = unit.predict(AtomicData.from_ase(water, task_name="omol"))
    assert out["hessian"].shape == (1, 9, 9)
    torch.testing.assert_close(out["hessian"], out["hessian"].mT, atol=1e-4, rtol=0)


def test_settings_of_fairchem_that_have_no_counterpart():
    with pytest.warns(UserWarning, match="'wigner_cuda' is left out: rotations are part"):
        settings = InferenceSettings(tf32=True, wigner_cuda=True)
    assert settings.tf32
    with pytest.warns(UserWarning, match="umas_fast_gpu.*fastest mode"):
        assert InferenceSettings(execution_mode="umas_fast_gpu").execution_mode is None
    with warnings.catch_warnings(action="error"):
        InferenceSettings(wigner_cuda=None, nitro=False, activation_checkpointing=True)
    with pytest.raises(UnknownNameError, match="did you mean 'tf32'"):
        InferenceSettings(tf23=True)


def test_presets_of_fairchem_with_other_names(checkpoint):
    with pytest.warns(UserWarning, match="'nitro' of fairchem-core is 'turbo' here"):
        unit = load_predict_unit(checkpoint, "nitro")
    assert unit.inference_settings.merge_mole
    with pytest.raises(UnknownNameError, match="did you mean 'turbo'"):
        load_predict_unit(checkpoint, "tubro")


def test_atomic_data_by_attribute_and_by_item():
    atoms = bulk("NaCl", "rocksalt", a=5.6)
    atoms.positions[0] -= 3.0
    atoms.set_tags([1, 2])
    data = AtomicData.from_ase(atoms, task_name=UMATask.OMAT, sid="salt")
    assert data.pos.dtype == torch.float32
    assert data["pos"] is data.pos
    fractional = torch.linalg.solve(data.cell[0].T, data.pos.T)
    assert bool((fractional > -1e-6).all() & (fractional < 1 + 1e-6).all())
    assert data.task_name == data.dataset == data["task_name"] == ["omat"]
    assert data.sid == ["salt"]
    assert data.tags.tolist() == [1, 2]
    assert data.num_nodes == 2
    assert data.num_edges == 0
    assert len(data) == 1
    assert "energy" not in data
    assert data.get("energy", 3) == 3
    data.task_name = "omc"
    assert data.dataset == ["omc"]
    data["charge"] = torch.tensor([2])
    assert data.charge.tolist() == [2]
    assert dict(data).keys() == set(data.keys())
    with pytest.raises(AttributeError, match="nothing"):
        _ = data.nothing
    assert "pos=[2, 3]" in repr(data)
    clone = data.clone()
    clone.pos.zero_()
    assert data.pos.abs().sum() > 0
    assert copy.deepcopy(data).natoms.tolist() == [2]


def test_labels_edges_and_boxes():
    atoms = bulk("Cu") * (2, 2, 2)
    atoms.calc = SinglePointCalculator(
        atoms, energy=1.5, forces=np.ones((8, 3)), stress=np.arange(6.0)
    )
    data = AtomicData.from_ase(atoms, r_edges=True, radius=3.0, max_neigh=50, r_stress=False)
    assert data.energy.tolist() == [1.5]
    assert data.forces.shape == (8, 3)
    assert "stress" not in data
    assert data.nedges.tolist() == [8 * 12]
    vectors = data.pos[data.edge_index[0]] - data.pos[data.edge_index[1]]
    vectors = vectors + data.cell_offsets @ data.cell[0]
    torch.testing.assert_close(vectors.norm(dim=1), torch.full((96,), 3.61 / 2**0.5))
    atoms.calc = EMT()
    atoms.get_potential_energy()
    assert "energy" not in AtomicData.from_ase(atoms)
    boxed = AtomicData.from_ase(molecule("H2O"), molecule_cell_size=5.0)
    assert boxed.pbc.all()
    assert boxed.cell[0, 2, 2] > 10.0
    with pytest.raises(ConfigError, match="has a cell"):
        AtomicData.from_ase(bulk("Cu"), molecule_cell_size=5.0)


def test_batches_come_apart_again():
    parts = [
        AtomicData.from_ase(atoms, task_name=task, r_edges=True, radius=4.0)
        for atoms, task in ((bulk("Cu"), "omat"), (molecule("CH4"), "omol"), (bulk("Si"), "omc"))
    ]
    batch = atomicdata_list_to_batch(parts)
    assert batch.batch.tolist() == [0, 1, 1, 1, 1, 1, 2, 2]
    assert batch.dataset == ["omat", "omol", "omc"]
    for i, part in enumerate(batch.batch_to_atomicdata_list()):
        assert part.keys() == parts[i].keys()
        for name, value in part:
            same = parts[i][name]
            assert torch.equal(value, same) if isinstance(value, torch.Tensor) else value == same
    assert batch[1].natoms.tolist() == [5]
    labelled = AtomicData.from_ase(bulk("Cu"))
    labelled.energy = torch.tensor([1.0])
    with pytest.raises(DataError, match="1 of 2 structures have no 'energy'"):
        atomicdata_list_to_batch([labelled, parts[0]])
    both = atomicdata_list_to_batch([labelled, parts[0]], exclude_keys=["energy"])
    assert "energy" not in both
    with pytest.raises(DataError, match="empty list"):
        atomicdata_list_to_batch([])


def test_benchmark_crystals():
    state = np.random.get_state()[1].copy()  # noqa: NPY002 (it must stay as it is)
    atoms = get_fcc_carbon_xtal(100)
    assert len(atoms) == 100
    assert set(atoms.symbols) == {"C"}
    assert atoms.pbc.all()
    assert atoms.cell.volume == pytest.approx(125 * 3.8**3 / 4)
    assert atoms.info == {"charge": 0, "spin": 0}
    assert atoms == get_fcc_carbon_xtal(100)
    assert atoms != get_fcc_carbon_xtal(100, seed=1)
    assert len(get_fcc_crystal_by_num_atoms(27, 3.61, "Cu")) == 27
    assert len(get_fcc_crystal_by_num_cells(2)) == 32
    assert (np.random.get_state()[1] == state).all()  # noqa: NPY002


def test_units_of_adatom_are_accepted(double):
    calculator = FAIRChemCalculator(double.unit, "omat")
    assert isinstance(calculator.predictor, MLIPPredictUnit)
