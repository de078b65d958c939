"""Structures that several workers and one process must agree on, for the tests with Ray."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from ase import Atoms
from ase.build import bulk, fcc100, molecule

from adatom.data.ase_convert import from_ase
from adatom.data.atomic_data import AtomicData
from adatom.inference.predict_unit import MLIPPredictUnit

#: Greatest deviations: eV, eV/angstrom, eV/angstrom^3.
TOLERANCES = {"energy": 1e-9, "forces": 1e-9, "stress": 1e-10, "energies": 1e-9, "virials": 1e-9}


def crystal() -> Atoms:
    atoms = bulk("Cu", "fcc", a=3.7, cubic=True) * (2, 2, 1)
    atoms.rattle(0.1, seed=1)
    return atoms


def slab() -> Atoms:
    atoms = fcc100("Cu", (2, 2, 3), a=3.7, vacuum=6.0)
    atoms.rattle(0.1, seed=2)
    return atoms


def far_apart() -> Atoms:
    """Return two molecules that share no edge, so that a worker may own no boundary."""
    second = molecule("H2O")
    second.translate([40.0, 0.0, 0.0])
    return molecule("CH3OH") + second


def systems() -> Iterator[AtomicData]:
    """Yield systems in an order in which something besides positions changes from each to next."""
    for atoms in (crystal(), slab(), molecule("CH3OH"), far_apart()):
        yield from_ase(atoms, dataset="default", label_keys={})
    start = from_ase(crystal(), dataset="default", label_keys={})
    yield start
    yield replace(start, charge=start.charge + 1)
    yield replace(start, spin=start.spin + 1)
    yield replace(start, pbc=~start.pbc)
    yield replace(start, dataset=["other"])
    numbers = start.atomic_numbers.clone()
    numbers[::2] = 14
    yield replace(start, atomic_numbers=numbers)
    yield replace(start, atomic_numbers=numbers.flip(0))
    yield replace(start, pos=start.pos * 1.01, cell=start.cell * 1.01)


def require_equal(unit: MLIPPredictUnit, one: MLIPPredictUnit, data: AtomicData) -> None:
    """Compare all properties that both have."""
    found = unit.predict(data, [*TOLERANCES])
    expected = one.predict(data, [*TOLERANCES])
    assert list(found) == list(expected)
    assert found.sids == expected.sids
    assert found.absent == expected.absent
    for name, value in expected.items():
        assert found[name].dtype == value.dtype
        torch.testing.assert_close(found[name], value, rtol=0, atol=TOLERANCES[name], msg=name)


def marked_processes(mark: str) -> dict[int, str]:
    """Return the processes that have a text in their environment, by id, with their names."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (folder / "environ").read_bytes():
                name = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
                # A zombie only waits for its parent to notice.
                if state != "Z" and int(folder.name) != os.getpid():
                    found[int(folder.name)] = name
        except (OSError, ValueError):
            continue
    return found
