"""Dynamics of every model in LAMMPS: conserved energy, the same on all ranks, right pressures."""

from __future__ import annotations

import numpy as np
import pytest
from kim_lammps import (
    BAR,
    ETOTAL,
    LENGTH,
    PE,
    PRESS,
    STEP,
    VOLUME,
    largest_difference,
    need_lammps,
    run_lammps,
    script,
    write_atoms,
)
from kim_models import parameters

NATIVE = "pair_style sw\npair_coeff * * /usr/share/lammps/potentials/Si.sw Si"
STEPS = 200


@pytest.fixture(autouse=True)
def _lammps():
    need_lammps()


@pytest.mark.parametrize("tested", ["silicon"], indirect=True)
def test_silicon_moves_as_with_the_native_potential(tested, tmp_path):
    write_atoms(tmp_path, tested.crystal(4), tested.elements)
    body = "\nthermo 10\nfix 1 all nve\nrun 100\n"
    conditions = {"temperature": 600, "timestep": 0.001}
    native, found = (
        run_lammps(tmp_path, script(name, ["Si"], body, interactions=lines, **conditions))[0]
        for name, lines in ((None, NATIVE), (tested.name, None))
    )
    assert len(native) == 11
    assert largest_difference(found, native) == pytest.approx(0, abs=1e-9)


@pytest.mark.slow
def test_energy_is_conserved(tested, tmp_path):
    """In 2000 steps; potential and kinetic energy have to exchange more than what may drift."""
    atoms, kelvin = tested.crystal(1, seed=1), tested.temperature
    body = "\nthermo 20\nfix 1 all nve\nrun 2000\n"
    if tested.label == "default":
        # A relaxed cluster, which has no ghosts: with them this would take half an hour.
        atoms.center(vacuum=10.0)
        kelvin = 300.0
        relaxed = "minimize 0 1e-3 300 1000\nreset_timestep 0"
        body = f"\n{relaxed}\nvelocity all create {kelvin} 4928 loop geom{body}"
    write_atoms(tmp_path, atoms, tested.elements)
    conditions = {"temperature": kelvin, "timestep": tested.timestep}
    *_, rows = run_lammps(tmp_path, script(tested.name, tested.elements, body, **conditions))
    assert len(rows) == 101
    slope = np.polyfit(rows[:, STEP] * tested.timestep, rows[:, ETOTAL] / len(atoms), 1)[0]
    assert abs(slope) < 1e-4
    assert np.ptp(rows[:, PE]) / len(atoms) > 1e-3


@pytest.mark.slow
def test_constant_pressure_is_the_same_on_one_two_and_three_ranks(tested, tmp_path):
    write_atoms(tmp_path, tested.crystal(seed=1), tested.elements)
    kelvin = tested.temperature
    conditions = {"temperature": kelvin, "timestep": 2 * tested.timestep}
    body = f"\nthermo 20\nfix 1 all npt temp {kelvin} {kelvin} 0.1 iso 0 0 1.0\nrun {STEPS}\n"
    one, *others = (
        run_lammps(
            tmp_path,
            script(tested.name, tested.elements, body, skin=skin, **conditions),
            ranks=ranks,
        )[0]
        for ranks, skin in ((1, 1.0), (2, 0.3), (3, 2.0))
    )
    assert len(one) == 1 + STEPS // 20
    assert np.ptp(one[:, LENGTH]) > 1e-3
    for other in others:
        assert largest_difference(other, one) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("tested", parameters(fast=("graph", "silicon")), indirect=True)
def test_pressure_is_the_slope_of_the_energy(tested, tmp_path):
    atoms = tested.crystal(seed=1)
    atoms.set_cell(atoms.cell.array * 0.98, scale_atoms=True)
    write_atoms(tmp_path, atoms, tested.elements)
    step = 1e-4
    # Scales of the box, each relative to the one before.
    lengths = [1.0, 1 + step, 1 - step, 1 + 2 * step, 1 - 2 * step]
    scales = [b / a for a, b in zip([1.0, *lengths], lengths, strict=False)]
    body = "".join(
        f"\nchange_box all x scale {s:.17g} y scale {s:.17g} z scale {s:.17g} remap\nrun 0\n"
        for s in scales
    )
    runs = run_lammps(tmp_path, script(tested.name, tested.elements, body, temperature=0))
    energy = [rows[0, PE] for rows in runs]
    # Differences of fourth order; the volume grows with the third power of the length.
    slope = (8 * (energy[1] - energy[2]) - (energy[3] - energy[4])) / (12 * step)
    pressure = -slope / (3 * runs[0][0, VOLUME])
    assert runs[0][0, PRESS] == pytest.approx(pressure * BAR, rel=1e-6)
