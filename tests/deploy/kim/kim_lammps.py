"""Run LAMMPS and read what it printed."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from adatom.deploy.kim.doctor import examine

#: eV/angstrom^3 in bar as LAMMPS has it; its constants of nature are older than those of ASE.
BAR = 1.6021765e6
#: That of LAMMPS, not one that a Python package brought along.
_MPIRUN = "/usr/bin/mpirun --allow-run-as-root --oversubscribe --bind-to none -np"


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


def run_lammps(folder: Path, script: str, *, ranks: int = 1) -> list[np.ndarray]:
    """Run a script and return the rows of thermo output of each of its runs.

    Args:
        folder: Where its files are, and those that LAMMPS writes.
        script: The input.
        ranks: Processes of MPI.
    """
    (folder / "in.test").write_text(script)
    command = [str(shutil.which("lmp")), "-in", "in.test", "-log", "log.test"]
    if ranks > 1:
        command = [*_MPIRUN.split(), str(ranks), *command]
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
