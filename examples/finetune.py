"""Fine-tune a potential on 50 structures of other molecules and another level of theory.

The base (by default the embedded potential) knows single organic molecules at PBE0+MBD; the new
structures are pairs of molecules at wB97X. Low-rank changes train 5 % of the number of
parameters, and acetylacetone is replayed, so that the base's errors there stay small. Run it with
`python examples/finetune.py`; `adatom finetune` does the same.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from adatom.training.data_source import DataSource
from adatom.training.finetuning.run import finetune
from adatom.training.finetuning.settings import FinetuningSettings

DATA = Path(__file__).parent / "data"


def main() -> None:
    """Fine-tune and print the errors before and after."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="default", help="checkpoint that knows qm7x and acac")
    parser.add_argument("--output", type=Path, default=Path("dimers"))
    parser.add_argument("--epochs", type=int, default=5)
    options = parser.parse_args()

    known = DATA / "acac_train.extxyz"
    settings = FinetuningSettings(
        base=options.model,
        data=[DataSource(path=str(DATA / "dimers_train.extxyz"), dataset="dimers")],
        like="qm7x",
        method="lora",
        replay=DataSource(path=str(known), dataset="acac"),
        test=DataSource(path=str(DATA / "dimers_test.extxyz"), dataset="dimers"),
        base_test=DataSource(path=str(DATA / "acac_test.extxyz"), dataset="acac"),
        epochs=options.epochs,
        run_dir=str(options.output),
    )
    path = finetune(settings)

    result = json.loads((options.output / "result.json").read_text(encoding="utf-8"))
    for title, errors in result["before"].items():
        for dataset, before in errors.items():
            after = result["after"][title][dataset]
            old, new = before["forces"]["mae"], after["forces"]["mae"]
            print(f"{title}, {dataset}: forces from {old:.3f} to {new:.3f} eV/angstrom (MAE)")
    print(f"Wrote {path}.")


if __name__ == "__main__":
    main()
