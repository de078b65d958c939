"""Every backbone as a portable model: in KIM and on the ranks of LAMMPS, as in its cell."""

from __future__ import annotations

import ase.io
import numpy as np
import pytest
from ase import Atoms
from kim_backbones import BACKBONES, COMPOSITIONS, potential_of
from kim_lammps import need_lammps, run_lammps
from kim_systems import named_systems, silicon_carbide

from adatom.calculators.ase_calculator import MLIPCalculator
from adatom.deploy.kim.calculator import KimCalculator
from adatom.deploy.kim.export import ExportOptions, export_potential
from adatom.deploy.kim.model_install import install_model
from adatom.inference.predict_unit import MLIPPredictUnit

pytestmark = pytest.mark.slow

SCRIPT = """
kim init {name} metal
boundary p p p
atom_style atomic
read_data data.atoms
mass 1 12.011
mass 2 28.0855
kim interactions C Si
neighbor {skin} bin
compute energy all pe/atom
compute total all reduce sum c_energy
thermo_style custom step pe c_total pxx pyy pzz pxy pxz pyz
thermo_modify format float %20.15g
dump 1 all custom 1 atoms.dump id fx fy fz
dump_modify 1 sort id format float %20.15g
thermo 5
velocity all create 300 4928 loop geom
fix 1 all nve
timestep 0.0005
run {steps}
"""


@pytest.fixture(scope="module", params=BACKBONES)
def exported(request, kim_driver, tmp_path_factory):
    """Return a native calculator and the name of the portable model."""
    potential = potential_of(request.param)
    number = list(BACKBONES).index(request.param)
    name = f"Backbone__MO_80000000000{number}_000"
    options = ExportOptions(
        name=name,
        species=() if request.param in COMPOSITIONS else ("C", "Si"),
        composition=COMPOSITIONS.get(request.param),
    )
    folder = tmp_path_factory.mktemp("backbone") / name
    install_model(export_potential(potential, options, folder, provenance={}).folder, "environment")
    unit = MLIPPredictUnit(potential, "traineval")
    return MLIPCalculator(unit), name


def systems(balanced: bool) -> dict[str, Atoms]:
    """Return structures; balanced ones have as many atoms of silicon as of carbon."""
    found = {
        label: atoms
        for label, atoms in named_systems().items()
        if label not in ("one atom", "chain")
    }
    if not balanced:
        return found
    return {
        label: atoms
        for label, atoms in found.items()
        if 2 * list(atoms.symbols).count("Si") == len(atoms)
    }


def test_kim_gives_what_the_predict_unit_gives(exported, request):
    native, name = exported
    portable = KimCalculator(name)
    compared = systems(balanced=request.node.callspec.params["exported"] in COMPOSITIONS)
    assert len(compared) >= 4
    for label, atoms in compared.items():
        atoms.calc = native
        energy, forces = atoms.get_potential_energy(), atoms.get_forces()
        stress = atoms.get_stress() if atoms.cell.volume > 0 else None
        atoms.calc = portable
        assert atoms.get_potential_energy() == pytest.approx(energy, abs=1e-10), label
        assert atoms.get_forces() == pytest.approx(forces, abs=1e-10), label
        if stress is not None:
            assert atoms.get_stress() == pytest.approx(stress, abs=1e-10), label
    portable.close()


def test_ranks_and_skins_of_lammps_change_nothing(exported, tmp_path):
    native, name = exported
    need_lammps()
    atoms = silicon_carbide(2, seed=4)
    ase.io.write(tmp_path / "data.atoms", atoms, format="lammps-data", specorder=["C", "Si"])
    atoms.calc = native
    energy = atoms.get_potential_energy()
    found = [
        run_lammps(tmp_path, SCRIPT.format(name=name, skin=skin, steps=steps), ranks=ranks)[0]
        for ranks, skin, steps in ((1, 1.0, 10), (2, 0.3, 10), (3, 2.0, 0))
    ]
    assert found[0][0, 1] == pytest.approx(energy, abs=1e-9)
    assert found[0][:, 2] == pytest.approx(found[0][:, 1], abs=1e-9)
    assert found[1][:, 1:] == pytest.approx(found[0][:, 1:], rel=1e-9, abs=1e-6)
    assert found[2][0, 1:] == pytest.approx(found[0][0, 1:], rel=1e-9, abs=1e-6)
    block = (tmp_path / "atoms.dump").read_text().split("ITEM: ATOMS")[1].splitlines()[1:]
    forces = np.array([line.split() for line in block[: len(atoms)]], dtype=float)[:, 1:]
    assert forces == pytest.approx(atoms.get_forces(), abs=1e-9)
