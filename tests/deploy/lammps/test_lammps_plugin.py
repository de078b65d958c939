"""pair_style adatom: the same numbers on any number of ranks, and those of the other routes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import ase.io
import ase.units
import numpy as np
import pytest
from ase import Atoms
from lammps_cases import REAL, Output

from adatom.calculators.ase_calculator import MLIPCalculator
from adatom.deploy.kim.export import ExportOptions, export_potential
from adatom.deploy.kim.portable_model import write_portable_model
from adatom.deploy.kim.scripted_model import save_torchscript
from adatom.deploy.lammps.run import run_lammps

pytestmark = pytest.mark.slow

#: eV/angstrom^3 in bar, as LAMMPS has it.
BAR = 1.6021765e6

SCRIPT = """
units {units}
boundary {boundary}
{newton}
read_data data.atoms
mass 1 28.0855
mass 2 12.011
plugin load {plugin}
pair_style adatom
pair_coeff * * {folder} Si C
neighbor {skin} bin
velocity all create 300 7 loop geom
compute energy all pe/atom
compute stress all stress/atom NULL
compute total all reduce sum c_energy c_stress[1] c_stress[2] c_stress[3]
thermo_style custom step temp pe etotal pxx pyy pzz pxy pxz pyz vol c_total[*]
thermo_modify format float %20.14g
thermo 5
dump 1 all custom 5 atoms.dump id x y z fx fy fz c_energy
dump_modify 1 sort id format float %20.14g
timestep {timestep}
{what}
"""


@pytest.fixture(scope="module", params=["RawToy", "GraphToy"])
def toy(request, tmp_path_factory):
    """Write a portable model with one cutoff or two layers."""
    import kim_toys

    model = getattr(kim_toys, request.param)()
    about = kim_toys.description(model, name=f"Plugin{request.param}__MO_700000000000_000")
    folder = tmp_path_factory.mktemp("toy")
    network = save_torchscript(model, folder / "network.pt")
    return model, write_portable_model(folder / about.name, about, network, provenance={})


@pytest.fixture
def lammps(tmp_path, pair_plugin):
    """Return a function that runs LAMMPS with the pair style, on one or more ranks."""

    def run(
        folder: Path,
        atoms: Atoms,
        *,
        ranks: int = 1,
        units: str = "metal",
        skin: float = 1.0,
        newton: str = "",
        what: str = "fix 1 all nve\nrun 10",
        script: str = SCRIPT,
    ) -> Output:
        place = tmp_path / f"{ranks}-{units}-{skin}-{len(atoms)}"
        place.mkdir()
        data = place / "data.atoms"
        ase.io.write(data, atoms, format="lammps-data", specorder=["Si", "C"])
        text = script.format(
            units=units,
            boundary=" ".join("p" if periodic else "m" for periodic in atoms.pbc),
            plugin=pair_plugin,
            folder=folder,
            skin=skin,
            newton=newton,
            timestep=0.0005 if units == "metal" else 0.5,
            what=what,
        )
        (place / "in.test").write_text(text)
        programs = Path(sys.prefix, "bin")
        command = [str(programs / "lmp"), "-in", "in.test", "-log", "log.test", "-nocite"]
        if ranks > 1:
            command = [str(programs / "mpirun"), "-np", str(ranks), *command]
        done = subprocess.run(
            command,
            cwd=place,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-1500:]
        return Output.read(place / "log.test", place / "atoms.dump")

    return run


def carbide(repeat: int, seed: int) -> Atoms:
    from kim_systems import silicon_carbide

    return silicon_carbide(repeat, seed=seed)


def require_same(found: Output, expected: Output) -> None:
    assert found.thermo == pytest.approx(expected.thermo, rel=1e-9, abs=1e-8)
    for ours, theirs in zip(found.atoms, expected.atoms, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-9)


def test_one_to_three_ranks_give_what_the_potential_gives(toy, lammps):
    from kim_toys import direct

    model, folder = toy
    atoms = carbide(2, seed=5)
    expected = direct(model, atoms)
    one = lammps(folder, atoms)
    first = one.thermo[0]
    assert first[2] == pytest.approx(expected.energy, abs=1e-9)
    assert first[11] == pytest.approx(expected.energy, abs=1e-9)
    assert one.atoms[0][:, 4:7] == pytest.approx(expected.forces, abs=1e-9)
    assert one.atoms[0][:, 7] == pytest.approx(expected.energies, abs=1e-9)
    # Stresses of atoms are negative pressures times a volume that LAMMPS leaves to its user.
    assert -first[12:15] / first[10] == pytest.approx(first[4:7], rel=1e-9)
    for ranks, skin in ((2, 1.0), (2, 0.3), (3, 2.0)):
        require_same(lammps(folder, atoms, ranks=ranks, skin=skin), one)


def externally(calculator, atoms: Atoms, what: str = "fix 1 all nve\nrun 10") -> Output:
    """Run the same script through fix external, in the present folder."""
    ase.io.write("data.atoms", atoms, format="lammps-data", specorder=["Si", "C"])
    script = SCRIPT.format(
        units="metal",
        boundary="p p p",
        plugin="",
        folder="",
        skin=1.0,
        newton="",
        timestep=0.0005,
        what=what,
    )
    lines = [line for line in script.splitlines() if not line.startswith(("plugin", "pair_"))]
    Path("in.test").write_text("\n".join(lines))
    run_lammps("in.test", calculator, "Si C", log="log.test", screen="none")
    return Output.read(Path("log.test"), Path("atoms.dump"))


def test_the_trajectory_is_that_of_fix_external(toy, lammps, tmp_path, monkeypatch):
    from toy_calculator import ToyCalculator

    model, folder = toy
    atoms = carbide(2, seed=6)
    atoms.set_cell(atoms.cell @ np.array([[1, 0, 0], [0.1, 1, 0], [-0.05, 0.08, 1]]), True)
    npt = "fix 1 all npt temp 300 300 0.1 tri 0 1000 0.5\nrun 20"
    expected = lammps(folder, atoms, what=npt)
    monkeypatch.chdir(tmp_path)
    found = externally(ToyCalculator(model), atoms, npt)
    # Without the parts of the virial per atom, which are a matter of definition.
    assert found.thermo[:, :12] == pytest.approx(expected.thermo[:, :12], rel=1e-9, abs=1e-6)
    for ours, theirs in zip(found.atoms, expected.atoms, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-9)


def test_npt_is_the_same_on_two_ranks(toy, lammps):
    _, folder = toy
    npt = "fix 1 all npt temp 300 300 0.1 iso 0 1000 0.5\nrun 40"
    atoms = carbide(2, seed=7)
    one, two = (lammps(folder, atoms, ranks=ranks, what=npt) for ranks in (1, 2))
    require_same(two, one)
    assert np.ptp(one.thermo[:, 10]) > 1


def test_a_box_smaller_than_the_influence_distance(toy, lammps):
    from kim_toys import direct

    model, folder = toy
    atoms = carbide(1, seed=3)
    expected = direct(model, atoms)
    for ranks in (1, 2):
        found = lammps(folder, atoms, ranks=ranks)
        assert found.thermo[0, 2] == pytest.approx(expected.energy, abs=1e-9)
        assert found.atoms[0][:, 4:7] == pytest.approx(expected.forces, abs=1e-9)


def test_a_rank_without_atoms(toy, lammps):
    from kim_toys import direct

    model, folder = toy
    atoms = Atoms("SiC", [[1, 1, 1], [1, 2.1, 2.3]], cell=[60, 20, 20], pbc=(True, True, False))
    expected = direct(model, atoms)
    found = lammps(folder, atoms, ranks=2)
    assert found.thermo[0, 2] == pytest.approx(expected.energy, abs=1e-9)
    assert found.atoms[0][:, 4:7] == pytest.approx(expected.forces, abs=1e-9)


def test_units_real(toy, lammps):
    _, folder = toy
    atoms = carbide(1, seed=2)
    metal, real = lammps(folder, atoms), lammps(folder, atoms, units="real")
    assert real.thermo[0, 2] == pytest.approx(metal.thermo[0, 2] * REAL, rel=1e-12)
    assert real.atoms[0][:, 4:7] == pytest.approx(metal.atoms[0][:, 4:7] * REAL, abs=1e-10)
    # bar and atmospheres
    assert real.thermo[0, 4:7] == pytest.approx(metal.thermo[0, 4:7] / 1.01325, rel=1e-5)


def test_minimize_on_two_ranks(toy, lammps):
    _, folder = toy
    atoms = carbide(1, seed=4)
    what = "minimize 0 1e-6 20 100"
    one, two = (lammps(folder, atoms, ranks=ranks, what=what) for ranks in (1, 2))
    assert two.thermo[-1, 2] == pytest.approx(one.thermo[-1, 2], abs=1e-6)
    assert one.thermo[-1, 2] < one.thermo[0, 2] - 0.1


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("Si C\nneighbor", "Si Ge\nneighbor"), "does not know the element Ge; it knows Si, C"),
        (("Si C\nneighbor", "Si\nneighbor"), "names 1 element.* there are 2 atom type"),
        (("* * {folder}", "* * {folder}nowhere"), "There is no folder"),
        (("pair_style adatom", "pair_style adatom 4.0"), "takes no arguments"),
        (("{newton}", "newton off"), "needs newton on"),
        (("units {units}", "units lj"), "needs units metal or real"),
    ],
)
def test_mistakes_are_one_sentence(toy, lammps, ranks, change, message):
    script = SCRIPT.replace(*change)
    assert script != SCRIPT
    with pytest.raises(AssertionError, match=message):
        lammps(toy[1], carbide(1, seed=1), ranks=ranks, script=script)


def test_a_damaged_model_is_refused(toy, lammps, tmp_path):
    import shutil

    copy = tmp_path / "damaged"
    shutil.copytree(toy[1], copy)
    (copy / "model.pt").write_bytes((copy / "model.pt").read_bytes()[:-100])
    with pytest.raises(AssertionError, match="is damaged: its SHA-256 is not the one in adatom"):
        lammps(copy, carbide(1, seed=1))


@pytest.mark.parametrize(("name", "pattern"), [("gcn", "graph"), ("escn", "graph")])
def test_trained_networks_give_the_trajectory_of_fix_external(
    name, pattern, lammps, tmp_path, monkeypatch
):
    from kim_potentials import make_potential

    potential = make_potential(name)
    options = ExportOptions(
        name="Plugin__MO_700000000000_001", species=("Si", "C"), pattern=pattern
    )
    folder = export_potential(potential, options, tmp_path / "model", provenance={}).folder
    atoms = carbide(1, seed=9)
    one, two = (lammps(folder, atoms, ranks=ranks) for ranks in (1, 2))
    require_same(two, one)
    monkeypatch.chdir(tmp_path)
    found = externally(MLIPCalculator(potential), atoms)
    assert found.thermo == pytest.approx(one.thermo, rel=1e-8, abs=1e-6)
    for ours, theirs in zip(found.atoms, one.atoms, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-9)


def test_a_failure_of_one_rank_stops_all(lammps, tmp_path):
    from fragile_toy import FailsBeyond
    from kim_toys import description

    model = FailsBeyond()
    about = description(model, name="Fragile__MO_700000000000_002", edge_vectors=False)
    network = save_torchscript(model, tmp_path / "network.pt")
    folder = write_portable_model(tmp_path / "fragile", about, network, provenance={})
    near = Atoms("SiC", [[1, 1, 1], [1, 2.1, 2.3]], cell=[60, 20, 20], pbc=(True, True, False))
    script = SCRIPT.replace(" c_stress[1] c_stress[2] c_stress[3]", "")
    script = script.replace("c_total[*]", "c_total").replace("compute stress", "# compute stress")
    lammps(folder, near, ranks=2, script=script)
    far = near + Atoms("Si", [[40, 1, 1]])
    message = r"failed at step 0: .*an atom is beyond 30"
    with pytest.raises(AssertionError, match=message):
        lammps(folder, far, ranks=2, script=script)
