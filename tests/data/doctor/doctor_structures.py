"""Constructed datasets with labels of a cheap potential: every relation between them is exact."""

from __future__ import annotations

import io
import lzma
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import ase.io
import numpy as np
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

from adatom.data.ase_convert import from_ase
from adatom.data.atomic_data import AtomicData
from adatom.data.doctor import Finding


def labelled(atoms: Atoms, sid: str) -> AtomicData:
    """Label with energy, forces and (with a cell) stress of effective medium theory."""
    atoms = atoms.copy()
    atoms.calc = EMT()
    labels = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}
    if atoms.pbc.any():
        labels["stress"] = atoms.get_stress()
    atoms.calc = SinglePointCalculator(atoms, **labels)
    return from_ase(atoms, sid=sid)


def crystals(count: int = 30, *, strained: bool = True, seed: int = 4) -> list[AtomicData]:
    """Return rattled copper cells, or strained and less rattled ones."""
    return _fresh(_crystals(count, strained, seed))


@lru_cache
def _crystals(count: int, strained: bool, seed: int) -> tuple[AtomicData, ...]:
    random = np.random.default_rng(seed)
    systems = []
    for i in range(count):
        atoms = bulk("Cu", cubic=True, a=3.6)
        if strained:
            strain = 0.03 * random.normal(size=(3, 3))
            atoms.set_cell(atoms.cell.array @ (np.eye(3) + (strain + strain.T) / 2), True)
        atoms.positions += (0.01 if strained else 0.03) * random.normal(size=(4, 3))
        systems.append(labelled(atoms, f"cu-{i}"))
    return tuple(systems)


def molecules(count: int = 30, *, seed: int = 2) -> list[AtomicData]:
    """Return rattled, randomly rotated ethanol molecules."""
    return _fresh(_molecules(count, seed))


@lru_cache
def _molecules(count: int, seed: int) -> tuple[AtomicData, ...]:
    random = np.random.default_rng(seed)
    systems = []
    for i in range(count):
        atoms = molecule("CH3CH2OH")
        atoms.positions += 0.03 * random.normal(size=atoms.positions.shape)
        atoms.rotate(*random.uniform(0, 180, size=1), random.normal(size=3))
        systems.append(labelled(atoms, f"ethanol-{i}"))
    return tuple(systems)


def _fresh(systems: tuple[AtomicData, ...]) -> list[AtomicData]:
    """Return copies whose labels a test may change (labelling is the slow part)."""
    return [replace(s, labels=dict(s.labels)) for s in systems]


def relabel(
    systems: list[AtomicData], name: str, change: Callable[[torch.Tensor], torch.Tensor]
) -> list[AtomicData]:
    """Return copies with one label changed."""
    return [replace(s, labels=s.labels | {name: change(s.labels[name])}) for s in systems]


def codes(findings: list[Finding]) -> set[str]:
    """Return what kinds of findings there are."""
    return {finding.code for finding in findings}


def the(findings: list[Finding], code: str) -> Finding:
    """Return the one finding of a kind."""
    found = [finding for finding in findings if finding.code == code]
    assert len(found) == 1, [f.code for f in findings]
    return found[0]


def read(path: Path) -> list[AtomicData]:
    """Read an extended XYZ file, compressed or not."""
    raw = path.read_bytes()
    text = (lzma.decompress(raw) if path.suffix == ".xz" else raw).decode()
    frames = ase.io.read(io.StringIO(text), ":", format="extxyz")
    return [from_ase(atoms, sid=str(i)) for i, atoms in enumerate(frames)]
