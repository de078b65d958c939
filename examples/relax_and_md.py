"""Relax a structure, then run molecular dynamics of it.

`adatom relax` and `adatom md` do the same from the command line. Run it with
`python examples/relax_and_md.py --output out`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import ase.io

from adatom import MLIPCalculator, relax, run_md
from adatom.simulate.ensembles import NVE, NVT

STRUCTURES = Path(__file__).parent / "structures"


def main() -> None:
    """Relax silicon from a hot snapshot, heat it, then let it go."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="default", help="name or path of a checkpoint")
    parser.add_argument("--task", default="zuo2020", help="level of theory")
    parser.add_argument("--structure", default=str(STRUCTURES / "silicon_64_300K.extxyz"))
    parser.add_argument("--steps", type=int, default=200, help="of 1 fs, for each ensemble")
    parser.add_argument("--output", type=Path, default=Path("silicon"), help="folder to write to")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)

    [atoms] = ase.io.iread(options.structure)
    atoms.calc = MLIPCalculator(options.model, task_name=options.task)

    relaxed = relax(atoms, fmax=0.05, steps=options.steps)
    state = "converged" if relaxed.converged else "not converged"
    gain = relaxed.energies[0] - relaxed.energies[-1]
    print(f"relaxation: {state} after {relaxed.steps} steps, {gain:.3f} eV lower")

    trajectory = options.output / "nvt.traj"
    warm = run_md(
        relaxed.atoms,
        ensemble=NVT(temperature=300.0, friction=0.02),
        steps=options.steps,
        trajectory=trajectory,
        log=options.output / "nvt.csv",
        overwrite=True,
    )
    print(f"NVT: {warm.log[-1].temperature_K:.0f} K after {warm.steps} fs")
    print(f"     {len(list(ase.io.iread(trajectory, ':')))} frames in {trajectory}")

    # Momenta go on from the end of the last run.
    free = run_md(warm.atoms, ensemble=NVE(), steps=options.steps)
    change = free.log[-1].total_energy_eV - free.log[0].total_energy_eV
    print(f"NVE: total energy changed by {1000 * change / len(atoms):+.3f} meV/atom")
    print(f"     {free.steps_per_second:.1f} steps/s, {free.ns_per_day:.2f} ns/day")


if __name__ == "__main__":
    main()
