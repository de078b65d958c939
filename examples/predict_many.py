"""Predict energies, forces and stresses of many structures in batches.

Structures of any size and of several levels of theory may go into one call. `adatom predict` does
this from file to file. Run it with `python examples/predict_many.py`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from adatom import MLIPPredictUnit, open_dataset

DATA = Path(__file__).parent / "data"
SETS = {"zuo2020": DATA / "silicon_test.extxyz", "acac": DATA / "acac_test.extxyz"}


def main() -> None:
    """Predict crystals and molecules together."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="default", help="name or path of a checkpoint")
    options = parser.parse_args()

    # label_keys={} reads no labels; the dataset is the level of theory to predict at.
    systems = [
        system
        for task, path in SETS.items()
        for system in open_dataset(path, dataset=task, label_keys={})
    ]
    unit = MLIPPredictUnit.load(options.model, max_atoms=256)
    predicted = unit.predict(systems)

    print(f"{'task':10}{'structure':24}{'atoms':>6}{'energy (eV)':>16}{'largest force':>16}")
    largest_force = predicted["forces"].norm(dim=1).split([system.num_atoms for system in systems])
    for i, system in enumerate(systems):
        print(
            f"{system.dataset[0]:10}{system.sid[0]:24}{system.num_atoms:6d}"
            f"{float(predicted['energy'][i]):16.4f}{float(largest_force[i].max()):16.4f}"
        )


if __name__ == "__main__":
    main()
