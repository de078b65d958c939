"""References of a new level of theory, and a change of scale that changes no prediction."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from ase import Atoms

from adatom.core.errors import ConfigError, MissingLabelError
from adatom.data.ase_convert import from_ase
from adatom.tasks.domain import Domain
from adatom.training.finetuning.base import initialize_finetuning_model
from adatom.training.finetuning.new_dataset import add_dataset
from adatom.training.finetuning.predictions import predicted
from adatom.training.finetuning.references import refit_references, rescale
from adatom.training.finetuning.start import StartError, check_start

#: eV per atom by which the labels differ from the base's predictions.
SHIFT = {1: -13.5, 6: -1027.25, 8: -2041.0}


def molecules(potential, formulas, shift=SHIFT):
    """Return molecules whose energies are those of the base plus a shift per atom."""
    found = []
    for i, formula in enumerate(formulas):
        atoms = Atoms(formula)
        atoms.positions += 1.1 * torch.arange(3 * len(atoms)).view(-1, 3).sin().numpy()
        atoms.positions[:, 0] += 1.3 * torch.arange(len(atoms)).numpy()
        system = from_ase(atoms, dataset="omol", sid=f"{i}")
        ((_, values),) = predicted(potential, [system], ("energy",))
        extra = sum(shift[z] for z in system.atomic_numbers.tolist())
        found.append(replace(system, dataset=["mine"], labels={"energy": values["energy"] + extra}))
    return found


@pytest.fixture
def extended(shared):
    base = initialize_finetuning_model(shared / "reference" / "uma_tiny" / "tiny_uma_moehead.pt")
    return base, add_dataset(base, "mine", "omol", Domain((1, 6, 8)))


def test_known_shifts_are_found(extended, capsys):
    base, potential = extended
    data = molecules(base, ["H2O", "CO", "CH4", "CO2", "C2H6O"])
    refitted, refit = refit_references(potential, "mine", data)
    for z, shift in SHIFT.items():
        assert float(refit.after[z] - refit.before[z]) == pytest.approx(shift, abs=1e-6)
    assert refit.rank == 3
    assert refit.error_before > 10.0
    assert refit.error_after < 1e-6
    tasks = {task.name: task for task in refitted.tasks}
    assert torch.equal(tasks["mine_energy"].element_references, refit.after)
    assert torch.equal(
        tasks["omol_energy"].element_references,
        base.task_for("omol", "energy").element_references,
    )
    refit.show()
    printed = capsys.readouterr()
    assert "-1027.2500" in printed.out
    assert "meV/atom" in printed.err


def test_what_one_composition_does_not_determine_stays_nearest(extended, capsys):
    base, potential = extended
    data = molecules(base, ["H2O", "H2O"])
    _, refit = refit_references(potential, "mine", data)
    assert refit.rank == 1
    assert refit.error_after < 1e-6
    change = refit.after - refit.before
    # Least change along (2, 1): twice as much for hydrogen as for oxygen.
    assert float(change[1] / change[8]) == pytest.approx(2.0)
    assert float(change[6]) == 0.0
    refit.show()
    assert "determine 1 of 2" in capsys.readouterr().err


def test_no_energy_is_an_error(extended):
    base, potential = extended
    (system,) = molecules(base, ["H2O"])
    with pytest.raises(MissingLabelError, match="mine"):
        refit_references(potential, "mine", [replace(system, labels={})])


@pytest.mark.parametrize("name", ["tiny_uma_moehead", "tiny_uma"])
@pytest.mark.parametrize("mean", [False, True])
def test_another_scale_changes_no_prediction(shared, name, mean):
    base = initialize_finetuning_model(shared / "reference" / "uma_tiny" / f"{name}.pt")
    base.head.mean_energy = mean
    with torch.no_grad():
        base.head.energy_block[4].bias.fill_(0.3)
    potential = add_dataset(base, "mine", "omol", Domain((1, 6, 8)))
    potential.head.mean_energy = mean
    scaled = rescale(potential, "mine", 3.7)
    assert scaled.task_for("mine", "energy").normalizer.rmsd == 3.7
    assert scaled.task_for("mine", "forces").normalizer.rmsd == 3.7
    data = molecules(base, ["H2O", "CO", "CH4"])
    old = [v for _, v in predicted(base, data, ("energy", "forces"), dataset="omol")]
    new = [v for _, v in predicted(scaled, data, ("energy", "forces"))]
    for before, after in zip(old, new, strict=True):
        assert torch.allclose(before["energy"], after["energy"], atol=2e-5)
        assert torch.allclose(before["forces"], after["forces"], atol=2e-5)
    start = check_start(base, scaled, {"mine": "omol"}, data)
    assert start.energy < 1e-5
    _, refit = refit_references(scaled, "mine", data)
    with pytest.raises(StartError, match="Before any training"):
        check_start(base, rescale(scaled, "mine", 1.1), {"mine": "omol"}, data, [refit])


def test_a_shared_head_cannot_be_rescaled(small):
    with pytest.raises(ConfigError, match="no weights of this dataset alone"):
        rescale(small, "emt", 2.0)
