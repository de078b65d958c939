"""One of several processes that share systems; started by test_rank_processes.py.

Arguments: rank, number of processes, file where they meet, file for the results of rank 0, and the
names of the models.
"""

from __future__ import annotations

import gc
import sys
from datetime import timedelta

import shared_systems as shared
import torch
from torch import distributed

from adatom.inference.parallel.rank_engine import RankEngine
from adatom.inference.settings import inference_settings


def main() -> None:
    rank, size, store, results, *names = sys.argv[1:]
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo",
        init_method=f"file://{store}",
        rank=int(rank),
        world_size=int(size),
        timeout=timedelta(seconds=120),
    )
    found = predictions(names)
    if int(rank) == 0:
        torch.save(found, results)
    distributed.destroy_process_group()
    # Threads of gloo end with the last that holds the group, which must not be the interpreter.
    gc.collect()


def predictions(names: list[str]) -> dict[str, torch.Tensor]:
    """Return what the processes find together for all systems."""
    found = {}
    for name in names:
        worker = RankEngine(
            shared.make(name),
            inference_settings({"merge_mole": True, "compile": False}),
            "cpu",
            distributed.group.WORLD,
        )
        for case, make in shared.SYSTEMS.items():
            data = shared.data_of(make())
            found |= {
                f"{name}/{case}/{key}": value
                for key, value in worker.predict(data, ("energy", "forces", "stress")).items()
            }
    return found


if __name__ == "__main__":
    main()
