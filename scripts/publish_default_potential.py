"""Turn a finished training into the potential that adatom ships.

Measures it, and the potential that it began from, on held-out structures, writes the model card,
and puts both into the package:

    python scripts/publish_default_potential.py runs/default_potential_all
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

import yaml

from adatom import MLIPPredictUnit, load_potential, open_dataset, save_potential
from adatom.core.console import say
from adatom.core.files import atomic_write
from adatom.evaluate import Evaluation, evaluate

REPOSITORY = Path(__file__).resolve().parent.parent
TARGET = REPOSITORY / "src/adatom/checkpoint/pretrained/default.safetensors"
CARD = REPOSITORY / "docs/default-potential.md"
CONFIGS = REPOSITORY / "configs"
RECIPE = ("default_potential.yaml", "default_potential_all.yaml")
TEMPLATE = Path(__file__).with_name("default_potential_card.md")


@dataclass(frozen=True)
class HeldOut:
    """Structures that were not trained on, and what others reach on them."""

    title: str
    source: dict[str, Any]
    published: str = ""
    leave_out: tuple[str, ...] = ()


def main() -> None:
    """Measure, describe, publish."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="run directory of the second stage")
    parser.add_argument("--card", type=Path, default=CARD, help="where the model card goes")
    parser.add_argument("--dry", action="store_true", help="only write the card")
    options = parser.parse_args()

    source = options.run / "best.safetensors"
    first = yaml.safe_load((options.run / "config.yaml").read_text())["base"]
    listed = yaml.safe_load((CONFIGS / "default_potential_tests.yaml").read_text())
    sets = [HeldOut(**entry) for entry in listed]
    unit, earlier = MLIPPredictUnit.load(source), MLIPPredictUnit.load(first)
    results = [(held, measure(unit, held), measure_if_known(earlier, held)) for held in sets]
    card = model_card(results, unit, options.run)
    with atomic_write(options.card) as part:
        part.write_text(card, encoding="utf-8")
    say(f"Wrote {options.card}.")
    if not options.dry:
        publish(source, card, results, options.run)


def publish(
    source: Path,
    card: str,
    results: list[tuple[HeldOut, Evaluation, Evaluation | None]],
    run: Path,
) -> None:
    """Put the potential with its card into the package."""
    potential = load_potential(source)
    # What the first stage wrote about itself is told by the recipe.
    potential.metadata.pop("finetuning", None)
    potential.metadata |= {
        "name": "default",
        "title": "adatom's embedded potential: thirteen small datasets",
        "licence": "MIT (weights); training data BSD-3-Clause, MIT, Apache-2.0 and CC-BY-4.0, "
        "see model card",
        "recipe": {name: (CONFIGS / name).read_text() for name in RECIPE},
        "trained_with": json.loads((run / "versions.json").read_text()),
        "scores": {held.title: result.to_json()["overall"] for held, result, _ in results},
        "model_card": card,
    }
    save_potential(potential, TARGET)
    say(f"Wrote {TARGET} ({TARGET.stat().st_size / 1e6:.2f} MB).")


def measure(unit: MLIPPredictUnit, held: HeldOut) -> Evaluation:
    """Evaluate on one held-out set."""
    arguments = dict(held.source)
    path = (REPOSITORY / arguments.pop("path")).resolve()
    systems = list(open_dataset(path, **arguments))
    for system in systems:
        for name in held.leave_out:
            system.labels.pop(name, None)
    return evaluate(unit, systems, data=held.title)


def measure_if_known(unit: MLIPPredictUnit, held: HeldOut) -> Evaluation | None:
    """Evaluate an earlier potential, unless the set is of a task that it does not have."""
    if held.source["dataset"] not in unit.potential.datasets:
        return None
    return measure(unit, held)


def model_card(
    results: list[tuple[HeldOut, Evaluation, Evaluation | None]], unit: MLIPPredictUnit, run: Path
) -> str:
    """Write the model card as Markdown."""
    columns = ("E MAE", "E RMSE", "F MAE", "F RMSE", "S MAE", "baseline E", "published")
    table = [
        "| " + " | ".join(("held-out set", "structures", *columns)) + " |",
        "|---" * (2 + len(columns)) + "|",
        *(row(*result) for result in results),
    ]
    ended = json.loads((run / "result.json").read_text())
    return Template(TEMPLATE.read_text()).substitute(
        table="\n".join(table),
        parameters=f"{sum(p.numel() for p in unit.potential.parameters()):,}",
        steps=ended["steps"],
        minutes=f"{ended['seconds_of_last_session'] / 60:.0f}",
    )


def row(held: HeldOut, result: Evaluation, earlier: Evaluation | None) -> str:
    """Write one line of the table."""
    cells = [held.title, str(result.num_structures)]
    for name in ("energy_per_atom", "forces"):
        errors = getattr(result.overall, name)
        if errors is None:
            cells += ["-", "-"]
            continue
        before = None if earlier is None else getattr(earlier.overall, name)
        note = "" if before is None else f" ({1000 * before.rmse:.3g})"
        cells += [f"{1000 * errors.mae:.3g}", f"{1000 * errors.rmse:.3g}{note}"]
    stress = result.overall.stress
    cells.append("-" if stress is None else f"{1000 * stress.mae:.3g}")
    baseline = result.baseline_rmse
    cells.append("-" if baseline is None else f"{1000 * baseline:.3g}")
    return "| " + " | ".join([*cells, held.published or "-"]) + " |"


if __name__ == "__main__":
    main()
