"""Which cores each process gets, on machines of many shapes, and that a run really has them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer

from adatom.core.errors import ConfigError
from adatom.training.binding import Bind, ProcessBinding, arrange, share_of_cores
from adatom.training.cpu_topology import CpuTopology, parse_list, read_topology
from adatom.training.strategy import UnitStrategy


def machine(*nodes: int, start: int = 0) -> CpuTopology:
    """Return nodes with so many cores of one hardware thread each."""
    out = []
    for count in nodes:
        out.append(tuple((start + i,) for i in range(count)))
        start += count
    return CpuTopology(tuple(out))


@pytest.mark.parametrize("bind", ["cores", "numa"])
@pytest.mark.parametrize("nodes", [(2,), (8,), (4, 4), (3, 5), (16, 16, 16, 16), (1, 1, 6)])
@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_every_core_is_used_once(nodes: tuple[int, ...], ranks: int, bind: Bind) -> None:
    topology = machine(*nodes)
    if ranks > sum(nodes):
        with pytest.raises(ConfigError, match="at least one core for each process"):
            share_of_cores(topology, bind, 0, ranks)
        return
    shares = [share_of_cores(topology, bind, rank, ranks) for rank in range(ranks)]
    assert sorted(cpu for share in shares for cpu in share.cpus) == list(range(sum(nodes)))
    assert all(share.threads == len(share.cpus) >= 1 for share in shares)
    if bind == "cores":
        sizes = [share.threads for share in shares]
        assert max(sizes) - min(sizes) <= 1


def test_no_process_has_cores_of_two_nodes_if_that_can_be() -> None:
    topology = machine(4, 4)
    crossing = [share_of_cores(topology, "cores", rank, 3).cpus for rank in range(3)]
    assert crossing == [(0, 1), (2, 3, 4), (5, 6, 7)]
    near = [share_of_cores(topology, "numa", rank, 3).cpus for rank in range(3)]
    assert near == [(0, 1, 2, 3), (4, 5), (6, 7)]
    assert share_of_cores(machine(2, 2, 2, 2), "numa", 1, 2).cpus == (4, 5, 6, 7)
    assert share_of_cores(machine(6, 6), "numa", 3, 4).cpus == (9, 10, 11)


def test_hardware_threads_of_a_core_stay_together() -> None:
    # As Linux counts them: the second threads of all cores come after the first ones.
    topology = CpuTopology((((0, 4), (1, 5)), ((2, 6), (3, 7))))
    first, second = (share_of_cores(topology, "cores", rank, 2) for rank in range(2))
    assert (first.cpus, first.threads) == ((0, 1, 4, 5), 2)
    assert (second.cpus, second.threads) == ((2, 3, 6, 7), 2)


def test_more_processes_than_cores_of_a_node() -> None:
    with pytest.raises(ConfigError, match=r"for 4 processes .* 1 and 7 cores in its NUMA nodes"):
        share_of_cores(machine(1, 7), "numa", 3, 4)


def write_system(folder: Path, nodes: list[str], siblings: dict[int, str]) -> Path:
    for number, cpus in enumerate(nodes):
        path = folder / "node" / f"node{number}"
        path.mkdir(parents=True)
        (path / "cpulist").write_text(cpus + "\n")
    for cpu, text in siblings.items():
        path = folder / "cpu" / f"cpu{cpu}" / "topology"
        path.mkdir(parents=True)
        (path / "thread_siblings_list").write_text(text + "\n")
    return folder


def test_what_the_system_says_is_read(tmp_path: Path) -> None:
    # Two sockets of two cores with two threads each, and memory without cores as a third node.
    siblings = {cpu: f"{cpu % 4},{cpu % 4 + 4}" for cpu in range(8)}
    system = write_system(tmp_path, ["0-1,4-5", "2-3,6-7", ""], siblings)
    whole = read_topology(range(8), system)
    assert whole == CpuTopology((((0, 4), (1, 5)), ((2, 6), (3, 7))))
    # A batch system that gave this job less.
    assert read_topology({4, 1, 5}, system) == CpuTopology((((4,), (1, 5)),))
    # A container that shows nothing.
    assert read_topology({2, 3}, tmp_path / "none") == CpuTopology((((2,), (3,)),))
    with pytest.raises(ConfigError, match="No core"):
        read_topology((), system)


def test_the_tenth_node_comes_after_the_second(tmp_path: Path) -> None:
    system = write_system(tmp_path, [str(n) for n in range(11)], {})
    assert read_topology(range(11), system).cores == tuple((n,) for n in range(11))


def test_lists_of_cores() -> None:
    assert parse_list("0-3,8,10-11\n") == [0, 1, 2, 3, 8, 10, 11]
    assert parse_list("\n") == []
    with pytest.raises(ConfigError, match="'0-x' is not a list of cores"):
        parse_list("0-x")


def test_what_the_launcher_has_bound_stays(tmp_path: Path) -> None:
    both = [frozenset({0, 1}), frozenset({2, 3})]
    share = arrange(both, 1, "cores", tmp_path)
    assert (share.cpus, share.threads) == ((2, 3), 2)
    same = [frozenset(range(4))] * 2
    assert arrange(same, 1, "cores", tmp_path).cpus == (2, 3)
    with pytest.raises(ConfigError, match=r"overlap.*Start with mpirun --bind-to none"):
        arrange([frozenset({0, 1}), frozenset({1, 2})], 0, "cores", tmp_path)


def test_a_run_is_bound_and_then_let_go(capfd: pytest.CaptureFixture[str]) -> None:
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("this system cannot bind processes")
    allowed, threads = os.sched_getaffinity(0), torch.get_num_threads()
    trainer = Trainer(
        accelerator="cpu", devices=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, strategy=UnitStrategy(),
    )  # fmt: skip
    one = min(allowed)
    os.sched_setaffinity(0, {one})
    binding = ProcessBinding(bind="numa")
    try:
        torch.set_num_threads(threads + 1)
        binding.setup(trainer, None, "fit")  # type: ignore[arg-type]
        assert torch.get_num_threads() == 1
        assert os.sched_getaffinity(0) == {one}
        assert f"the first has 1 on processors {one}" in capfd.readouterr().err.replace("(", "")
        binding.teardown(trainer, None, "fit")  # type: ignore[arg-type]
        assert torch.get_num_threads() == threads + 1
    finally:
        os.sched_setaffinity(0, allowed)
        torch.set_num_threads(threads)


def test_off_by_default_nothing_is_touched() -> None:
    before = os.sched_getaffinity(0), torch.get_num_threads()
    ProcessBinding().setup(None, None, "fit")  # type: ignore[arg-type]
    assert (os.sched_getaffinity(0), torch.get_num_threads()) == before
