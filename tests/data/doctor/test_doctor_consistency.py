"""Signs, units and shifts of labels, made wrong on purpose."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from ase.build import bulk
from doctor_structures import codes, crystals, labelled, molecules, relabel, the

from adatom.data.atomic_data import AtomicData
from adatom.data.doctor import check_dataset
from adatom.data.doctor.context import Context

GPA = 160.21766208
SUSPICIONS = {
    "forces-are-gradients",
    "force-or-energy-unit",
    "forces-and-energy",
    "energy-and-forces-unrelated",
    "stress-sign",
    "stress-unit",
    "stress-shift",
    "stress-and-energy",
    "stress-magnitude",
}


@pytest.fixture(scope="module")
def strained() -> list[AtomicData]:
    return crystals()


@pytest.fixture(scope="module")
def ethanol() -> list[AtomicData]:
    return molecules()


def test_the_work_is_second_order_accurate(
    strained: list[AtomicData], ethanol: list[AtomicData]
) -> None:
    for systems in (strained, ethanol):
        pairs = Context.of(systems).work
        assert len(pairs) >= 20
        error = pairs.energy - pairs.force_work - pairs.stress_work
        assert np.sqrt((error**2).mean()) < 0.15 * np.sqrt((pairs.energy**2).mean())


def test_work_of_strain_and_displacement_is_exact_in_the_limit() -> None:
    near = [crystals(1)[0]]
    atoms = near[0].to_ase()[0]
    random = np.random.default_rng(5)
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + 1e-3 * random.normal(size=(3, 3))), True)
    atoms.positions += 1e-3 * random.normal(size=(4, 3)) + 0.3
    atoms.wrap()
    near.append(labelled(atoms, "moved"))
    pairs = Context.of(near).work
    assert len(pairs) == 1
    work = float(pairs.force_work[0] + pairs.stress_work[0])
    assert work == pytest.approx(float(pairs.energy[0]), rel=2e-4)


def test_consistent_labels_are_not_suspicious(
    strained: list[AtomicData], ethanol: list[AtomicData]
) -> None:
    for systems in (strained, ethanol, crystals(strained=False)):
        assert not codes(check_dataset(systems)) & SUSPICIONS


@pytest.mark.parametrize(
    ("factor", "code", "words"),
    [
        (-1.0, "stress-sign", "sign"),
        (GPA, "stress-unit", "in GPa"),
        (-10 * GPA, "stress-unit", "kbar, and with the wrong sign"),
        (10.0, "stress-unit", "kbar that was converted as GPa"),
        (-10.0, "stress-unit", "kbar that was converted as GPa, and with the wrong sign"),
    ],
)
def test_wrong_stress(strained: list[AtomicData], factor: float, code: str, words: str) -> None:
    finding = the(check_dataset(relabel(strained, "stress", lambda s: factor * s)), code)
    assert finding.severity == "error"
    assert words in finding.message
    assert len(finding.sids) > 10


def test_virial_instead_of_stress() -> None:
    # Two cell sizes, or a virial could be a unit.
    systems = [*crystals(15), *(_doubled(s) for s in crystals(15, seed=8))]
    virial = [
        replace(s, labels=s.labels | {"stress": -s.labels["stress"] * s.cell.det().abs()})
        for s in systems
    ]
    finding = the(check_dataset(virial), "stress-unit")
    assert "virials (volume times stress) given as stress, and with" in finding.message


def _doubled(system: AtomicData) -> AtomicData:
    return labelled(system.to_ase()[0].repeat((2, 1, 1)), system.sid[0] + "-doubled")


def test_constant_pressure_shift() -> None:
    systems = [labelled(bulk("Cu", cubic=True, a=a), f"{a}") for a in np.linspace(3.5, 3.7, 12)]
    assert not codes(check_dataset(systems)) & SUSPICIONS
    shift = 2.5 / GPA * torch.eye(3, dtype=torch.float64)
    finding = the(check_dataset(relabel(systems, "stress", lambda s: s + shift)), "stress-shift")
    assert "+2.5" in finding.message
    assert finding.severity == "warning"


@pytest.mark.parametrize(
    ("factor", "code", "words"),
    [
        (-1.0, "forces-are-gradients", "gradients"),
        (0.529177 / 27.211386, "force-or-energy-unit", "hartree/bohr"),
        (1 / 27.211386, "force-or-energy-unit", "hartree"),
        (23.060548, "force-or-energy-unit", "kcal/mol"),
    ],
)
def test_wrong_forces(ethanol: list[AtomicData], factor: float, code: str, words: str) -> None:
    finding = the(check_dataset(relabel(ethanol, "forces", lambda f: factor * f)), code)
    assert finding.severity == "error"
    assert words in finding.message


def test_gradients_without_energies_are_found_by_their_curvature() -> None:
    systems = crystals(strained=False)
    for s in systems:
        del s.labels["energy"]
    assert not codes(check_dataset(systems)) & SUSPICIONS
    flipped = relabel(systems, "forces", lambda f: -f)
    assert the(check_dataset(flipped), "forces-are-gradients").severity == "error"


def test_shuffled_energies_are_unrelated_to_the_forces() -> None:
    systems = crystals(40, strained=False)
    energies = [s.labels["energy"] for s in systems]
    order = np.random.default_rng(3).permutation(len(systems))
    for s, i in zip(systems, order, strict=True):
        s.labels["energy"] = energies[i]
    assert the(check_dataset(systems), "energy-and-forces-unrelated").severity == "error"


def test_implausible_stress_without_anything_to_compare() -> None:
    # Far apart, so that no pair can be compared.
    systems = [
        labelled(s.to_ase()[0].repeat((1, 1, n + 1)), s.sid[0]) for n, s in enumerate(crystals(6))
    ]
    assert "stress-magnitude" not in codes(check_dataset(systems))
    kbar = [
        replace(s, labels=s.labels | {"stress": 10 * GPA * s.labels["stress"]}) for s in systems
    ]
    assert "stress-magnitude" in codes(check_dataset(kbar))
