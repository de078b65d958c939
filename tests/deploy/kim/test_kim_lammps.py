"""The same models in LAMMPS, on one, two and three ranks, with any skin and units."""

from __future__ import annotations

from dataclasses import dataclass

import ase.io
import numpy as np
import pytest
from ase import Atoms, units
from kim_lammps import BAR, need_lammps, run_lammps
from kim_systems import silicon_carbide
from kim_toys import GraphToy, RawToy, description, direct

SCRIPT = """
kim init {name} {units}
boundary {boundary}
atom_style atomic
read_data data.atoms
mass 1 28.0855
mass 2 12.011
kim interactions Si C
neighbor {skin} bin
comm_modify mode single
compute energy all pe/atom
compute stress all stress/atom NULL
compute total all reduce sum c_energy c_stress[1] c_stress[2] c_stress[3]
thermo_style custom step pe c_total[1] pxx pyy pzz pxy pxz pyz c_total[2] c_total[3] c_total[4] vol
thermo_modify format float %20.15g
thermo 5
dump 1 all custom 5 atoms.dump id fx fy fz c_energy
dump_modify 1 sort id format float %20.15g
fix 1 all nve
timestep {timestep}
run 10
"""


@dataclass
class Run:
    """Rows of thermo output, and id, fx, fy, fz, energy of atoms per printed step."""

    thermo: np.ndarray
    atoms: list[np.ndarray]


@pytest.fixture
def lammps(tmp_path, kim_driver):
    """Return a function that runs LAMMPS on atoms."""
    need_lammps()

    def run(
        name: str, atoms: Atoms, *, ranks: int = 1, units: str = "metal", skin: float = 1.0
    ) -> Run:
        folder = tmp_path / f"{name}-{ranks}-{units}-{skin}"
        folder.mkdir()
        ase.io.write(folder / "data.atoms", atoms, format="lammps-data", specorder=["Si", "C"])
        boundary = " ".join("p" if periodic else "m" for periodic in atoms.pbc)
        timestep = 0.0005 if units == "metal" else 0.5
        script = SCRIPT.format(
            name=name, units=units, boundary=boundary, skin=skin, timestep=timestep
        )
        (thermo,) = run_lammps(folder, script, ranks=ranks)
        blocks = (folder / "atoms.dump").read_text().split("ITEM: ATOMS")[1:]
        atoms_at = [
            np.array([line.split() for line in block.split("ITEM:")[0].splitlines()[1:]])
            for block in blocks
        ]
        return Run(thermo, [each.astype(float) for each in atoms_at])

    return run


@pytest.fixture(scope="module", params=[RawToy, GraphToy])
def toy(request, install):
    model = request.param()
    name = f"Lammps{request.param.__name__}__MO_400000000000_000"
    return model, install(model, description(model, name=name))


def test_one_to_three_ranks_give_what_the_potential_gives(toy, lammps):
    model, name = toy
    atoms = silicon_carbide(2, seed=5)
    expected = direct(model, atoms)
    one = lammps(name, atoms)
    first, forces = one.thermo[0], one.atoms[0]
    assert first[1] == pytest.approx(expected.energy, abs=1e-10)
    assert first[2] == pytest.approx(expected.energy, abs=1e-10)
    assert forces[:, 1:4] == pytest.approx(expected.forces, abs=1e-10)
    assert forces[:, 4] == pytest.approx(expected.energies, abs=1e-10)
    pressure = -expected.stress[[0, 1, 2, 5, 4, 3]]
    assert first[3:9] / BAR == pytest.approx(pressure, abs=1e-10)
    # Stresses of atoms are negative pressures times a volume that LAMMPS leaves to its user.
    assert -first[9:12] / first[12] == pytest.approx(first[3:6], rel=1e-9)
    for ranks, skin in ((2, 1.0), (2, 0.3), (3, 2.0)):
        other = lammps(name, atoms, ranks=ranks, skin=skin)
        assert other.thermo[:, 1:9] == pytest.approx(one.thermo[:, 1:9], rel=1e-9, abs=1e-9)
        for a, b in zip(one.atoms, other.atoms, strict=True):
            assert a == pytest.approx(b, abs=1e-10)


def test_a_box_smaller_than_the_influence_distance(toy, lammps):
    model, name = toy
    atoms = silicon_carbide(1, seed=3)
    expected = direct(model, atoms)
    for ranks in (1, 2):
        found = lammps(name, atoms, ranks=ranks)
        assert found.thermo[0, 1] == pytest.approx(expected.energy, abs=1e-10)
        assert found.atoms[0][:, 1:4] == pytest.approx(expected.forces, abs=1e-10)


def test_a_rank_without_atoms(toy, lammps):
    model, name = toy
    atoms = Atoms("SiC", [[1, 1, 1], [1, 2.1, 2.3]], cell=[60, 20, 20], pbc=True)
    expected = direct(model, atoms)
    found = lammps(name, atoms, ranks=2)
    assert found.thermo[0, 1] == pytest.approx(expected.energy, abs=1e-10)
    assert found.atoms[0][:, 1:4] == pytest.approx(expected.forces, abs=1e-10)


def test_units_real(toy, lammps):
    model, name = toy
    atoms = silicon_carbide(1, seed=2)
    expected = direct(model, atoms)
    found = lammps(name, atoms, units="real")
    energy = expected.energy * units.mol / units.kcal
    assert found.thermo[0, 1] == pytest.approx(energy, rel=1e-6)
    forces = expected.forces * units.mol / units.kcal
    assert found.atoms[0][:, 1:4] == pytest.approx(forces, abs=1e-5)
