"""Relax many molecules in threads: with one potential in this process, or with a service.

Without arguments the threads share a potential of this process, and their predictions are computed
together. With `--url` they ask a service (`adatom serve default`), which does the same for any
number of clients. Run it with `python examples/serve_many.py`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator
from ase.optimize import FIRE

from adatom import InferenceBatcher, MLIPCalculator, RemoteCalculator

TASK = "zuo2020"


def start(number: int) -> Atoms:
    """Return a strained and rattled silicon crystal."""
    atoms = bulk("Si", a=5.43 * (1 + 0.005 * (number % 5)))
    atoms.rattle(0.1, seed=number)
    return atoms


def relax_all(calculator: Callable[[], Calculator], count: int, steps: int) -> list[float]:
    """Relax structures, each in a thread with a calculator of its own; return the energies."""

    def relax_one(number: int) -> float:
        atoms = start(number)
        atoms.calc = calculator()
        FIRE(atoms, logfile=None).run(fmax=0.02, steps=steps)
        return float(atoms.get_potential_energy())

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(relax_one, range(count)))


def main() -> None:
    """Relax, and say how long it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="default", help="name or path of a checkpoint")
    parser.add_argument("--url", help="address of a service, such as http://127.0.0.1:8000")
    parser.add_argument("--structures", type=int, default=8)
    parser.add_argument("--steps", type=int, default=20)
    options = parser.parse_args()

    begin = time.perf_counter()
    if options.url:
        url: str = options.url
        energies = relax_all(lambda: RemoteCalculator(url, TASK), options.structures, options.steps)
    else:
        with InferenceBatcher(options.model, device="cpu") as batcher:
            energies = relax_all(
                lambda: MLIPCalculator(batcher.unit, TASK), options.structures, options.steps
            )
    for number, energy in enumerate(energies):
        print(f"structure {number}: {energy:.4f} eV")
    print(f"{len(energies)} relaxations in {time.perf_counter() - begin:.1f} s")


if __name__ == "__main__":
    main()
