"""Real launchers: two processes that each of them starts train as one process does, and end."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from adatom.cli.s2ef import main

TESTS = Path(__file__).resolve().parent.parent
SCRIPT = str(TESTS / "training" / "adatom_with_threads.py")
_TRAINER = "max_epochs: 2, deterministic: true, accelerator: cpu, precision: 64-true"
TWO = {"trainer": f"{{{_TRAINER}, devices: 2}}", "data.batch_size": "1"}
#: The same steps in one process.
ONE = {"trainer": f"{{{_TRAINER}, devices: 1}}", "data.batch_size": "2"}

#: What starts two processes; Lightning starts the second one itself.
LAUNCHERS = {
    "lightning": [sys.executable, SCRIPT],
    "torchrun": [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
        *("--nproc-per-node", "2", SCRIPT),
    ],
    "mpirun": ["mpirun", "-n", "2", "--bind-to", "none", sys.executable, SCRIPT],
}

Config = Callable[..., Path]


def launch(name: str, config: Path, folder: Path, *options: str) -> str:
    """Run a training to its end; return what it wrote to standard error."""
    if name == "mpirun" and shutil.which("mpirun") is None:
        pytest.skip("mpirun is not installed; on Debian: apt-get install openmpi-bin")
    left = folder.with_name(f"{folder.name}_threads")
    left.mkdir()
    environment = os.environ | {
        "PYTHONPATH": f"{TESTS}:{os.environ.get('PYTHONPATH', '')}",
        "THREADS_LEFT": str(left),
        "OMP_NUM_THREADS": "1",
        # Of OpenMPI, for containers with one user and few cores; others do not know these.
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "OMPI_MCA_rmaps_base_oversubscribe": "1",
    }
    run = ["s2ef", "fit", "--config", str(config), "--run_dir", str(folder), *options]
    done = subprocess.run(
        [*LAUNCHERS[name], *run],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "terminate called" not in done.stderr
    threads = [path.read_text() for path in left.iterdir()]
    assert len(threads) == 2, "one of the processes did not come to its end"
    assert not any("gloo" in text for text in threads), threads
    return done.stderr


def assert_close(folder: Path, reference: Path) -> None:
    ours, theirs = (
        list(csv.reader((run / "metrics.csv").read_text().splitlines()))
        for run in (folder, reference)
    )
    assert ours[0] == theirs[0]
    assert len(ours) == len(theirs) == 1 + 2 * (9 + 1)
    for mine, other in zip(ours[1:], theirs[1:], strict=True):
        assert [float(x or 0) for x in mine] == pytest.approx(
            [float(x or 0) for x in other], rel=1e-8, abs=1e-10
        )


@pytest.fixture(scope="module")
def alone(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train in one process."""
    folder = tmp_path_factory.mktemp("run") / "alone"
    main(["fit", "--config", str(config(**ONE)), "--run_dir", str(folder)])
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "strategy"),
    [("lightning", "ddp"), ("lightning", "fsdp"), ("torchrun", "ddp"), ("mpirun", "ddp")],
)
def test_two_processes_equal_one_and_end_cleanly(
    alone: Path, config: Config, tmp_path: Path, name: str, strategy: str
) -> None:
    folder = tmp_path / "two"
    told = launch(name, config(**TWO), folder, "--model.train_strategy", strategy)
    assert_close(folder, alone)
    # Each message once, not once per process.
    for text in ("Neighbor lists (train)", "Preflight: ", "Potential: "):
        assert told.count(text) == 1, told
    assert "Seed set" not in told


@pytest.mark.slow
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is one core")
@pytest.mark.parametrize("name", ["torchrun", "mpirun"])
def test_bound_processes_train_the_same(
    alone: Path, config: Config, tmp_path: Path, name: str
) -> None:
    folder = tmp_path / "bound"
    told = launch(name, config(**TWO), folder, "--binding.bind", "numa")
    assert told.count("Bound to cores (2 processes here") == 1
    assert_close(folder, alone)
    assert json.loads((folder / "result.json").read_text())["steps"] == 18
