"""Look at a dataset before training on it: what is in it, what is wrong with it.

`adatom data check FILE` prints the same as tables. Run it with `python examples/check_data.py`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from adatom import open_dataset
from adatom.data.doctor import check_dataset
from adatom.data.statistics import dataset_statistics

DATA = Path(__file__).parent / "data"


def main() -> None:
    """Describe a file, examine it, then examine it with a mistake made."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="?", default=str(DATA / "acac_train.extxyz"))
    parser.add_argument("--test", default=str(DATA / "acac_test.extxyz"), help="another split")
    options = parser.parse_args()

    # Usual label names are found; a missing label is an error that lists the keys that are there.
    systems = open_dataset(options.data, required=["energy", "forces"])
    numbers = dataset_statistics(systems)
    elements = ", ".join(f"{atoms} {name}" for name, (_, atoms) in numbers.elements.items())
    print(f"{numbers.num_structures} structures, {numbers.num_atoms} atoms ({elements})")
    print(f"labels: {numbers.labels}")
    print(f"force RMS {numbers.force_rms:.3f} eV/angstrom")
    print(f"shortest distance {numbers.shortest_distance.min:.3f} angstrom")

    print("\nIn view of the test structures:")
    show(options.data, options.test)

    print("\nIf the test file were a copy of the training file:")
    show(options.data, options.data)


def show(train: str, test: str) -> None:
    """Print what the doctor finds in the training file, in view of the test file."""
    findings = check_dataset(open_dataset(train), others={"test": open_dataset(test)})
    for finding in findings:
        print(f"  {finding.severity} ({finding.code}): {finding.message} {finding.fix}")
    if not findings:
        print("  nothing suspicious")


if __name__ == "__main__":
    main()
