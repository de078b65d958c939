"""Measure a potential on labelled structures it was not trained on.

`adatom evaluate MODEL DATA -o report.html` does the same and writes a page with plots. Run it with
`python examples/evaluate.py`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from adatom import MLIPPredictUnit, open_dataset
from adatom.evaluate import evaluate
from adatom.evaluate.evaluation import Errors

DATA = Path(__file__).parent / "data"


def main() -> None:
    """Print errors over all structures, by kind of configuration, and the worst structures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="default", help="name or path of a checkpoint")
    parser.add_argument("--data", default=str(DATA / "silicon_test.extxyz"))
    parser.add_argument("--task", default="zuo2020", help="level of theory of the labels")
    options = parser.parse_args()

    unit = MLIPPredictUnit.load(options.model)
    systems = open_dataset(options.data, dataset=options.task, required=["energy", "forces"])
    kinds = [str(systems.info(i).get("group", "all")) for i in range(len(systems))]
    result = evaluate(unit, systems, model=options.model, data=options.data, groups=kinds)

    print(f"{'':10}{'energy (meV/atom)':>22}{'forces (eV/angstrom)':>24}")
    print(f"{'':10}{'MAE':>11}{'RMSE':>11}{'MAE':>12}{'RMSE':>12}")
    show("all", result.overall)
    for kind, errors in result.by_group.items():
        show(kind, errors)
    worst = result.worst[0]
    print(f"Largest force error: structure {worst['sid']}, {worst['force_rmse']:.3f} eV/angstrom")


def show(name: str, errors: Errors) -> None:
    """Print one row of the table."""
    energy, forces = errors.energy_per_atom, errors.forces
    if energy is not None and forces is not None:
        columns = f"{1000 * energy.mae:11.2f}{1000 * energy.rmse:11.2f}"
        print(f"{name:10}{columns}{forces.mae:12.4f}{forces.rmse:12.4f}")


if __name__ == "__main__":
    main()
