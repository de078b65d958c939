"""What the doctor says about published sets whose defects are known."""

from __future__ import annotations

import io
import json
import lzma
import tarfile
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from doctor_structures import codes, read, the

from adatom.data.ase_convert import from_ase
from adatom.data.atomic_data import AtomicData
from adatom.data.doctor import Finding, check_dataset

GPA = 160.21766208


def zuo(shared: Path, element: str) -> list[Finding]:
    folder = shared / "data" / "zuo2020"
    test = read(folder / f"{element}_test.extxyz.xz")
    return check_dataset(read(folder / f"{element}_train.extxyz.xz"), others={"test": test})


def test_copper_stress_shift_and_leak(shared: Path) -> None:
    findings = zuo(shared, "Cu")
    assert "+2.6" in the(findings, "stress-shift").message  # README: about 26 kbar
    # All distances of 13 are equal; the README counts 9, which also agree within 1e-7 eV/atom.
    assert len(the(findings, "leak").sids) == 13
    assert not [f for f in findings if f.severity == "error"]


def test_silicon_leaks_three_and_its_stress_is_sound(shared: Path) -> None:
    findings = zuo(shared, "Si")
    assert the(findings, "leak").sids == ("22", "23", "24")
    assert not {code for code in codes(findings) if code.startswith(("stress", "force"))}


def test_acac_is_clean_and_does_not_leak(shared: Path) -> None:
    folder = shared / "data" / "acac"
    others = {"test": read(folder / "test_MD_300K.xyz")}
    assert check_dataset(read(folder / "train_300K.xyz"), others=others) == []


@pytest.mark.parametrize(
    ("part", "sound"),
    [("varying_alat", True), ("NVT_runs", False)],
)
def test_kliff_energies_that_include_kinetic_energy(
    shared: Path, part: str, *, sound: bool
) -> None:
    archive = shared / "data" / "kliff_si_sw" / "Si_training_set.tar.gz"
    systems = []
    with tarfile.open(archive) as tar:
        members = [m for m in tar if part in m.name and m.name.endswith(".xyz")]
        for member in sorted(members, key=lambda m: m.name)[:200]:
            stream = tar.extractfile(member)
            assert stream is not None
            atoms = ase.io.read(io.StringIO(stream.read().decode()), format="extxyz")
            atoms.pbc = True
            labels = {"energy": atoms.info["Energy"], "forces": atoms.arrays["force"]}
            systems.append(_labelled(atoms, member.name, **labels))
    errors = {f.code for f in check_dataset(systems) if f.severity == "error"}
    assert errors == (set() if sound else {"energy-and-forces-unrelated"})


def test_bo2_documented_in_gpa_but_in_kbar(shared: Path) -> None:
    folder = shared / "data" / "bo2_multifidelity"
    assert check_dataset(read(folder / "bo2_PBE.extxyz.xz")) == []
    raw = lzma.decompress((folder / "supporting-information.json.xz").read_bytes())
    systems = []
    for oxide, phases in json.loads(raw).items():
        for phase, levels in phases.items():
            for i, run in enumerate(levels["PBE"]["EOS"]["calculations"]):
                a, data = run["atoms"], run["data"]
                atoms = Atoms(a["symbols"], a["positions"], cell=a["cell"], pbc=True)
                labels = {
                    "energy": data["total_energy"],
                    "forces": np.array(data["forces"]),
                    "stress": np.array(data["stress"]) / GPA,
                }
                systems.append(_labelled(atoms, f"{oxide}-{phase}-{i}", **labels))
    finding = the(check_dataset(systems), "stress-unit")
    assert finding.severity == "error"
    assert "stress in kbar that was converted as GPa, and with the wrong sign" in finding.message


def _labelled(atoms: Atoms, sid: str, **labels: object) -> AtomicData:
    plain = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    plain.calc = SinglePointCalculator(plain, **labels)
    return from_ase(plain, sid=sid)
