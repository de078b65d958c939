"""Each check passes for a sound potential, and fails for one that breaks exactly that."""

from __future__ import annotations

import json
from functools import cache, partial

import numpy as np
import pytest
from ase import Atoms
from broken_potentials import (
    CUTOFF,
    CountsTheFirstAtomMore,
    ForgetsBoundaries,
    ForgetsThirdBoundary,
    ForgetsToWrap,
    Handed,
    InAField,
    InfiniteCarbon,
    Leaks,
    LeaksWhenMade,
    NoCarbon,
    Noisy,
    Pairs,
    SharedScratch,
    SlightlyWrongForces,
    SmallStepOfForce,
    Truncated,
    WrongSign,
    in_bohr,
)

from adatom.core.errors import ConfigError, UnknownNameError
from adatom.evaluate.verification import CHECKS, Subject, memory_use, verify
from adatom.evaluate.verification.numerical_forces import grade_of
from adatom.evaluate.verification.ridders import ridders_derivative
from adatom.evaluate.verification.species_support import _clusters
from adatom.evaluate.verification.structures import distorted, rotation


def subject(calculator, **changes):
    facts = {
        "name": calculator.__name__,
        "species": ("Si", "C"),
        "make": calculator,
        "units": {"Bohr": in_bohr},
        "cutoff": CUTOFF,
    }
    return Subject(**(facts | changes))


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """Half as many evaluations show a leak of 32 kB each."""
    monkeypatch.setattr(memory_use, "_PATIENCE", 0.0)


@cache
def sound():
    return verify(subject(Pairs))


def test_a_sound_potential_passes_everything():
    result = sound()
    assert [each.check for each in result.results] == list(CHECKS)
    assert {each.verdict for each in result.results} == {"passed"}
    assert result.failed == []
    assert result["forces"].finding.grade == "A"
    assert result["periodicity"].finding.value < 1e-12
    assert result["threads"].finding.value == 0


@pytest.mark.parametrize(
    ("check", "broken"),
    [
        ("species", NoCarbon),
        ("species", InfiniteCarbon),
        ("periodicity", ForgetsBoundaries),
        ("periodicity", ForgetsThirdBoundary),
        ("periodicity", ForgetsToWrap),
        ("permutation", CountsTheFirstAtomMore),
        ("forces", WrongSign),
        ("forces", SlightlyWrongForces),
        ("dimers", Truncated),
        ("dimers", SmallStepOfForce),
        ("objectivity", InAField),
        ("inversion", Handed),
        ("memory", Leaks),
        ("memory", LeaksWhenMade),
        ("threads", SharedScratch),
        ("threads", Noisy),
    ],
)
def test_a_broken_potential_fails_its_check(check, broken):
    result = verify(subject(broken), [check])[check]
    assert result.verdict == "FAILED"
    assert result.finding.detail
    failed = verify(subject(broken), [check]).failed if check == "permutation" else [check]
    assert failed == [check]


def test_other_checks_do_not_notice_what_is_not_theirs():
    assert verify(subject(WrongSign), ["permutation", "objectivity", "inversion"]).failed == []
    handed = verify(subject(Handed), ["permutation", "periodicity"])
    assert handed.failed == []
    assert verify(subject(Handed), ["objectivity"])["objectivity"].verdict == "passed"
    assert verify(subject(InAField), ["permutation", "periodicity"]).failed == []


def test_wrong_constants_of_units_are_noticed():
    wrong = subject(Pairs, units={"right": in_bohr, "Bohr": partial(in_bohr, bohr=0.5292)})
    found = verify(wrong, ["units"])["units"]
    assert found.verdict == "FAILED"
    assert "Bohr" in found.finding.detail
    none = verify(subject(Pairs, units={}), ["units"])
    assert none["units"].verdict == "not applicable"
    assert none.failed == []


def test_informational_failures_do_not_count():
    result = verify(subject(Truncated), ["dimers"])
    assert result["dimers"].verdict == "FAILED"
    assert result.failed == []


