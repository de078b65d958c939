"""Parts of the parallel predict unit that need no workers: transport, errors, waiting."""

from __future__ import annotations

import socket
import time
from dataclasses import fields, replace
from types import SimpleNamespace

import parallel_cases as cases
import pytest
import torch

from adatom.core.errors import (
    AdatomError,
    ConfigError,
    DataError,
    FileAccessError,
    MissingExtraError,
    UnknownNameError,
    WorkerDiedError,
    WorkerError,
    unknown_name,
)
from adatom.inference.parallel import calls, pulse
from adatom.inference.parallel.calls import BrokenCallError, gather
from adatom.inference.parallel.failures import Failure
from adatom.inference.parallel.pulse import Pulse
from adatom.inference.parallel.ray_address import find_cluster
from adatom.inference.parallel.transport import Receiver, geometry_of, metadata_of
from adatom.inference.parallel.worker import Place, Reply
from adatom.simulate.errors import SimulationError


def changed(value):
    """Return something else of the same shape."""
    if isinstance(value, list):
        return [text + "x" for text in value]
    if value.dtype == torch.bool:
        return ~value
    return value + 1


def test_every_field_but_the_geometry_is_in_the_fingerprint():
    data = next(cases.systems())
    known = {metadata_of(data).fingerprint}
    names = {item.name for item in fields(data)} - {"pos", "cell", "edges", "labels"}
    assert {"atomic_numbers", "charge", "spin", "dataset", "pbc", "natoms", "tags"} <= names
    for name in names:
        other = metadata_of(replace(data, **{name: changed(getattr(data, name))}))
        assert other.fingerprint not in known, name
        known.add(other.fingerprint)
    assert metadata_of(replace(data, pos=data.pos + 1)).fingerprint in known


def test_what_is_received_is_what_was_sent():
    receiver = Receiver()
    for data in cases.systems():
        metadata = metadata_of(data)
        got = receiver.receive(metadata.fingerprint, metadata, geometry_of(data))
        for item in fields(data):
            mine, its = getattr(data, item.name), getattr(got, item.name)
            same = torch.equal(mine, its) if isinstance(mine, torch.Tensor) else mine == its
            assert same, item.name


def test_a_later_change_in_place_is_noticed():
    data = next(cases.systems())
    first = metadata_of(data)
    data.atomic_numbers[0] = 14
    assert metadata_of(data).fingerprint != first.fingerprint
    assert first.arrays["atomic_numbers"][0] == 29


