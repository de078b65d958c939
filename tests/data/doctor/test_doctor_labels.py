"""Coverage, energies, forces: constructed mistakes and clean data."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from doctor_structures import codes, crystals, molecules, relabel, the

from adatom.core.errors import DataError
from adatom.data.ase_convert import from_ase
from adatom.data.atomic_data import AtomicData, collate
from adatom.data.doctor import check_dataset


def without(system: AtomicData, name: str) -> AtomicData:
    return replace(system, labels={k: v for k, v in system.labels.items() if k != name})


def test_clean_sets_have_no_findings() -> None:
    assert check_dataset(crystals()) == []
    assert check_dataset(molecules()) == []


def test_missing_partial_and_non_finite_labels() -> None:
    systems = crystals(10)
    bare = [replace(s, labels={}) for s in systems]
    assert the(check_dataset(bare), "no-labels").severity == "error"
    part = [without(systems[0], "forces"), *systems[1:]]
    finding = the(check_dataset(part), "partial-labels")
    assert finding.sids == ("cu-0",)
    assert "forces" in finding.message
    broken = [*systems[:-1], relabel(systems[-1:], "forces", lambda f: f * float("nan"))[0]]
    finding = the(check_dataset(broken), "not-finite")
    assert (finding.severity, finding.sids) == ("error", ("cu-9",))


def test_batches_and_empty_sets_are_refused() -> None:
    with pytest.raises(DataError, match="no structures"):
        check_dataset([])
    with pytest.raises(DataError, match="2 systems"):
        check_dataset([collate(crystals(2))])


def test_equal_energies_and_zero_forces() -> None:
    systems = relabel(crystals(10), "energy", lambda e: 0 * e)
    assert the(check_dataset(systems), "equal-energies").severity == "error"
    systems = relabel(crystals(10), "forces", lambda f: 0 * f)
    assert the(check_dataset(systems), "zero-forces").severity == "error"


def test_rounded_energies() -> None:
    far = relabel(molecules(), "energy", lambda e: (e - 4213.7).float().double())
    finding = the(check_dataset(far), "quantized-energies")
    assert "float32" in finding.message
    rounded = relabel(molecules(), "energy", lambda e: torch.round(e, decimals=2))
    finding = the(check_dataset(rounded), "quantized-energies")
    assert "2 decimals" in finding.message
    assert finding.severity == "warning"  # 0.01 eV / 9 atoms


def test_energy_outlier_is_named() -> None:
    systems = crystals(40)
    systems[7].labels["energy"] = systems[7].labels["energy"] + 8.0
    assert the(check_dataset(systems), "energy-outliers").sids == ("cu-7",)


def test_force_outlier_is_named() -> None:
    systems = crystals(40)
    forces = systems[3].labels["forces"].clone()
    forces[0, 0] += 60.0
    forces[1, 0] -= 60.0
    systems[3].labels["forces"] = forces
    finding = the(check_dataset(systems), "force-outliers")
    assert finding.sids == ("cu-3",)


def test_net_force_and_fixed_atoms() -> None:
    systems = crystals(10)
    systems[2].labels["forces"] = systems[2].labels["forces"] + 0.05
    finding = the(check_dataset(systems), "net-force")
    assert (finding.severity, finding.sids) == ("warning", ("cu-2",))
    # Forces of fixed atoms set to zero: the sum means nothing, and that is said instead.
    systems = crystals(10)
    fixed = torch.tensor([True, False, False, False])
    held = [replace(s, fixed=fixed) for s in systems]
    assert "net-force" not in codes(check_dataset(held))
    held = relabel(held, "forces", lambda f: torch.where(fixed[:, None], 0.0, f))
    found = codes(check_dataset(held))
    assert "constrained-forces" in found
    assert "net-force" not in found


def test_two_levels_of_theory_in_one_dataset() -> None:
    systems = molecules(60)
    for s in systems[::3]:
        s.labels["energy"] = s.labels["energy"] - 30.0
    finding = the(check_dataset(systems), "mixed-levels")
    assert finding.severity == "error"
    assert set(finding.sids) == {s.sid[0] for s in systems[::3]}
    named = [replace(s, dataset=["b" if i % 3 == 0 else "a"]) for i, s in enumerate(systems)]
    assert "mixed-levels" not in codes(check_dataset(named))


def test_two_phases_are_not_two_levels() -> None:
    # The expanded crystals differ in energy because they differ in geometry.
    expanded = []
    for s in crystals(30, seed=9):
        atoms = s.to_ase()[0]
        atoms.set_cell(1.25 * atoms.cell.array, True)
        energy = float(s.labels["energy"]) + 6.0
        atoms.calc = SinglePointCalculator(atoms, energy=energy)
        expanded.append(from_ase(atoms, sid="x" + s.sid[0]))
    compact = [replace(s, labels={"energy": s.labels["energy"]}) for s in crystals(30)]
    assert "mixed-levels" not in codes(check_dataset(compact + expanded))


@pytest.mark.parametrize(("factor", "unit"), [(1.0, "hartree"), (627.5095, "kcal/mol")])
def test_total_energies_in_other_units(factor: float, unit: str) -> None:
    # PBE total energies of ethanol rise by vibration; -154.9 hartree without.
    systems = relabel(molecules(), "energy", lambda e: factor * (e * 0.0367 - 154.9))
    finding = the(check_dataset(systems), "energy-unit")
    assert unit in finding.message
    right = relabel(molecules(), "energy", lambda e: e - 154.9 * 27.211386)
    assert "energy-unit" not in codes(check_dataset(right))


def test_isolated_atoms_are_mentioned_and_do_not_disturb() -> None:
    atom = Atoms("Cu", [[0, 0, 0]], cell=[15, 15, 15], pbc=True)
    atom.calc = SinglePointCalculator(atom, energy=0.0, forces=np.zeros((1, 3)))
    systems = [*crystals(30), from_ase(atom, sid="atom")]
    findings = check_dataset(systems)
    assert the(findings, "isolated-atoms").sids == ("atom",)
    assert "energy-outliers" not in codes(findings)


def test_spin_that_counts_unpaired_electrons() -> None:
    atoms = Atoms("CH2", [[0, 0, 0], [0.9, 0.6, 0], [-0.9, 0.6, 0]])
    triplet = from_ase(atoms, sid="triplet")
    right = [replace(triplet, spin=torch.tensor([3]))]
    wrong = [replace(triplet, spin=torch.tensor([2]))]
    assert "spin-parity" not in codes(check_dataset(right))
    assert the(check_dataset(wrong), "spin-parity").sids == ("triplet",)
