"""Every model in LAMMPS, on one, two and three ranks, with any skin and units."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from ase import Atoms, units
from kim_lammps import (
    BAR,
    PE,
    PRESS,
    PXX,
    PYZ,
    VOLUME,
    dumped,
    need_lammps,
    run_lammps,
    script,
    write_atoms,
)

from adatom.deploy.kim.kim_model import KimModel

#: Where sums over atoms begin: the energy, and three components of the stress times the volume.
SUMS = VOLUME + 1
SKINS = (0.3, 1.0, 2.0)


@dataclass
class Run:
    """Rows of thermo output, and id, fx, fy, fz, energy of atoms per printed step."""

    thermo: np.ndarray
    atoms: list[np.ndarray]


@pytest.fixture
def lammps(tested, tmp_path):
    """Return a function that runs LAMMPS on atoms."""
    need_lammps()

    def run(atoms: Atoms, *, ranks: int = 1, units: str = "metal", skin: float = 1.0) -> Run:
        steps = 2 if tested.label == "default" else 10
        text = script(
            tested.name,
            tested.elements,
            f"\nthermo {steps // 2}\nfix 1 all nve\nrun {steps}\n",
            units=units,
            boundary=" ".join("p" if periodic else "m" for periodic in atoms.pbc),
            skin=skin,
            temperature=0,
            of_atoms=steps // 2,
        )
        write_atoms(tmp_path, atoms, tested.elements)
        (thermo,) = run_lammps(tmp_path, text, ranks=ranks)
        assert len(thermo) == 3
        return Run(thermo, dumped(tmp_path / "atoms.dump"))

    return run


def require_native(found: Run, native, atoms: Atoms, *, tolerance: float = 1e-10) -> None:
    """Compare the first step with the potential in its cell."""
    first, of_atoms = found.thermo[0], found.atoms[0]
    atoms.calc = native
    energy = atoms.get_potential_energy()
    assert first[[PE, SUMS]] == pytest.approx(energy, abs=tolerance)
    assert of_atoms[:, 1:4] == pytest.approx(atoms.get_forces(), abs=tolerance)
    assert of_atoms[:, 4] == pytest.approx(atoms.get_potential_energies(), abs=tolerance)
    pressure = -atoms.get_stress()[[0, 1, 2, 5, 4, 3]]
    assert first[PXX : PYZ + 1] / BAR == pytest.approx(pressure, abs=tolerance)


def require_same(found: Run, expected: Run) -> None:
    """Compare all steps: energies, pressures, forces, and energies of atoms."""
    columns = [PE, SUMS, PRESS, *range(PXX, PYZ + 1)]
    ours, theirs = found.thermo[:, columns], expected.thermo[:, columns]
    # bar: 1e-6 is 6e-13 eV/A^3
    assert ours == pytest.approx(theirs, rel=1e-9, abs=1e-6)
    for a, b in zip(found.atoms, expected.atoms, strict=True):
        assert a == pytest.approx(b, rel=0, abs=1e-9)


def test_one_to_three_ranks_give_what_the_potential_gives(tested, lammps):
    atoms = tested.crystal()
    one = lammps(atoms)
    require_native(one, tested.native, atoms)
    # Stresses of atoms are negative pressures times a volume that LAMMPS leaves to its user.
    stresses = -one.thermo[:, SUMS + 1 :] / one.thermo[:, [VOLUME]]
    assert stresses == pytest.approx(one.thermo[:, PXX : PXX + 3], rel=1e-9)
    for ranks, skin in ((2, 1.0), (2, 0.3), (3, 2.0)):
        require_same(lammps(atoms, ranks=ranks, skin=skin), one)


@pytest.mark.slow
def test_every_skin_on_every_number_of_ranks(tested, lammps):
    atoms = tested.crystal()
    one = lammps(atoms)
    for ranks in (1, 2, 3):
        for skin in SKINS:
            require_same(lammps(atoms, ranks=ranks, skin=skin), one)


def test_boxes_smaller_than_the_influence_distance(tested, lammps):
    small = tested.small()
    with KimModel(tested.name) as model:
        assert model.influence_distance > small.cell.lengths().max()
    for atoms, ranks in ((small, 1), (small, 2), (tested.crystal(1, seed=3), 2)):
        require_native(lammps(atoms, ranks=ranks), tested.native, atoms)


@pytest.mark.parametrize("ranks", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_a_rank_without_atoms(tested, lammps, ranks):
    atoms = tested.dimer()
    require_native(lammps(atoms, ranks=ranks), tested.native, atoms)


def test_units_real(tested, lammps):
    atoms = tested.crystal(1, seed=2)
    atoms.calc = tested.native
    kcal = units.mol / units.kcal
    found = lammps(atoms, units="real")
    assert found.thermo[0, PE] == pytest.approx(atoms.get_potential_energy() * kcal, rel=1e-6)
    assert found.atoms[0][:, 1:4] == pytest.approx(atoms.get_forces() * kcal, rel=1e-6, abs=1e-5)
