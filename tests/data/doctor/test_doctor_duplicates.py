"""Repetitions within a dataset and across splits."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import torch
from ase import Atoms
from doctor_structures import codes, crystals, labelled, molecules, relabel, the

from adatom.data.atomic_data import AtomicData
from adatom.data.doctor import check_dataset
from adatom.data.doctor.duplicates import repeats
from adatom.data.survey import Survey, survey


def moved(system: AtomicData, sid: str, rattle: float = 0.0) -> AtomicData:
    """Return the same structure turned, shifted and renumbered, with the same labels."""
    random = np.random.default_rng(len(sid))
    atoms: Atoms = system.to_ase()[0]
    atoms.calc = None
    atoms = atoms[random.permutation(len(atoms))]
    atoms.rotate(40, (1, 1, 3), rotate_cell=True)
    atoms.positions += random.normal(size=3) + rattle * random.normal(size=atoms.positions.shape)
    return labelled(atoms, sid)


def test_exact_and_near_duplicates() -> None:
    for systems in (crystals(20), molecules(20)):
        assert not codes(check_dataset(systems)) & {"duplicates", "near-duplicates"}
        findings = check_dataset(
            [*systems, moved(systems[4], "same"), moved(systems[5], "near", 3e-4)]
        )
        assert the(findings, "duplicates").sids == ("same",)
        assert the(findings, "near-duplicates").sids == ("near",)


def test_many_repetitions_of_one_structure_are_all_counted() -> None:
    systems = molecules(10)
    copies = [moved(systems[0], f"copy{i:03d}") for i in range(30)]
    assert len(the(check_dataset(systems + copies), "duplicates").sids) == 30


def test_leaks_into_another_split() -> None:
    systems, val = crystals(20), crystals(10, seed=33)
    assert not codes(check_dataset(systems, others={"val": val})) & {"leak", "near-leak"}
    val = [*val, moved(systems[2], "leaked"), moved(systems[3], "nearly", 3e-4)]
    findings = check_dataset(systems, others={"val": val})
    assert the(findings, "leak").sids == ("leaked",)
    assert "'val'" in the(findings, "leak").message
    assert the(findings, "near-leak").sids == ("nearly",)


def test_contradicting_energies_are_errors_unless_charge_or_dataset_tells_them_apart() -> None:
    systems = molecules(20)
    twin = relabel([moved(systems[0], "twin")], "energy", lambda e: e + 1.0)[0]
    finding = the(check_dataset([*systems, twin]), "conflicting-energies")
    assert (finding.severity, finding.sids) == ("error", ("twin",))
    charged = replace(twin, charge=torch.tensor([1]))
    other = replace(twin, dataset=["other"])
    for system in (charged, other):
        assert "conflicting-energies" not in codes(check_dataset([*systems, system]))


def test_hundred_thousand_structures_are_compared_in_seconds() -> None:
    columns = _repeated_survey(100_000)
    start = time.process_time()
    found = repeats(columns, None)
    assert time.process_time() - start < 20.0
    assert len(found.same) == 50
    assert len(found.conflict) == 0


def _repeated_survey(count: int) -> Survey:
    """Return a survey of random fingerprints in which the last 50 repeat the first 50."""
    base = survey(molecules(1))
    random = np.random.default_rng(0)
    fingerprint = 2.0 + 0.5 * random.normal(size=(count, base.fingerprint.shape[1]))
    energy = random.normal(size=count)
    fingerprint[-50:], energy[-50:] = fingerprint[:50], energy[:50]
    changes = {
        name: getattr(base, name) * count
        if isinstance(getattr(base, name), list)
        else np.repeat(getattr(base, name), count, axis=0)
        for name in Survey.__dataclass_fields__
    }
    return Survey(**changes | {"fingerprint": fingerprint, "energy": energy})