def test_steps_are_found_without_knowing_the_cutoff():
    found = verify(subject(Truncated, cutoff=None), ["dimers"])["dimers"].finding
    assert "at 3 angstrom" in found.detail
    assert verify(subject(Pairs, cutoff=None), ["dimers"])["dimers"].verdict == "passed"


def test_grades_follow_the_logarithm_of_the_deviation():
    eps = float(np.finfo(float).eps)
    scores = [0, 7.4, 7.6, 9.9, 10.1, 12.6, 14.9, 15.1]
    assert "".join(grade_of(eps * 10**score) for score in scores) == "AABBCDDF"
    assert grade_of(float("nan")) == "F"
    assert verify(subject(WrongSign), ["forces"])["forces"].finding.grade == "F"
    slight = verify(subject(SlightlyWrongForces), ["forces"])["forces"].finding
    assert slight.value == pytest.approx(1e-3, rel=1e-3)
    assert slight.grade == "D"


def test_single_precision_has_wider_limits():
    class Rounded(Pairs):
        def compute(self, atoms):
            energy, forces = super().compute(atoms)
            return float(np.float32(energy)), forces.astype(np.float32).astype(float)

    checks = ["permutation", "objectivity", "forces", "dimers"]
    single = verify(subject(Rounded, precision="single"), checks)
    assert {each.verdict for each in single.results} == {"passed"}
    assert verify(subject(Rounded), ["objectivity"])["objectivity"].verdict == "FAILED"
    assert verify(subject(WrongSign, precision="single"), ["forces"]).failed == ["forces"]


def test_results_are_plain_and_repeatable():
    plain = json.loads(json.dumps(sound().to_json()))
    assert plain["failed"] == []
    assert [each["check"] for each in plain["checks"]] == list(CHECKS)
    alone = verify(subject(Pairs), ["objectivity"])["objectivity"].finding
    assert alone == sound()["objectivity"].finding


def test_ridders_knows_how_good_it_is():
    for function, step, slope in ((np.sin, 0.1, 1.0), (np.exp, 0.1, 1.0), (np.square, 0.1, 0.0)):
        found, error = ridders_derivative(function, step)
        assert found == pytest.approx(slope, abs=1e-10)
        assert abs(found - slope) <= max(error, 1e-14)
    _, error = ridders_derivative(lambda x: float(x > 0.003), 0.1)
    assert error > 1


def test_with_many_species_each_is_in_some_clusters():
    rng = np.random.default_rng(0)
    species = [Atoms([number]).get_chemical_symbols()[0] for number in range(1, 101)]
    clusters = list(_clusters(species, rng))
    assert len(clusters) == 400
    assert {symbol for atoms in clusters for symbol in atoms.symbols} == set(species)
    few = list(_clusters(["Si"], rng))
    assert len(few) == 40
    assert all(
        atoms.get_all_distances()[np.triu_indices(len(atoms), 1)].min(initial=9) >= 1.0
        for atoms in few
    )


def test_structures_are_distorted_and_rotations_proper():
    rng = np.random.default_rng(0)
    atoms = distorted(["Si", "C"], rng, lattice="diamond", repeat=(2, 1, 1))
    assert sorted(atoms.symbols) == ["C"] * 8 + ["Si"] * 8
    turn = rotation(rng)
    assert turn @ turn.T == pytest.approx(np.eye(3), abs=1e-14)
    assert np.linalg.det(turn) == pytest.approx(1.0)


def test_wrong_subjects_and_unknown_checks_are_refused():
    with pytest.raises(ConfigError, match="no elements"):
        subject(Pairs, species=())
    with pytest.raises(UnknownNameError, match="did you mean 'double'"):
        subject(Pairs, precision="duble")
    with pytest.raises(UnknownNameError, match="did you mean 'forces'"):
        verify(subject(Pairs), ["force"])
    with pytest.raises(UnknownNameError, match="Unknown check 'units'"):
        verify(subject(Pairs), ["forces"])["units"]
