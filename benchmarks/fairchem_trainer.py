"""Optimizer steps of fairchem-core's model on a fixed batch; runs in its environment."""

from __future__ import annotations

import sys
from importlib.metadata import version

import hydra
import torch
from ase import Atoms
from fairchem.core.datasets.atomic_data import AtomicData, atomicdata_list_to_batch

from benchmarks.jobs import Job, serve
from benchmarks.structures import load_labeled, training_targets
from benchmarks.training_loss import count_parameters, step_once, training_loss


def load_model(path: str) -> torch.nn.Module:
    """Return the model of an official checkpoint with its averaged weights, in training mode."""
    # Our own file, made by benchmarks.fairchem_checkpoint.
    checkpoint = torch.load(path, weights_only=False)
    model: torch.nn.Module = hydra.utils.instantiate(checkpoint.model_config)
    state = {
        name.removeprefix("module."): value
        for name, value in checkpoint.ema_state_dict.items()
        if name != "n_averaged"
    }
    model.load_state_dict(state)
    return model.train()


def unlabeled(atoms: Atoms) -> AtomicData:
    """Convert a training structure; the targets are passed separately."""
    bare = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    bare.info.update({"charge": 0, "spin": 0})
    return AtomicData.from_ase(bare, task_name="omat", r_data_keys=["charge", "spin"])


def main() -> None:
    """Serve one job."""
    job = Job.from_json(sys.argv[1])
    torch.set_num_threads(job.threads)
    model = load_model(job.checkpoint)
    structures = load_labeled(job.structure, job.count)
    systems = [unlabeled(atoms) for atoms in structures]
    energies, forces = training_targets(structures)
    targets = torch.from_numpy(energies), torch.from_numpy(forces)
    natoms = torch.tensor([len(atoms) for atoms in structures])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, weight_decay=1e-3)

    def step(_: int) -> dict[str, float]:
        # A new batch each time, as a data loader gives one: the model writes into it.
        out = model(atomicdata_list_to_batch(systems).clone())
        energy = values_of(out["omat_energy"])
        loss = training_loss(energy, values_of(out["omat_forces"]), targets, natoms)
        return step_once(model, optimizer, loss)

    versions = {"fairchem-core": version("fairchem-core"), "torch": torch.__version__}
    facts = {"versions": versions, "parameters": count_parameters(model)}
    serve(lambda: step, lambda: facts)


def values_of(entry: dict[str, torch.Tensor] | torch.Tensor) -> torch.Tensor:
    """Return the tensor of an output, which may be wrapped by its property's name."""
    return next(iter(entry.values())) if isinstance(entry, dict) else entry


if __name__ == "__main__":
    main()
