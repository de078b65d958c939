"""Relaxed structures on the disk: input order, errors, and runs that were interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.io import read, write

from adatom.checkpoint.format import save_potential
from adatom.core.errors import ConfigError, DataError
from adatom.data import open_dataset
from adatom.inference.predict_unit import MLIPPredictUnit
from adatom.simulate.batched import relax_file
from adatom.simulate.batched.cells import CellRelaxation
from adatom.simulate.batched.relax_file import relax_to_file
from adatom.simulate.batched.relaxation import RelaxationSettings, relax_many
from toy_backbone import toy_potential


@pytest.fixture(scope="module")
def unit():
    return MLIPPredictUnit(toy_potential())


def starts(count: int = 8) -> list[Atoms]:
    frames = []
    for k in range(count):
        atoms = bulk("Cu", "fcc", a=3.6, cubic=True) * (1 + k % 2, 1, 1)
        atoms.rattle(0.15 - 0.015 * (k % 8), seed=k)
        atoms.info |= {"sid": f"no{k}", "charge": k % 2, "kind": f"kind {k}"}
        frames.append(atoms)
    return frames


SETTINGS = RelaxationSettings(fmax=0.02, limit=3)


def test_the_file_has_the_input_order_and_what_was_known(unit, tmp_path):
    frames = starts()
    frames[3] = bulk("Au")
    frames[5].positions[1] = frames[5].positions[0]
    path = tmp_path / "new" / "out.extxyz"
    infos = [frame.info for frame in frames]
    done = relax_to_file(frames, path, unit, settings=SETTINGS, info=lambda i: infos[i])
    expected = relax_many(frames, unit, settings=SETTINGS)
    found = read(path, ":")
    assert len(found) == len(done.outcomes) == 8
    for i, (atoms, outcome, record) in enumerate(zip(found, done.outcomes, expected, strict=True)):
        assert outcome.number == i
        assert (outcome.converged, outcome.steps) == (record.converged, record.steps)
        assert atoms.info["converged"] == record.converged
        if i in (3, 5):
            assert outcome.error == atoms.info["error"] == record.error
            np.testing.assert_allclose(atoms.positions, frames[i].positions, rtol=0, atol=1e-7)
            assert atoms.calc is None
            continue
        assert atoms.info["sid"] == f"no{i}"
        assert atoms.info["kind"] == f"kind {i}"
        assert atoms.info["charge"] == i % 2
        np.testing.assert_allclose(atoms.positions, record.atoms.positions, rtol=0, atol=1e-7)
        assert atoms.get_potential_energy() == pytest.approx(record.energies[-1], abs=1e-9)
    assert [p.name for p in path.parent.iterdir()] == ["out.extxyz"]


def interrupted_after(count: int, unit, path, frames, monkeypatch):
    """Relax until some structures are finished, then behave as after Ctrl-C."""
    real = relax_file.iterate_relaxations

    def interrupted(*args, stop, **options):
        for i, record in enumerate(real(*args, stop=stop, **options)):
            if i == count:
                os.kill(os.getpid(), signal.SIGTERM)
                return
            yield record

    with monkeypatch.context() as patch:
        patch.setattr(relax_file, "iterate_relaxations", interrupted)
        return relax_to_file(frames, path, unit, settings=SETTINGS)


def test_an_interrupted_run_is_continued(unit, tmp_path, monkeypatch):
    frames = starts()
    whole, parts = tmp_path / "whole.extxyz", tmp_path / "parts.extxyz"
    relax_to_file(frames, whole, unit, settings=SETTINGS)
    done = interrupted_after(3, unit, parts, frames, monkeypatch)
    assert (done.stopped_by, len(done.outcomes)) == ("SIGTERM", 3)
    assert not parts.exists()
    assert done.journal.exists()
    asked = []
    real = relax_file.iterate_relaxations
    monkeypatch.setattr(
        relax_file,
        "iterate_relaxations",
        lambda *a, **o: (asked.append(r.number) or r for r in real(*a, **o)),
    )
    again = relax_to_file(frames, parts, unit, settings=SETTINGS)
    assert again.continued == 3
    assert sorted(asked + [o.number for o in done.outcomes]) == list(range(8))
    compare(parts, whole)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["parts.extxyz", "whole.extxyz"]


def compare(one, other) -> None:
    for a, b in zip(read(one, ":"), read(other, ":"), strict=True):
        assert a.info == b.info
        np.testing.assert_allclose(a.positions, b.positions, rtol=0, atol=2e-8)
        assert a.get_potential_energy() == pytest.approx(b.get_potential_energy(), abs=1e-9)


def test_a_journal_of_other_input_or_settings_is_refused(unit, tmp_path, monkeypatch):
    frames, path = starts(), tmp_path / "out.extxyz"
    done = interrupted_after(4, unit, path, frames, monkeypatch)
    finished = done.outcomes[0].number
    for settings, words in (
        (RelaxationSettings(fmax=0.03, limit=3), "fmax 0.02 left; now it is 0.03"),
        (RelaxationSettings(fmax=0.02, cell=CellRelaxation()), "a run with cell None"),
    ):
        with pytest.raises(ConfigError, match=words):
            relax_to_file(frames, path, unit, settings=settings)
    with pytest.raises(ConfigError, match="a run with potential"):
        relax_to_file(frames, path, toy_potential(seed=1), settings=SETTINGS)
    moved = starts()
    moved[finished].positions[0] += 1e-6
    with pytest.raises(ConfigError, match=f"Structure {finished} of the input is not the one"):
        relax_to_file(moved, path, unit, settings=SETTINGS)
    done.journal.write_text("something else")
    with pytest.raises(DataError, match="cannot be read"):
        relax_to_file(frames, path, unit, settings=SETTINGS)


def test_structures_of_a_file_that_cannot_be_read_are_left_out(unit, tmp_path):
    frames = starts(4)
    frames[1].positions[1] = frames[1].positions[0]
    write(tmp_path / "in.extxyz", frames)
    systems = open_dataset(tmp_path / "in.extxyz", label_keys={}, lazy=True)
    done = relax_to_file(systems, tmp_path / "out.db", unit, settings=SETTINGS, info=systems.info)
    assert "atoms 0 and 1" in done.outcomes[1].error
    assert [o.number for o in done.outcomes] == [0, 1, 2, 3]
    assert len(read(tmp_path / "out.db", ":")) == 3


@pytest.mark.slow
def test_a_killed_run_is_continued(tmp_path):
    """Kill -9 in the middle, then the same command: the same file as without."""
    save_potential(toy_potential(), tmp_path / "toy.safetensors")
    write(tmp_path / "in.extxyz", starts(60))
    start = "import sys; from adatom.cli.main import main; sys.exit(main(sys.argv[1:]))"
    allowed = ["--allow", "toy_backbone.ToyBackbone", "--allow", "toy_backbone.ToyHead"]

    def command(output: str) -> list[str]:
        options = ["-o", str(tmp_path / output), "--model", str(tmp_path / "toy.safetensors")]
        verb = ["relax", str(tmp_path / "in.extxyz"), *options, "--fmax", "0.0005"]
        return [sys.executable, "-c", start, *allowed, *verb, "--optimizer", "FIRE"]

    folders = os.pathsep.join(sys.path)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": folders}
    subprocess.run(command("whole.extxyz"), env=environment, check=True, timeout=300)
    journal = tmp_path / "parts.extxyz.unfinished.traj"
    kills = 0
    for _ in range(2):
        before = journal.stat().st_size if journal.exists() else 0
        with subprocess.Popen(command("parts.extxyz"), env=environment) as process:
            deadline = time.monotonic() + 120
            while time.monotonic() < deadline and process.poll() is None:
                if journal.exists() and journal.stat().st_size > before:
                    process.kill()
                    kills += 1
                    break
                time.sleep(0.01)
    assert kills == 2
    assert not (tmp_path / "parts.extxyz").exists()
    subprocess.run(command("parts.extxyz"), env=environment, check=True, timeout=300)
    compare(tmp_path / "parts.extxyz", tmp_path / "whole.extxyz")
