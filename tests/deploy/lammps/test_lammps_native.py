"""A potential of ASE through fix external does what the same potential does inside of LAMMPS."""

from __future__ import annotations

import numpy as np
import pytest
from lammps_cases import OUTPUT, REAL, Output, argon, native, need_lammps

from adatom.deploy.lammps.library import open_lammps
from adatom.deploy.lammps.run import run_lammps

BOX = """
units {units}
boundary {boundary}
atom_modify sort 4 3.0
lattice fcc 5.4
region box {region}
create_box {types} box
create_atoms 1 box
mass * 39.948
{pair}
neighbor 1.0 bin
displace_atoms all random 0.1 0.1 0.1 7
velocity all create 60 11 loop geom
"""

NVE = "fix 1 all nve\nrun 20\n"
#: Name, boundary, region, what the script does.
CASES = {
    "nve": ("p p p", "block 0 2 0 2 0 2", NVE),
    "smaller-than-the-cutoff": ("p p p", "block 0 1 0 1 0 1", NVE),
    "triclinic": ("p p p", "prism 0 2 0 2 0 2 0.5 0.3 -0.4", NVE),
    "slab": ("p p f", "block 0 2 0 2 0 2", "change_box all z delta -8 8\n" + NVE),
    "shrinking": ("p s s", "block 0 2 0 2 0 2", NVE),
    "cluster": (
        "f f f",
        "block 0 2 0 2 0 2",
        "change_box all x delta -5 5 y delta -5 5 z delta -5 5\n" + NVE,
    ),
    "npt": ("p p p", "block 0 2 0 2 0 2", "fix 1 all npt temp 60 60 0.1 iso 0 500 0.5\nrun 20\n"),
    "npt-triclinic": (
        "p p p",
        "prism 0 2 0 2 0 2 0.5 0.3 -0.4",
        "fix 1 all npt temp 60 60 0.1 tri 0 500 0.5\nrun 20\n",
    ),
    # Atoms cross the boundary, and LAMMPS wraps and sorts them.
    "hot": ("p p p", "block 0 2 0 2 0 2", "velocity all scale 2000\nfix 1 all nve\nrun 60\n"),
    "two-runs": (
        "p p p",
        "block 0 2 0 2 0 2",
        """fix 1 all nve
run 5
delete_atoms random count 6 yes all NULL 3
run 5
create_atoms 1 single 0.31 0.27 0.2
run 5
unfix 1
replicate 1 1 2
fix 1 all nve
undump 1
reset_timestep 0
run 5
""",
    ),
    "minimize": ("p p p", "block 0 2 0 2 0 2", "minimize 1e-12 1e-10 20 100\n"),
    "relaxed-box": (
        "p p p",
        "block 0 2 0 2 0 2",
        "fix 1 all box/relax iso 0.0 vmax 0.001\nminimize 1e-12 1e-10 20 100\n",
    ),
    # A fix of the script must see the potential's forces, whatever came first in the file.
    "held": (
        "p p p",
        "block 0 2 0 2 0 2",
        """group low id <= 8
velocity low set 0 0 0
fix 1 all nve
fix 2 low setforce 0 0 0
run 10
""",
    ),
}


@pytest.fixture
def both(tmp_path, monkeypatch):
    """Return a function that runs a script natively and through fix external."""
    need_lammps()

    def run(script: str, *, units: str = "metal", **names: str) -> tuple[Output, Output]:
        found = []
        for way in ("native", "external"):
            folder = tmp_path / way
            folder.mkdir()
            monkeypatch.chdir(folder)
            pair = native(REAL if units == "real" else 1.0) if way == "native" else ""
            text = script.format(pair=pair, units=units, types=1, **names)
            (folder / "in.test").write_text(text)
            quiet = ("-log", "log.test", "-screen", "none", "-nocite")
            if way == "native":
                lmp = open_lammps(quiet)
                lmp.file("in.test")
                lmp.close()
            else:
                run_lammps("in.test", argon(), ["Ar"], log="log.test", screen="none")
            found.append(Output.read(folder / "log.test", folder / "atoms.dump"))
        return found[0], found[1]

    return run


@pytest.mark.parametrize("case", CASES)
def test_the_same_trajectory(both, case):
    boundary, region, what = CASES[case]
    expected, found = both(BOX + OUTPUT + what, boundary=boundary, region=region)
    assert len(expected.thermo) > 1
    # Energies of one box in eV, pressures in bar.
    assert found.thermo[:, :4] == pytest.approx(expected.thermo[:, :4], rel=1e-7, abs=1e-9)
    assert found.thermo[:, 4:] == pytest.approx(expected.thermo[:, 4:], rel=1e-6, abs=1e-4)
    for ours, theirs in zip(found.atoms, expected.atoms, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-8)
    assert np.abs(expected.atoms[-1][:, 4:]).max() > 0


def test_units_real(both):
    boundary, region, _ = CASES["nve"]
    script = BOX + OUTPUT + "timestep 1.0\nfix 1 all nve\nrun 20\n"
    expected, found = both(script, units="real", boundary=boundary, region=region)
    assert found.thermo == pytest.approx(expected.thermo, rel=1e-7, abs=1e-7)
    assert found.atoms[-1] == pytest.approx(expected.atoms[-1], abs=1e-8)


def test_energies_and_stresses_of_atoms(both):
    boundary, region, _ = CASES["triclinic"]
    values = """
compute energy all pe/atom
compute stress all stress/atom NULL
dump 1 all custom 5 atoms.dump id c_energy c_stress[*]
dump_modify 1 sort id format float %20.14g
fix 1 all nve
run 10
"""
    expected, found = both(BOX + values, boundary=boundary, region=region)
    for ours, theirs in zip(found.atoms, expected.atoms, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-8, abs=1e-8)
