import shlex
import sys
from pathlib import Path

import pytest

from adatom.core.errors import ConfigError, NonFiniteError

# The benchmarks are not installed; "pytest" alone does not look into the working directory.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks import inference, inference_table, training
from benchmarks.checkpoints import structure_file
from benchmarks.jobs import Job, peak_memory, resident_memory
from benchmarks.modes import installed, modes_for, title_of
from benchmarks.records import circumstances, format_value, markdown_table, record
from benchmarks.structures import load_structure
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


def test_long_calls_are_not_repeated_more_than_needed():
    log = []
    workers = [FakeWorker("ef", 20.0, log), FakeWorker("ef", 4.0, log)]
    take_turns(workers, seconds=8.0, least=2)
    assert [len(w.timings.seconds) for w in workers] == [2, 2]
    assert len(log) == 4
    assert workers[1].timings.relative == [0.2, 0.2]
    assert workers[1].timings.times_faster_than(workers[0].timings) == 5.0


def measured(program, mode, seconds, malloc="untouched"):
    """Return a measurement as if it had been made."""
    worker = FakeWorker("ase", seconds, [])
    worker.job = Job(program, mode, "ase", "a.pt", "b.xyz")
    worker.timings = Timings([seconds] * 3, peak_gb=1.5)
    worker.report = {
        "first_seconds": 2.0,
        "load_seconds": 1.0,
        "idle_gb": 0.5,
        "first_peak_gb": 1.75,
    }
    if program == "adatom":
        worker.report |= {"atoms": 3, "edges": 6}
    return inference.Measured(worker, malloc)


def test_table_compares_with_the_fastest_mode_of_fairchem_in_the_same_environment():
    rows = inference_table.rows_of(
        [
            measured("fairchem", "merged", 8.0),
            measured("fairchem", "default", 4.0),
            measured("adatom", "turbo", 1.0),
            measured("fairchem", "merged", 3.0, "tuned"),
            measured("adatom", "turbo", 1.0, "tuned"),
        ]
    )
    column = {name: i for i, name in enumerate(inference_table.COLUMNS)}
    assert [row[column["times faster than fairchem's fastest"]] for row in rows] == [
        0.5,
        1.0,
        4.0,
        1.0,
        3.0,
    ]
    assert [row[column["edges"]] for row in rows] == [6] * 5
    assert rows[0][column["peak beyond GB"]] == 1.0
    assert rows[0][column["peak GB"]] == 1.75
    alone = inference_table.rows_of([measured("adatom", "turbo", 1.0)])
    assert alone[0][column["times faster than fairchem's fastest"]] is None


class FailingWorker(FakeWorker):
    """Fails when it is prepared if it is fairchem's; gives its values otherwise."""

    def wait_until_loaded(self):
        self.report = {"versions": {}}

    def prepare(self):
        if self.job.program == "fairchem":
            raise ConfigError("out of memory")
        self.report["values"] = {"energy": [1.0], "forces": [[0.0, 0.0, 0.0]]}

    def close(self):
        self._log.append("closed")


def test_what_fails_is_left_out_and_the_rest_is_measured(monkeypatch, capsys):
    log = []

    def launch(job, variables):
        worker = FailingWorker(job.call, 1.0, log)
        worker.job = job
        return worker

    monkeypatch.setattr(inference, "launch", launch)
    options = inference.parse(["--seconds", "2", "--modes", "fairchem-merged", "turbo", "default"])
    jobs = inference.jobs_of(options, "ase", "a.pt", "b.xyz")
    found = inference.measure(jobs, ["untouched", "tuned"], options)
    assert [(one.worker.job.mode, one.malloc) for one in found] == [
        ("turbo", "untouched"),
        ("default", "untouched"),
        ("turbo", "tuned"),
        ("default", "tuned"),
    ]
    assert capsys.readouterr().err.count("out of memory") == 2
    assert log.count("closed") == 6


def test_different_energies_are_not_timed():
    values = {"energy": [1.0], "forces": [[0.0, 0.0, 0.1]]}
    worker = FakeWorker("ef", 1.0, [])
    inference.check(inference.compare(values, values), worker)
    for other in ({"energy": [1.001]}, {"forces": [[0.0, 0.0, 0.2]]}, {"energy": [float("nan")]}):
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


def test_modes_can_be_chosen():
    assert modes_for("ase", ["turbo"]) == ["turbo"]
    assert modes_for("ase", None)[:2] == ["fairchem-merged", "fairchem-default"]
    assert modes_for("batch", None)[-2:] == ["batch", "loop"]
    assert modes_for("ase", ["loop", "turbo"]) == ["turbo"]


def test_absent_mace_is_left_out_with_one_line(monkeypatch, tmp_path, capsys):
    monkeypatch.delenv("ADATOM_MACE_PYTHON", raising=False)
    monkeypatch.setattr("benchmarks.workers.ROOT", tmp_path)
    assert mace_python() is None
    assert installed(["turbo", "mace-medium"]) == ["turbo"]
    assert capsys.readouterr().err.count("\n") == 1
    assert installed(["turbo"]) == ["turbo"]
    assert installed(None) is None
    assert capsys.readouterr().err == ""


def test_wrong_mace_interpreter_is_refused(monkeypatch):
    monkeypatch.setenv("ADATOM_MACE_PYTHON", "/nowhere/python")
    with pytest.raises(ConfigError, match="ADATOM_MACE_PYTHON"):
        interpreter("mace")


def test_mace_is_measured_through_its_calculator_only():
    options = inference.parse(["--modes", "fairchem-merged", "turbo", "mace-medium"])
    titles = {
        call: [title_of(job) for job in inference.jobs_of(options, call, "a.pt", "b.xyz")]
        for call in ("ef", "ase")
    }
    assert titles["ef"] == ["fairchem merged", "adatom turbo"]
    assert titles["ase"] == [*titles["ef"], "mace-torch medium (other model)"]


def test_table_says_that_mace_is_another_architecture():
    notes = inference_table.notes_of(["turbo", "mace-medium"])
    assert len(notes) == 2
    assert "another architecture (128x0e + 128x1o, 2 layers" in notes[1]
    assert "random weights" in notes[1]
    assert len(inference_table.notes_of(["turbo"])) == 1


def test_large_crystals_are_made_on_first_use(tmp_path, monkeypatch):
    (tmp_path / "data" / "bench").mkdir(parents=True)
    (tmp_path / "data" / "bench" / "water3.extxyz").touch()
    monkeypatch.setenv("ADATOM_SHARED", str(tmp_path))
    monkeypatch.setattr("benchmarks.checkpoints.FOLDER", tmp_path / "made")
    atoms = load_structure(structure_file("cfcc108"))
    assert len(atoms) == 108
    assert atoms.info["task"] == "omat"
    with pytest.raises(ConfigError, match="did you mean 'water3'"):
        structure_file("watr3")
    with pytest.raises(ConfigError, match="cfcc4000"):
        structure_file("cfcc107")
