import shlex
import sys
from pathlib import Path

import pytest

from adatom.core.errors import ConfigError, NonFiniteError

# The benchmarks are not installed; "pytest" alone does not look into the working directory.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks import inference, training
from benchmarks.jobs import Job, peak_memory, resident_memory
from benchmarks.records import circumstances, format_value, markdown_table, record
from benchmarks.workers import (
    Timings,
    environment,
    fairchem_python,
    interpreter,
    mace_python,
    take_turns,
)

ROWS = [["water", 3, 12.3456, None], ["copper", 108, 4321.0, "1e-6"]]
COLUMNS = ("structure", "atoms", "best ms", "deviation")


class FakeWorker:
    """Answers without a process; the n-th call of all workers takes what the list says."""

    def __init__(self, call, seconds, log):
        self.job = Job("adatom", "plain", call, "", "")
        self.timings = Timings()
        self._seconds, self._log = seconds, log

    def call(self):
        self._log.append(self)
        self.timings.seconds.append(self._seconds)
        return self._seconds


def test_cells_have_three_digits_and_no_exponent():
    assert [format_value(v) for v in (None, 12.3456, 4321.0, 7, "x")] == [
        "",
        "12.3",
        "4,321",
        "7",
        "x",
    ]


def test_table_aligns_numbers_right():
    lines = markdown_table(COLUMNS, ROWS).splitlines()
    assert lines[1] == "|---|---:|---:|---|"
    assert lines[2] == "| water | 3 | 12.3 |  |"
    assert len(lines) == 4


def test_records_are_appended(tmp_path, capsys):
    path = tmp_path / "RESULTS.md"
    facts = circumstances("benchmarks.inference", {"torch": "2.13"}, "0.1 0.2 0.3")
    for title in ("First", "Second"):
        record(title, facts, COLUMNS, ROWS, notes=["A note."], path=path)
    text = path.read_text()
    assert text.index("## First") < text.index("## Second")
    assert text.count("| water | 3 |") == 2
    assert text.count("A note.") == 2
    assert "python -m benchmarks.inference" in text
    assert "torch 2.13" in text
    assert "First" in capsys.readouterr().out


def test_circumstances_give_the_exact_command(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["inference.py", "--structures", "a b"])
    command = circumstances("benchmarks.inference", {}, "")["command"].strip("`")
    assert shlex.split(command)[-2:] == ["--structures", "a b"]


def test_memory_is_measured():
    assert 0.01 < resident_memory() <= peak_memory() * 1.01 < 100


def test_jobs_survive_the_command_line():
    job = Job("fairchem", "merged", "ase", "a.pt", "b.xyz", 2, 4)
    assert Job.from_json(job.to_json()) == job


def test_malloc_settings_of_the_caller_do_not_leak(monkeypatch):
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "1")
    variables = environment(Job("adatom", "plain", "ef", "", "", threads=2), {})
    assert "MALLOC_TRIM_THRESHOLD_" not in variables
    assert variables["OMP_NUM_THREADS"] == "2"


def test_workers_take_turns_and_ratios_are_to_the_same_kind_of_call():
    log = []
    workers = [FakeWorker("ef", 1.0, log), FakeWorker("ase", 2.0, log), FakeWorker("ef", 3.0, log)]
    take_turns(workers, seconds=12.0)
    assert [w.timings.ratio for w in workers] == [1.0, 1.0, 3.0]
    assert [len(w.timings.seconds) for w in workers] == [4, 4, 4]
    a, b, c = workers
    assert log[:9] == [a, b, c, a, b, c, c, b, a]


def test_different_energies_are_not_timed():
    values = {"energy": 1.0, "forces": [[0.0, 0.0, 0.1]]}
    worker = FakeWorker("ef", 1.0, [])
    inference.check(inference.compare(values, values), worker)
    for other in ({"energy": 1.001}, {"forces": [[0.0, 0.0, 0.2]]}, {"energy": float("nan")}):
        with pytest.raises(NonFiniteError, match="nothing was timed"):
            inference.check(inference.compare(values, values | other), worker)


def test_different_gradients_are_not_timed():
    values = {"loss": 4.0, "gradient_norm": 50.0}
    training.check(values, values | {"loss": 4.0001})
    with pytest.raises(NonFiniteError, match="gradient_norm"):
        training.check(values, values | {"gradient_norm": 51.0})


def test_missing_fairchem_says_how_to_get_it(monkeypatch):
    monkeypatch.setenv("ADATOM_FAIRCHEM_PYTHON", "/nowhere/python")
    with pytest.raises(ConfigError, match=r"setup_fairchem\.sh"):
        fairchem_python()


def test_no_fairchem_can_be_chosen():
    assert inference.parse(["--fairchem", "none"]).fairchem == []


def test_absent_mace_is_left_out_with_one_line(monkeypatch, tmp_path, capsys):
    monkeypatch.delenv("ADATOM_MACE_PYTHON", raising=False)
    monkeypatch.setattr("benchmarks.workers.ROOT", tmp_path)
    assert mace_python() is None
    assert inference.installed_mace(["medium"]) == []
    assert capsys.readouterr().err.count("\n") == 1
    assert inference.installed_mace([]) == []
    assert capsys.readouterr().err == ""


def test_wrong_mace_interpreter_is_refused(monkeypatch):
    monkeypatch.setenv("ADATOM_MACE_PYTHON", "/nowhere/python")
    with pytest.raises(ConfigError, match="ADATOM_MACE_PYTHON"):
        interpreter("mace")


def test_mace_is_measured_through_its_calculator_only():
    options = inference.parse(["--calls", "ef", "ase", "--fairchem", "merged"])
    jobs = inference.jobs_of(options, "a.pt", "b.xyz")
    assert [(job.call, inference.name_of(job)) for job in jobs] == [
        ("ef", "adatom"),
        ("ef", "fairchem merged"),
        ("ase", "adatom"),
        ("ase", "fairchem merged"),
        ("ase", "mace-torch medium (other model)"),
    ]


def test_table_says_that_mace_is_another_architecture():
    notes = inference.notes_of(inference.parse([]))
    assert len(notes) == 2
    assert "another architecture (128x0e + 128x1o, 2 layers" in notes[1]
    assert "random weights" in notes[1]
    assert len(inference.notes_of(inference.parse(["--mace", "none"]))) == 1
    assert len(inference.notes_of(inference.parse(["--calls", "ef"]))) == 1
