"""Scripts are followed as LAMMPS follows them: loops, conditions, files, boxes."""

from __future__ import annotations

from pathlib import Path

import pytest
from lammps_cases import Output, argon, native, need_lammps

from adatom.deploy.lammps.library import open_lammps
from adatom.deploy.lammps.run import run_lammps
from adatom.deploy.lammps.script_text import branches_of, logical_lines, unquoted, words_of

BOX = """
units metal
lattice fcc 5.4   # argon
region box block 0 1 0 1 0 1
create_box 1 box
create_atoms 1 box
mass 1 39.948
{pair}
thermo_style custom step pe press vol
"""

LOOP = """
variable scale index 1.0 0.98 0.96
label again
print "scale ${{scale}} # not a comment"
variable edge equal 5.4*v_scale
change_box all x final 0 ${{edge}} remap
if "${{scale}} < 0.97" then "run 2" "print 'small'" elif "${{scale}} == 1.0" &
   "jump SELF skip" else "run 1"
run 0
label skip
next scale
jump SELF again
variable i loop 5
label inner
if "$i == 3" then "jump SELF done"
run 0
next i
jump in.test inner
label done
print \"\"\"several
lines\"\"\"
clear
include in.${{name}}
run 0
if "$(step) == 1" then quit
run 100
"""


@pytest.fixture
def rows(tmp_path, monkeypatch):
    """Return a function that runs files natively or not, and gives the thermo rows and status."""
    need_lammps()

    def run(files: dict[str, str], *, external: bool, **variables: str):
        folder = tmp_path / str(external)
        folder.mkdir()
        monkeypatch.chdir(folder)
        for name, text in files.items():
            Path(name).write_text(text.format(pair="" if external else native()))
        given = [word for name, value in variables.items() for word in ("-var", name, value)]
        if external:
            run_lammps("in.test", argon(), "Ar", variables=variables, screen="none")
        else:
            lmp = open_lammps(["-log", "log.lammps", "-screen", "none", *given])
            lmp.file("in.test")
            lmp.close()
        return Output.read(Path("log.lammps"), Path("none")).thermo, Path("log.lammps").read_text()

    return run


def test_loops_conditions_and_files(rows):
    files = {"in.test": BOX + LOOP, "in.other": "# a file\n" + BOX + "include in.deeper\n"}
    files["in.deeper"] = "replicate 2 1 1\nrun 1\n"
    # LAMMPS itself would end this process at quit.
    native_files = {**files, "in.test": files["in.test"].split('if "$(step)')[0]}
    expected, _ = rows(native_files, external=False, name="other")
    found, log = rows(files, external=True, name="other")
    assert found == pytest.approx(expected, rel=1e-7, abs=1e-6)
    assert [len(set(expected[:, 3])), len(expected)] == [3, 11]
    assert "scale 0.96 # not a comment" in log
    assert "several\nlines" in log


def test_the_status_of_quit(tmp_path, monkeypatch):
    need_lammps()
    monkeypatch.chdir(tmp_path)
    Path("in.test").write_text(BOX.format(pair="") + "run 0\nvariable s equal 3\nquit ${s}\n")
    result = run_lammps("in.test", argon(), "Ar", screen="none")
    assert (result.status, result.evaluations) == (3, 1)
    assert result.thermo["Volume"] == pytest.approx(5.4**3)


def test_restarts(tmp_path, monkeypatch):
    need_lammps()
    monkeypatch.chdir(tmp_path)
    move = "displace_atoms all random 0.1 0.1 0.1 3\nrun 0\nwrite_restart kept\n"
    Path("in.test").write_text(BOX.format(pair="") + move)
    before = run_lammps("in.test", argon(), "Ar", screen="none").thermo["PotEng"]
    Path("in.test").write_text("read_restart kept\nthermo_style custom step pe\nrun 0\n")
    after = run_lammps("in.test", argon(), "Ar", screen="none").thermo["PotEng"]
    assert after == pytest.approx(before, rel=1e-12)


def test_lines_are_joined():
    text = 'a b &\n  c # x\n\nprint """one\n\ntwo"""\nd\n'
    assert [tuple(line) for line in logical_lines(text)] == [
        (1, "a b   c # x"),
        (4, 'print """one\n\ntwo"""'),
        (7, "d"),
    ]


def test_words_keep_their_quotes():
    words = words_of("""print "a # b" 'c "d"' """ + '"""e\nf"""' + " g#h i")
    assert words == ["print", '"a # b"', "'c \"d\"'", '"""e\nf"""', "g"]
    assert [unquoted(word) for word in words[1:4]] == ["a # b", 'c "d"', "e\nf"]


def test_conditions_are_taken_apart():
    words = words_of("""if "$a > 1" then "run 1" 'run 2' elif b x else "run 3" """)
    assert branches_of(words) == [
        ('"$a > 1"', ["run 1", "run 2"]),
        ("b", ["x"]),
        (None, ["run 3"]),
    ]
    assert branches_of(["if", "1"]) is None
    assert branches_of(words_of("if 1 then x elif")) is None
