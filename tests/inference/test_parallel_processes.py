"""No process outlives its owner, however that ends; more workers; a cluster of two nodes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import parallel_cases as cases
import pytest
import torch
from ase.build import bulk

from adatom.checkpoint.names import resolve_checkpoint
from adatom.core.errors import ConfigError, WorkerDiedError
from adatom.data.ase_convert import from_ase
from adatom.inference.parallel import ray_cluster
from adatom.inference.parallel.predict_unit import ParallelMLIPPredictUnit
from adatom.inference.predict_unit import MLIPPredictUnit
from toy_backbone import toy_potential

ray = pytest.importorskip("ray")

pytestmark = pytest.mark.slow

#: Where the workers of any cluster find the toy potential.
TESTS = Path(__file__).resolve().parent
FOLDERS = os.pathsep.join(
    filter(None, [str(TESTS), str(TESTS.parent), os.environ.get("PYTHONPATH", "")])
)
#: A driver that makes a unit in its own way and ends in one of several.
DRIVER = """
import os, signal, sys, time
import parallel_cases as cases
from adatom.core.errors import ConfigError
from adatom.inference.parallel.predict_unit import ParallelMLIPPredictUnit
from toy_backbone import toy_potential

unit = ParallelMLIPPredictUnit(toy_potential(["default", "other"]), workers=2)
unit.predict(next(cases.systems()))
print("ready", os.getcwd(), flush=True)
{end}
"""
ENDS = {
    "normal": "",
    "collected": "del unit; import gc; gc.collect(); time.sleep(1)",
    "exception": "raise ValueError('the script is wrong')",
    "exit in the middle": "os._exit(3)",
    "kill -9": "os.kill(os.getpid(), signal.SIGKILL)",
    "SIGTERM": "os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)",
}


def start(code: str, folder: Path, mark: str) -> subprocess.Popen[str]:
    environment = os.environ | {
        "PYTHONPATH": FOLDERS,
        "RAY_ADDRESS": "local",
        "ADATOM_TEST_MARK": mark,
        **{f"AAA_{number}": "x" * 100 for number in range(50)},
    }
    return subprocess.Popen(
        [sys.executable, "-c", code], cwd=folder, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def require_nobody(mark: str, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while (left := cases.marked_processes(mark)) and time.monotonic() < end:
        time.sleep(0.2)
    assert left == {}


@pytest.mark.parametrize("end", ENDS)
def test_no_process_is_left(end, tmp_path):
    mark = uuid.uuid4().hex
    driver = start(DRIVER.format(end=ENDS[end]), tmp_path, mark)
    out, err = driver.communicate(timeout=500)
    assert "ready" in out, err
    require_nobody(mark)
    assert list(tmp_path.iterdir()) == []
    folders = list(Path("/tmp").glob(f"adatom-ray-{driver.pid}-*"))
    assert folders == []
    if end in ("normal", "collected"):
        assert (driver.returncode, err) == (0, "")


def descendants(pid: int) -> dict[int, str]:
    """Return the processes that a process started, and those that they started, with names."""
    parents, names = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            parents[int(folder.name)] = int(fields[1])
            names[int(folder.name)] = (folder / "cmdline").read_bytes().strip(b"\0").decode()
    found = {pid}
    while new := {child for child, parent in parents.items() if parent in found} - found:
        found |= new
    return {child: names[child] for child in found - {pid} if names[child]}


def test_all_processes_of_a_cluster_show_its_mark(monkeypatch):
    # Titles are written over the beginning of the arguments and of the environment.
    for number in range(50):
        monkeypatch.setenv(f"AAA_{number}", "x" * 100)
    mark = uuid.uuid4().hex
    monkeypatch.setenv("ADATOM_TEST_MARK", mark)
    ray_cluster.acquire("local")
    try:
        guardian = ray_cluster._shared.guardian
        folder = str(guardian.folder)
        end = time.monotonic() + 60
        while time.monotonic() < end:
            started = descendants(os.getpid())
            if sum("ray::" in name and "Agent" in name for name in started.values()) == 2:
                break
            time.sleep(0.2)
        else:
            pytest.fail(f"Ray's agents have no titles: {started}")
        marked = {*cases.marked_processes(folder), guardian._process.pid}
        assert {pid: name for pid, name in started.items() if pid not in marked} == {}
    finally:
        ray_cluster.release()
    assert cases.marked_processes(mark) == {}


@pytest.fixture(scope="module")
def long_call():
    """Return a structure that two workers compute for many seconds, in the compiled kernel."""
    data = from_ase(bulk("Cu", cubic=True) * (16, 16, 16), dataset="zuo2020", label_keys={})
    return replace(data, pos=data.pos + 0.01 * torch.sin(data.pos * 7))


@pytest.fixture
def escn(monkeypatch):
    """Return a unit whose workers may be silent for five seconds."""
    mark = uuid.uuid4().hex
    monkeypatch.setenv("ADATOM_TEST_MARK", mark)
    path = resolve_checkpoint("default")
    with ParallelMLIPPredictUnit.load(path, workers=2, address="local", max_silence=5.0) as unit:
        yield unit, mark
    monkeypatch.delenv("ADATOM_TEST_MARK")
    require_nobody(mark)


def test_a_worker_that_hangs_is_named_and_ended(escn, long_call):
    unit, mark = escn
    small = from_ase(bulk("Cu"), dataset="zuo2020", label_keys={})
    expected = unit.predict(small)["energy"]
    before = unit.workers
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(unit.predict, long_call)
        time.sleep(1.0)
        # The compiled kernel does not keep a worker from answering.
        for _ in range(3):
            pings = [unit._workers._processes.ping(rank) for rank in range(2)]
            ready, _ = ray.wait(pings, num_returns=2, timeout=4)
            assert len(ready) == 2
        assert not call.done()
        os.kill(before[1].pid, signal.SIGSTOP)
        start = time.monotonic()
        with pytest.raises(WorkerDiedError, match="stopped answering while it computed") as error:
            call.result()
        assert time.monotonic() - start < 5 + 5
    text = str(error.value)
    assert f"Worker 1 of 2 (node 127.0.0.1, process {before[1].pid})" in text
    assert f"process {before[0].pid}" not in text
    with pytest.raises(WorkerDiedError, match=r"restart\(\)"):
        unit.predict(small)
    end = time.monotonic() + 15
    pids = {place.pid for place in before}
    while (left := pids & set(cases.marked_processes(mark))) and time.monotonic() < end:
        time.sleep(0.2)
    assert not left
    unit.restart()
    assert not {place.pid for place in unit.workers} & pids
    torch.testing.assert_close(unit.predict(small)["energy"], expected, rtol=0, atol=0)


def test_the_end_kills_a_worker_that_hangs(escn):
    unit, _ = escn
    os.kill(unit.workers[0].pid, signal.SIGSTOP)


@pytest.fixture(scope="module")
def one():
    return MLIPPredictUnit(toy_potential(["default", "other"], rmsd=1.7))


@pytest.mark.parametrize("workers", [1, 3, 4])
def test_more_workers_are_one_too(one, workers):
    with ParallelMLIPPredictUnit(one.potential, workers=workers, address="local") as unit:
        for data in cases.systems():
            cases.require_equal(unit, one, data)


def free_cpus() -> float:
    """Return the processors that nobody uses, after what has ended gave its own back."""
    end = time.monotonic() + 30
    while ray.available_resources().get("CPU", 0) < 2 and time.monotonic() < end:
        time.sleep(0.2)
    return ray.available_resources().get("CPU", 0)


@pytest.fixture
def two_nodes(monkeypatch):
    """Start a cluster of two node processes on this machine."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_worker_register_timeout_seconds", "300")
    monkeypatch.setenv("PYTHONPATH", FOLDERS)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "num_gpus": 0})
    cluster.add_node(num_cpus=1, num_gpus=0)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def test_two_nodes(one, two_nodes):
    with ParallelMLIPPredictUnit(
        one.potential, workers=2, placement="STRICT_SPREAD", address=two_nodes.address
    ) as unit:
        assert ray.is_initialized()
        for data in cases.systems():
            cases.require_equal(unit, one, data)
        assert len(ray.nodes()) == 2
    # The connection was the unit's, the cluster is not.
    assert not ray.is_initialized()
    assert len(two_nodes.list_all_nodes()) == 2
    ray.init(address=two_nodes.address, log_to_driver=False)
    assert free_cpus() == 2


def test_a_user_s_connection_is_left_alone(one, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", FOLDERS)
    ray.init(address="local", num_cpus=2, num_gpus=0, include_dashboard=False, log_to_driver=False)
    try:
        with ParallelMLIPPredictUnit(one.potential, workers=2) as unit:
            cases.require_equal(unit, one, next(cases.systems()))
        assert ray.is_initialized()
        assert free_cpus() == 2
    finally:
        ray.shutdown()


def test_a_cluster_that_is_too_small_is_refused(one):
    ray.init(address="local", num_cpus=1, num_gpus=0, include_dashboard=False, log_to_driver=False)
    try:
        with pytest.raises(ConfigError, match="2 workers need 2 CPUs, the Ray cluster has 1"):
            ParallelMLIPPredictUnit(one.potential, workers=2)
    finally:
        ray.shutdown()
