"""Optimizer steps of a MACE on a fixed batch; runs in mace-torch's environment."""

from __future__ import annotations

import sys
from importlib.metadata import version
from typing import Any

import torch
from mace.data import AtomicData, config_from_atoms
from mace.tools import AtomicNumberTable
from mace.tools.torch_geometric import Batch

from benchmarks.jobs import Job, serve
from benchmarks.mace_worker import build
from benchmarks.shapes import MACE_SHAPES
from benchmarks.structures import load_labeled, training_targets
from benchmarks.training_loss import count_parameters, step_once, training_loss


def batch_of(job: Job, shape: dict[str, Any]) -> Batch:
    """Return the batch with edges, which MACE's training computes once."""
    table = AtomicNumberTable(list(range(1, shape["elements"] + 1)))
    configs = [config_from_atoms(atoms) for atoms in load_labeled(job.structure, job.count)]
    systems = [AtomicData.from_config(one, table, shape["cutoff"]) for one in configs]
    return Batch.from_data_list(systems)


def main() -> None:
    """Serve one job."""
    job = Job.from_json(sys.argv[1])
    torch.set_num_threads(job.threads)
    shape = MACE_SHAPES[job.mode]
    model = build(shape).train()
    batch = batch_of(job, shape)
    energies, forces = training_targets(load_labeled(job.structure, job.count))
    targets = torch.from_numpy(energies), torch.from_numpy(forces)
    natoms = batch.ptr.diff()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, weight_decay=1e-3)

    def step(_: int) -> dict[str, float]:
        out = model(batch.to_dict(), training=True, compute_force=True, compute_stress=False)
        loss = training_loss(out["energy"], out["forces"], targets, natoms)
        return step_once(model, optimizer, loss)

    versions = {"mace-torch": version("mace-torch"), "torch": torch.__version__}
    facts = {
        "versions": versions,
        "atoms": len(batch.positions),
        "edges": batch.edge_index.shape[1],
        "parameters": count_parameters(model),
    }
    serve(lambda: step, lambda: facts)


if __name__ == "__main__":
    main()