ERRORS = [
    DataError("Structure 'a' is odd", expected="an even one", fix="Change it."),
    unknown_name("task", "omta", ["omat"]),
    FileAccessError("There is no file"),
    MissingExtraError("ray", "ray"),
    SimulationError("The atoms fly apart"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_errors_come_back_as_they_were(error):
    found = Failure.of(error).error("Worker 1 of 2")
    assert type(found) is type(error)
    assert str(found) == str(error)
    assert (found.found, found.expected, found.fix) == (error.found, error.expected, error.fix)


def fail():
    raise ZeroDivisionError("one line\nand another")


def test_foreign_errors_are_named_in_one_sentence():
    with pytest.raises(ZeroDivisionError) as caught:
        fail()
    found = Failure.of(caught.value).error("Worker 1 of 2")
    assert type(found) is WorkerError
    assert str(found) == "Worker 1 of 2 failed: ZeroDivisionError: one line."
    assert "test_parallel_parts.py" in found.__notes__[0]


class Promises:
    """Stands for Ray: a call is answered, dies, or is never answered."""

    class RayError(Exception):
        """What Ray raises for a dead worker."""

    def __init__(self, *answers):
        self.exceptions = SimpleNamespace(RayError=self.RayError)
        self.answers = answers

    def wait(self, refs, num_returns, timeout):
        assert timeout > 0
        ready = [ref for ref in refs if self.answers[ref] is not None]
        return ready[:num_returns], []

    def get(self, ref):
        if isinstance(self.answers[ref], Exception):
            raise self.answers[ref]
        return self.answers[ref]


PLACES = {rank: Place(f"10.0.0.{rank}", "host", 40 + rank, "", {}) for rank in range(3)}
GOOD = Reply("value")
BAD = Reply(failure=Failure.of(UnknownNameError("There is no such thing")))
CUT = Reply(failure=Failure.of(RuntimeError("Connection closed by peer")))


def wait_for(monkeypatch, *answers):
    monkeypatch.setattr(calls, "GRACE", 0.05)
    monkeypatch.setattr(calls, "require_ray", lambda: Promises(*answers))
    return gather(range(len(answers)), PLACES, "it computed 'Cu'", timeout=0.1)


def test_all_answer(monkeypatch):
    assert wait_for(monkeypatch, GOOD, GOOD) == [GOOD, GOOD]


def test_all_refuse_the_same_and_can_go_on(monkeypatch):
    with pytest.raises(UnknownNameError, match="no such thing"):
        wait_for(monkeypatch, BAD, BAD)


@pytest.mark.parametrize("others", [(None, None), (CUT, CUT), (GOOD, GOOD)])
def test_one_fails_and_the_group_is_given_up(monkeypatch, others):
    with pytest.raises(BrokenCallError) as broken:
        wait_for(monkeypatch, others[0], BAD, others[1])
    assert isinstance(broken.value.error, UnknownNameError)
    assert not broken.value.died


def test_the_dead_is_named_and_not_those_that_miss_it(monkeypatch):
    gone = Promises.RayError("Worker exit detail: connection error code 2. End of file.")
    with pytest.raises(BrokenCallError) as broken:
        wait_for(monkeypatch, CUT, None, gone)
    assert broken.value.died
    assert str(broken.value.error).startswith(
        "Worker 2 of 3 (node 10.0.0.2, process 42) died while it computed 'Cu': it was killed"
    )


def test_the_silent_are_named(monkeypatch):
    with pytest.raises(BrokenCallError) as broken:
        wait_for(monkeypatch, GOOD, None)
    assert isinstance(broken.value.error, WorkerDiedError)
    assert "worker 1 of 2 (node 10.0.0.1, process 41)" in str(broken.value.error)
    assert "worker 0" not in str(broken.value.error)


class Living(Promises):
    """A call that is answered after some looks, while pings are answered by some workers."""

    def __init__(self, looks, deaf):
        super().__init__(GOOD, GOOD)
        self.looks, self.deaf, self.pings = looks, deaf, []

    def ping(self, rank):
        self.pings.append(rank)
        return f"ping {rank}"

    def wait(self, refs, num_returns=1, timeout=0.0):
        if isinstance(refs[0], str):
            return ([], refs) if refs == [f"ping {self.deaf}"] else (refs, [])
        time.sleep(timeout)
        self.looks -= 1
        return ([], refs) if self.looks > 0 else (refs[:num_returns], refs[num_returns:])


@pytest.fixture
def hear(monkeypatch):
    def hear(looks, deaf, limit):
        ray = Living(looks, deaf)
        for module in (calls, pulse):
            monkeypatch.setattr(module, "require_ray", lambda: ray)
        beat = Pulse(ray.ping, limit)
        return ray, lambda: gather([0, 1], PLACES, "it computed 'Cu'", pulse=beat)

    return hear


def test_the_one_that_hangs_is_named(hear):
    ray, answers = hear(10**6, 1, 0.4)
    start = time.monotonic()
    with pytest.raises(BrokenCallError) as broken:
        answers()
    assert 0.3 < time.monotonic() - start < 5
    assert broken.value.died
    assert isinstance(broken.value.error, WorkerDiedError)
    assert str(broken.value.error).startswith(
        "Worker 1 of 2 (node 10.0.0.1, process 41) stopped answering while it computed 'Cu': "
        "nothing was heard for 0.4 s"
    )
    assert ray.pings.count(1) == 1
    assert ray.pings.count(0) > 1


def test_work_may_take_longer_than_silence(hear):
    _, answers = hear(60, None, 0.2)
    assert answers() == [GOOD, GOOD]


def test_short_calls_send_no_pings(hear):
    ray, answers = hear(2, None, 1.0)
    assert answers() == [GOOD, GOOD]
    assert ray.pings == []


def test_time_in_which_the_caller_was_stopped_is_no_silence(hear, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(pulse, "time", SimpleNamespace(monotonic=lambda: now[0]))
    hear(1, 1, 4.0)
    beat = Pulse(lambda rank: f"ping {rank}", 4.0)
    now[0] += 1000.0
    assert beat.silent([0, 1]) == []
    for _ in range(8):
        now[0] += 0.5
        found = beat.silent([0, 1])
    assert found == [1]


@pytest.fixture
def listening(monkeypatch, tmp_path):
    """Return an address where something answers, in a world without other clusters."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    (tmp_path / "ray").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_the_cluster_that_is_named_goes_first(listening, monkeypatch, tmp_path):
    assert find_cluster(None) is None
    (tmp_path / "ray" / "ray_current_cluster").write_text(f"{listening}\n")
    assert find_cluster(None) == listening
    assert find_cluster("auto") == listening
    assert find_cluster("local") is None
    monkeypatch.setenv("RAY_ADDRESS", "local")
    assert find_cluster(None) is None
    monkeypatch.setenv("RAY_ADDRESS", listening)
    (tmp_path / "ray" / "ray_current_cluster").unlink()
    assert find_cluster(None) == listening


def test_where_nothing_answers_there_is_no_cluster(listening, tmp_path):
    gone = "127.0.0.1:1"
    (tmp_path / "ray" / "ray_current_cluster").write_text(gone)
    assert find_cluster(None) is None
    for address in (gone, "auto", "nonsense", "127.0.0.1:x"):
        with pytest.raises(ConfigError, match="There is no Ray cluster"):
            find_cluster(address)


def test_errors_of_workers_are_errors_of_adatom():
    assert issubclass(WorkerDiedError, WorkerError)
    assert issubclass(WorkerError, AdatomError)
    assert issubclass(WorkerError, RuntimeError)
