"""Dynamics in LAMMPS: against its own potential, on several ranks, with conserved energy."""

from __future__ import annotations

import ase.io
import numpy as np
import pytest
from ase.build import bulk
from kim_lammps import BAR, need_lammps, run_lammps
from kim_silicon import StillingerWeber, silicon_description
from kim_systems import silicon_carbide
from kim_toys import GraphToy, description

#: Of LAMMPS's Si.sw: F. H. Stillinger and T. A. Weber, Phys. Rev. B 31, 5262 (1985), table I.
EPSILON, SIGMA = 2.1683, 2.0951
PARAMETERS = {
    "A": 7.049556277 * EPSILON,
    "B": 0.6022245584,
    "p": 4.0,
    "q": 0.0,
    "sigma": SIGMA,
    "gamma": 1.2 * SIGMA,
    "cutoff": 1.8 * SIGMA,
    "lambda": 21.0 * EPSILON,
    "costheta0": -0.333333333333,
}

START = """
{init}
boundary p p p
atom_style atomic
read_data data.atoms
{masses}
{interactions}
neighbor {skin} bin
thermo_style custom step pe ke etotal press pxx pyy pzz pxy pxz pyz lx
thermo_modify format float %20.15g
velocity all create {temperature} 4928 loop geom
timestep 0.001
"""
STEP, PE, ETOTAL, PRESS, LENGTH = 0, 1, 3, 4, 11


def start(name: str | None, *, species: str, skin: float = 1.0, temperature: float = 600) -> str:
    """Return the beginning of a script, for a portable model or for LAMMPS's own potential."""
    masses = {"Si": 28.0855, "C": 12.011}
    return START.format(
        init="units metal" if name is None else f"kim init {name} metal",
        masses="\n".join(
            f"mass {i} {masses[symbol]}" for i, symbol in enumerate(species.split(), start=1)
        ),
        interactions=f"pair_style sw\npair_coeff * * /usr/share/lammps/potentials/Si.sw {species}"
        if name is None
        else f"kim interactions {species}",
        skin=skin,
        temperature=temperature,
    )


@pytest.fixture(scope="module")
def silicon(install):
    need_lammps()
    model = StillingerWeber(PARAMETERS)
    return install(model, silicon_description(model, "LammpsSilicon__MO_700000000001_000"))


@pytest.fixture(scope="module")
def carbide(install):
    need_lammps()
    model = GraphToy()
    return install(model, description(model, name="LammpsCarbide__MO_700000000002_000"))


def write(folder, atoms):
    ase.io.write(folder / "data.atoms", atoms, format="lammps-data")
    return folder


def crystal(repeat: int):
    atoms = bulk("Si", cubic=True) * (repeat, repeat, repeat)
    atoms.rattle(0.05, seed=3)
    return atoms


def test_silicon_moves_as_with_the_native_potential(silicon, tmp_path):
    write(tmp_path, crystal(4))
    script = "\nthermo 10\nfix 1 all nve\nrun 100\n"
    (native,) = run_lammps(tmp_path, start(None, species="Si") + script)
    (found,) = run_lammps(tmp_path, start(silicon, species="Si") + script)
    assert len(native) == 11
    scale = np.abs(native).max(axis=0)
    assert np.abs(found - native).max(axis=0) / scale == pytest.approx(0, abs=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["silicon", "carbide"])
def test_energy_is_conserved(model, tmp_path, request):
    name = request.getfixturevalue(model)
    atoms = crystal(2) if model == "silicon" else silicon_carbide(2, seed=1)
    species = "Si" if model == "silicon" else "C Si"
    write(tmp_path, atoms)
    script = "\ntimestep 0.0005\nthermo 20\nfix 1 all nve\nrun 2000\n"
    (rows,) = run_lammps(tmp_path, start(name, species=species) + script)
    slope = np.polyfit(rows[:, STEP] * 0.0005, rows[:, ETOTAL] / len(atoms), 1)[0]
    assert abs(slope) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("model", ["silicon", "carbide"])
def test_constant_pressure_is_the_same_on_one_two_and_three_ranks(model, tmp_path, request):
    name = request.getfixturevalue(model)
    species = "Si" if model == "silicon" else "C Si"
    write(tmp_path, crystal(2) if model == "silicon" else silicon_carbide(2, seed=1))
    script = "\nthermo 20\nfix 1 all npt temp 600 600 0.1 iso 0 0 1.0\nrun 200\n"
    (one,) = run_lammps(tmp_path, start(name, species=species) + script)
    assert len(one) == 11
    assert np.ptp(one[:, LENGTH]) > 1e-3
    for ranks, skin in ((2, 0.3), (3, 2.0)):
        (other,) = run_lammps(
            tmp_path, start(name, species=species, skin=skin) + script, ranks=ranks
        )
        difference = np.abs(other - one).max(axis=0) / np.abs(one).max(axis=0)
        assert difference == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("model", ["silicon", "carbide"])
def test_pressure_is_the_slope_of_the_energy(model, tmp_path, request):
    name = request.getfixturevalue(model)
    atoms = crystal(2) if model == "silicon" else silicon_carbide(2, seed=1)
    atoms.set_cell(atoms.cell.array * 0.98, scale_atoms=True)
    write(tmp_path, atoms)
    step = 1e-4
    # Scales of the box, each relative to the one before.
    lengths = [1.0, 1 + step, 1 - step]
    scales = [b / a for a, b in zip([1.0, *lengths], lengths, strict=False)]
    script = "".join(
        f"\nchange_box all x scale {s:.17g} y scale {s:.17g} z scale {s:.17g} remap\nrun 0\n"
        for s in scales
    )
    species = "Si" if model == "silicon" else "C Si"
    runs = run_lammps(tmp_path, start(name, species=species, temperature=0) + script)
    energy = [rows[0, PE] for rows in runs]
    volume = [rows[0, LENGTH] ** 3 for rows in runs]
    slope = (energy[1] - energy[2]) / (volume[1] - volume[2])
    assert runs[0][0, PRESS] == pytest.approx(-slope * BAR, rel=1e-6)
