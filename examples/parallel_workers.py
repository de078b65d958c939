"""One structure over several workers: each computes a part of the atoms.

Needs Ray: `pip install "adatom[ray]"`. On a machine with two GPUs give `--device cuda`; then each
worker has a GPU. `adatom md --workers 2` does the same from the command line. Run it with
`python examples/parallel_workers.py`.
"""

from __future__ import annotations

import argparse

from ase.build import bulk

from adatom import MLIPCalculator, run_md
from adatom.inference.pretrained_mlip import get_predict_unit
from adatom.simulate.ensembles import NVE


def main() -> None:
    """Compare workers with one process, and let silicon move."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="default", help="name or path of a checkpoint")
    parser.add_argument("--task", default="zuo2020", help="level of theory")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--device", default="cpu", help="cpu, or cuda for one GPU per worker")
    parser.add_argument("--cells", type=int, default=3, help="conventional cells along each axis")
    parser.add_argument("--steps", type=int, default=20, help="of 1 fs")
    options = parser.parse_args()

    atoms = bulk("Si", cubic=True) * ((options.cells,) * 3)
    atoms.rattle(0.05, seed=1)
    one = get_predict_unit(options.model, "high-precision", device=options.device)
    alone = one.predict(atoms, task_name=options.task)
    with get_predict_unit(
        options.model, "high-precision", device=options.device, workers=options.workers
    ) as unit:
        found = unit.predict(atoms, task_name=options.task)
        energy = float((found["energy"] - alone["energy"].cpu()).abs().max())
        forces = float((found["forces"] - alone["forces"].cpu()).abs().max())
        print(f"{len(atoms)} atoms, {options.workers} workers minus one process:")
        print(f"  energy {energy:.0e} eV, forces at most {forces:.0e} eV/angstrom")
        for rank, counted in enumerate(unit.statistics()):
            own, halo = counted["own_atoms"], counted["halo_atoms"]
            sent = counted["sent_bytes"] / 1e6
            print(f"  worker {rank}: {own} atoms, {halo} of others, sent {sent:.2f} MB")
        atoms.calc = MLIPCalculator(unit, options.task)
        run = run_md(atoms, ensemble=NVE(temperature=300.0), steps=options.steps)
        change = run.log[-1].total_energy_eV - run.log[0].total_energy_eV
        print(f"{run.steps} steps, {run.steps_per_second:.1f} per second")
        print(f"total energy changed by {1000 * change / len(atoms):+.3f} meV/atom")


if __name__ == "__main__":
    main()
