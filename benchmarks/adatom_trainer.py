"""Optimizer steps of adatom on a fixed batch."""

from __future__ import annotations

import sys
from importlib.metadata import version

import torch

from adatom.checkpoint.format import load_potential
from adatom.data.ase_convert import from_ase
from adatom.data.atomic_data import AtomicData, collate
from adatom.training.optimizer import adamw
from benchmarks.jobs import Job, serve
from benchmarks.structures import load_labeled, training_targets
from benchmarks.training_loss import count_parameters, step_once, training_loss


def batch_of(job: Job, cutoff: float, max_neighbors: int | None) -> AtomicData:
    """Return the batch with edges, which a training computes once."""
    structures = load_labeled(job.structure, job.count)
    systems = [from_ase(atoms, dataset="omat", label_keys={}) for atoms in structures]
    return collate(systems).with_edges(cutoff, max_neighbors=max_neighbors)


def main() -> None:
    """Serve one job."""
    job = Job.from_json(sys.argv[1])
    torch.set_num_threads(job.threads)
    potential = load_potential(job.checkpoint).train().requires_grad_(True)
    batch = batch_of(job, potential.cutoff, potential.max_neighbors)
    energies, forces = training_targets(load_labeled(job.structure, job.count))
    targets = torch.from_numpy(energies), torch.from_numpy(forces)
    optimizer = adamw(potential, lr=1e-5, weight_decay=1e-3)

    def step(_: int) -> dict[str, float]:
        out = potential(batch, ("energy", "forces"), create_graph=True)
        loss = training_loss(out["energy"], out["forces"], targets, batch.natoms)
        return step_once(potential, optimizer, loss)

    edges = 0 if batch.edges is None else int(batch.edges.index.shape[1])
    versions = {"adatom": version("adatom"), "torch": torch.__version__}
    facts = {
        "versions": versions,
        "atoms": batch.num_atoms,
        "edges": edges,
        "parameters": count_parameters(potential),
    }
    serve(lambda: step, lambda: facts)


if __name__ == "__main__":
    main()
