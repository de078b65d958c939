"""``adatom lammps``: LAMMPS's spelling of options, and what is said before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from adatom.cli import main as cli
from adatom.cli.lammps import lammps_spelling
from adatom.core.errors import ConfigError

SCRIPT = """
units metal
boundary f f f
region box block 0 8 0 8 0 8
create_box 2 box
create_atoms 1 single 4 4 4
create_atoms 2 single ${x} 4 4
mass 1 107.868
mass 2 12.011
thermo_style custom step pe press
label again
print "value $v"
run 0
next v
jump SELF again
if "$(step) == 0" then "quit 5"
"""


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (["-in", "in.x", "--elements", "Si", "O"], ["in.x", "--elements", "Si O"]),
        (["--elements", "Si", "in.x"], ["in.x", "--elements", "Si"]),
        (["in.x", "--elements", "1=Si 2=O"], ["in.x", "--elements", "1=Si 2=O"]),
        (
            ["-log", "none", "-i", "in.x", "-sc", "none"],
            ["in.x", "--log", "none", "--screen", "none"],
        ),
        (
            ["in.x", "-var", "t", "-1", "2", "-v", "n", "a", "--task", "z"],
            ["in.x", "--task", "z", "--var", '["t -1 2", "n a"]'],
        ),
    ],
)
def test_options_of_lammps_are_understood(given, meant):
    assert lammps_spelling(given) == meant


@pytest.mark.parametrize("wrong", [["-in"], ["in.x", "-var", "t"]])
def test_options_without_values_are_refused(wrong):
    with pytest.raises(ConfigError, match=rf"{wrong[-2] if len(wrong) > 1 else wrong[0]} is"):
        lammps_spelling(wrong)


def test_mistakes_are_said_before_the_potential_is_loaded(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["lammps", "in.x", "--elements", "Si"]) == cli.WRONG_INPUT
    assert "'in.x' does not exist" in capsys.readouterr().err
    Path("in.x").write_text(SCRIPT)
    for elements, message in (([], "No element is named"), (["--elements", "Sj"], "did you mean")):
        assert cli.main(["lammps", "-in", "in.x", *elements]) == cli.WRONG_INPUT
        assert message in capsys.readouterr().err


def test_a_script_runs_to_its_quit(tmp_path, monkeypatch, capfd):
    pytest.importorskip("lammps", reason="needs LAMMPS: pip install 'adatom[lammps]'")
    monkeypatch.chdir(tmp_path)
    Path("in.x").write_text(SCRIPT)
    options = ["--elements", "Ag", "H", "--task", "gfn2", "-var", "x", "5.8", "-var", "v", "1", "2"]
    options += ["--charge", "0", "--spin", "1"]
    assert cli.main(["lammps", "-in", "in.x", *options]) == 5
    told = capfd.readouterr()
    assert "Note: Atom type 2 is named H (1.008), but its mass is 12.011, that of C" in told.err
    assert "Computed energies and forces 2 times." in told.err
    assert "value 1" in told.out
    assert "value 2" in told.out
    assert "Loop time" in Path("log.lammps").read_text()
