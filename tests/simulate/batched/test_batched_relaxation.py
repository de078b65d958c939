"""Many relaxations together: the paths of ASE's minimizers, whatever the neighbors do."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.constraints import FixAtoms, FixSymmetry
from ase.filters import FrechetCellFilter, UnitCellFilter
from ase.optimize import FIRE, LBFGS

from adatom.calculators.ase_calculator import MLIPCalculator
from adatom.core.errors import ConfigError, NonFiniteError, UnknownNameError
from adatom.data.ase_convert import from_ase
from adatom.inference.predict_unit import MLIPPredictUnit
from adatom.simulate.batched import evaluation, minimizers
from adatom.simulate.batched.cells import CellRelaxation
from adatom.simulate.batched.relaxation import RelaxationSettings, iterate_relaxations, relax_many
from adatom.tasks.potential import Potential
from toy_backbone import toy_potential

ASE = {"FIRE": FIRE, "LBFGS": LBFGS}
MASK = [True, True, False, True, False, True]
CELLS = {
    "positions": (None, None),
    "cell": (CellRelaxation(), FrechetCellFilter),
    "pressure": (
        CellRelaxation(pressure_gpa=3, hydrostatic=True),
        lambda a: FrechetCellFilter(a, scalar_pressure=3 * units.GPa, hydrostatic_strain=True),
    ),
    "mask": (CellRelaxation(mask=MASK), lambda a: FrechetCellFilter(a, mask=MASK)),
    "linear": (
        CellRelaxation(mask=MASK, pressure_gpa=2, coordinates="linear"),
        lambda a: UnitCellFilter(a, mask=MASK, scalar_pressure=2 * units.GPa),
    ),
    "volume": (
        CellRelaxation(constant_volume=True),
        lambda a: FrechetCellFilter(a, constant_volume=True),
    ),
}


@pytest.fixture(scope="module")
def unit():
    return MLIPPredictUnit(toy_potential())


def crystal(seed: int, repeat: int = 1, displacement: float = 0.08) -> Atoms:
    atoms = bulk("Cu", "fcc", a=3.55 + 0.02 * seed, cubic=True) * (repeat, 1, 1)
    atoms.rattle(displacement, seed=seed)
    return atoms


def systems() -> list[Atoms]:
    held = crystal(2, 2)
    held.set_constraint(FixAtoms([0, 2]))
    sheared = crystal(3)
    sheared.set_cell(sheared.cell @ [[1, 0.04, 0], [0, 1, 0.03], [0, 0, 0.98]], scale_atoms=True)
    return [crystal(1, 2), held, sheared]


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("optimizer", ASE)
def test_paths_are_those_of_ase(unit, optimizer, kind):
    cell, filtered = CELLS[kind]
    settings = RelaxationSettings(optimizer=optimizer, fmax=0.02, steps=9, cell=cell, limit=2)
    starts = systems()
    calculator = MLIPCalculator(unit)
    for record, atoms in zip(relax_many(starts, unit, settings=settings), starts, strict=True):
        atoms.calc = calculator
        reference = ASE[optimizer](atoms if filtered is None else filtered(atoms), logfile=None)
        converged = reference.run(fmax=0.02, steps=9)
        assert (record.steps, record.converged) == (reference.nsteps, converged)
        assert record.error is None
        np.testing.assert_allclose(record.atoms.positions, atoms.positions, rtol=0, atol=1e-9)
        np.testing.assert_allclose(record.atoms.cell.array, atoms.cell.array, rtol=0, atol=1e-9)
        assert record.energies[-1] == pytest.approx(atoms.get_potential_energy(), abs=1e-10)
        np.testing.assert_allclose(record.atoms.get_forces(), atoms.get_forces(), rtol=0, atol=1e-8)


def test_few_remembered_steps_are_those_of_ase(unit, monkeypatch):
    monkeypatch.setitem(minimizers.MINIMIZERS, "LBFGS", lambda: minimizers.LBFGS(memory=3))
    settings = RelaxationSettings(fmax=1e-3, steps=14)
    starts = [crystal(1), crystal(2, 2)]
    for record, atoms in zip(relax_many(starts, unit, settings=settings), starts, strict=True):
        atoms.calc = MLIPCalculator(unit)
        LBFGS(atoms, logfile=None, memory=3).run(fmax=1e-3, steps=14)
        np.testing.assert_allclose(record.atoms.positions, atoms.positions, rtol=0, atol=1e-9)


def test_both_reach_the_minimum(unit):
    found = {}
    for optimizer in ASE:
        settings = RelaxationSettings(optimizer=optimizer, fmax=2e-4, steps=400)
        records = relax_many([crystal(1), crystal(2, 2)], unit, settings=settings)
        assert all(record.converged for record in records)
        assert all(record.max_force < 2e-4 for record in records)
        found[optimizer] = [record.energies[-1] for record in records]
    np.testing.assert_allclose(found["FIRE"], found["LBFGS"], rtol=0, atol=1e-6)


def test_a_structure_does_not_see_its_neighbors(unit):
    """Different sizes, limits and steps, and only three at a time: as each alone."""
    starts = [crystal(k, 1 + k % 3, 0.02 + 0.02 * k) for k in range(6)]
    water = molecule("CH3CH2OH")
    water.positions *= 1.2
    starts.insert(2, water)
    fmax = [0.3, 0.01, 0.05, 0.02, 0.2, 0.05, 0.01]
    steps = [50, 3, 9, 50, 0, 50, 50]
    settings = RelaxationSettings(fmax=fmax, steps=steps, limit=3)
    records = relax_many(starts, unit, settings=settings)
    assert [record.number for record in records] == list(range(7))
    for i, record in enumerate(records):
        own = RelaxationSettings(fmax=fmax[i], steps=steps[i])
        [alone] = relax_many([starts[i]], unit, settings=own)
        assert record.steps == alone.steps <= steps[i]
        np.testing.assert_allclose(
            record.atoms.positions, alone.atoms.positions, rtol=0, atol=1e-11
        )
        np.testing.assert_allclose(record.energies, alone.energies, rtol=0, atol=1e-11)
    assert len({record.steps for record in records}) > 3


def test_fast_ones_leave_and_the_input_stays(unit):
    starts = [crystal(3, 2, 0.15), crystal(1, 1, 0.001), crystal(2, 1, 0.002)]
    before = [atoms.copy() for atoms in starts]
    settings = RelaxationSettings(fmax=0.05, limit=2)
    order = [r.number for r in iterate_relaxations(starts, unit, settings=settings)]
    assert order == [1, 2, 0]
    for atoms, copy in zip(starts, before, strict=True):
        np.testing.assert_array_equal(atoms.positions, copy.positions)
        assert atoms.calc is None


def test_bad_structures_fail_alone_and_say_why(unit):
    overlapping, symmetric = crystal(1), crystal(2)
    overlapping.positions[1] = overlapping.positions[0]
    # Its constructor needs spglib.
    symmetric.constraints = [FixSymmetry.__new__(FixSymmetry)]
    starts = [crystal(1), overlapping, bulk("Au"), symmetric, "no structure", crystal(2)]
    records = relax_many(starts, unit)
    assert [record.converged for record in records] == [True, False, False, False, False, True]
    for record, words in zip(
        records[1:5],
        ("atoms 0 and 1 at 0.000", "has Au, which", "the constraint FixSymmetry", "is a str"),
        strict=True,
    ):
        assert words in record.error
    [alone] = relax_many([starts[0]], unit)
    np.testing.assert_allclose(
        records[0].atoms.positions, alone.atoms.positions, rtol=0, atol=1e-12
    )


def test_one_that_cannot_be_read_is_reported(unit):
    class Damaged(list):
        def __getitem__(self, i):
            if i == 1:
                raise NonFiniteError("Row 1 is damaged")
            return super().__getitem__(i)

    records = relax_many(Damaged([crystal(1)] * 3), unit, settings=RelaxationSettings(fmax=0.1))
    assert [record.error for record in records] == [None, "Row 1 is damaged", None]
    assert records[1].atoms is None


class Breaking(MLIPPredictUnit):
    """Gives NaN for one structure after some steps."""

    calls = 0

    def predict(self, data, properties=None, *, task_name=None):
        self.calls += "bad" in data.sid and data.num_systems > 1
        if "bad" in data.sid and self.calls > 3:
            raise NonFiniteError("The predicted energy of structure 'bad' is NaN or infinite")
        return super().predict(data, properties, task_name=task_name)


def test_one_that_explodes_leaves_the_others_alone(unit):
    starts = [crystal(k, 1, 0.15) for k in range(5)]
    starts[2].info["sid"] = "bad"
    settings = RelaxationSettings(fmax=0.01)
    records = relax_many(starts, Breaking(toy_potential()), settings=settings)
    undisturbed = relax_many(starts, unit, settings=settings)
    assert "failed at step 3: The predicted energy of structure 'bad'" in records[2].error
    assert records[2].energies == pytest.approx(undisturbed[2].energies[:3], abs=1e-12)
    # The last state whose energy is known, and nothing that was computed for another.
    assert records[2].atoms.calc is None
    probe = records[2].atoms.copy()
    probe.calc = MLIPCalculator(unit)
    assert probe.get_potential_energy() == pytest.approx(records[2].energies[-1], abs=1e-10)
    for i in (0, 1, 3, 4):
        expected = undisturbed[i].atoms.positions
        np.testing.assert_allclose(records[i].atoms.positions, expected, rtol=0, atol=1e-11)


def test_systems_as_tensors_keep_charge_and_held_atoms(unit):
    atoms = crystal(1)
    atoms.info["charge"] = 1
    atoms.set_constraint(FixAtoms([1]))
    system = from_ase(atoms, sid="mine")
    [record] = relax_many([system], unit)
    assert (record.sid, record.converged) == ("mine", True)
    assert record.atoms.info["charge"] == 1
    np.testing.assert_array_equal(record.atoms.positions[1], atoms.positions[1])
    [neutral] = relax_many([crystal(1)], unit)
    assert abs(record.energies[0] - neutral.energies[0]) > 1e-6


def test_wrong_settings_are_refused(unit, monkeypatch):
    with pytest.raises(UnknownNameError, match="did you mean 'LBFGS'"):
        RelaxationSettings(optimizer="BFGS")
    for wrong in ({"fmax": 0.0}, {"steps": -1}, {"fmax": [0.1, -1.0]}, {"limit": 0}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            RelaxationSettings(**wrong)
    for wrong in ({"mask": [True]}, {"pressure_gpa": np.inf}, {"coordinates": "cubic"}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            CellRelaxation(**wrong)
    settings = RelaxationSettings(cell=CellRelaxation())
    [record] = relax_many([molecule("H2O")], unit, settings=settings)
    assert "no volume" in record.error
    monkeypatch.setattr(Potential, "properties", lambda *_: ["energy", "forces"])
    with pytest.raises(ConfigError, match="no stress"):
        relax_many([crystal(1)], unit, settings=settings)


def test_cells_of_one_atom_and_lone_atoms():
    potential = toy_potential()
    potential.metadata |= {
        "supports_single_atoms": False,
        "atom_refs": {"default": {"29": -1.5}},
    }
    unit = MLIPPredictUnit(potential)
    cells = [bulk("Cu", "fcc", a=3.5), bulk("Cu", "fcc", a=3.65)]
    settings = RelaxationSettings(fmax=1e-3, cell=CellRelaxation())
    small, large = relax_many(cells, unit, settings=settings)
    assert small.converged
    assert large.converged
    assert small.atoms.get_volume() == pytest.approx(large.atoms.get_volume(), rel=1e-3)
    lone, crystal_record = relax_many([Atoms("Cu"), crystal(1)], unit)
    assert (lone.converged, lone.steps, lone.energies) == (True, 0, [-1.5])
    [alone] = relax_many([crystal(1)], unit)
    assert crystal_record.energies == pytest.approx(alone.energies, abs=1e-11)


def test_memory_decides_how_many_advance_together(unit):
    starts = [crystal(k) for k in range(4)]
    settings = RelaxationSettings(fmax=0.1)
    together = []

    class Watched(MLIPPredictUnit):
        def predict(self, data, properties=None, *, task_name=None):
            together.append(data.num_systems)
            return super().predict(data, properties, task_name=task_name)

    for max_atoms, most in ((4, 1), (9, 2), (None, 4)):
        together.clear()
        limited = Watched(toy_potential(), max_atoms=max_atoms)
        records = relax_many(starts, limited, settings=settings)
        assert max(together) == most
        for record, expected in zip(
            records, relax_many(starts, unit, settings=settings), strict=True
        ):
            np.testing.assert_allclose(
                record.atoms.positions, expected.atoms.positions, rtol=0, atol=1e-11
            )


def test_several_workers_are_refused(unit, monkeypatch):
    monkeypatch.setattr(evaluation, "neighbors_of", lambda *_: None)
    with pytest.raises(ConfigError, match="one structure at a time, not batches"):
        relax_many([crystal(1)], unit)
