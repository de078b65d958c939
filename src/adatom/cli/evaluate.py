"""``adatom evaluate MODEL DATA -o report.html``: errors on labelled data, and a report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adatom.cli.arguments import run_function

if TYPE_CHECKING:
    from adatom.evaluate import Evaluation


def main(arguments: list[str]) -> None:
    """Run the verb."""
    run_function(evaluate_model, arguments, "adatom evaluate")


def evaluate_model(
    model: str,
    data: str,
    *,
    output: str = "report.html",
    task: str | None = None,
    label_keys: dict[str, str] | None = None,
    units: dict[str, str] | None = None,
    group_key: str | None = None,
    run_directory: str | None = None,
    device: str = "cpu",
) -> None:
    """Measure a potential on labelled structures and write a report.

    Args:
        model: Checkpoint file, or the name of a known potential such as "default".
        data: Labelled structures, in any format that adatom reads.
        output: The HTML page; the numbers are written beside it as JSON.
        task: Dataset of the potential that the labels belong to; needed if it has several.
        label_keys: Where the labels are, such as {"energy": "REF_energy"}.
        units: Units of the labels if not eV and angstrom, such as {"energy": "hartree"}.
        group_key: Info key of the configuration type (default: config_type or group, if present).
        run_directory: Training run whose learning curves are shown.
        device: Where to compute.
    """
    from adatom.core.files import require_writable
    from adatom.data import open_dataset
    from adatom.evaluate import evaluate
    from adatom.evaluate.groups import configuration_groups
    from adatom.inference.predict_unit import MLIPPredictUnit
    from adatom.report.learning_curves import read_learning_curves

    require_writable(output)
    curves = read_learning_curves(run_directory) if run_directory else None
    unit = MLIPPredictUnit.load(model, device=device)
    systems = open_dataset(
        data, dataset=unit.resolve_task(task), label_keys=label_keys, units=units
    )
    groups = configuration_groups(systems, group_key)
    result = evaluate(unit, systems, model=_title(model), data=Path(data).name, groups=groups)
    _write(result, Path(output), groups, curves, command=f"adatom evaluate {model} {data}")


def _title(model: str) -> str:
    """Name a model by its file, or by its run where the file is just the best or last one."""
    path = Path(model)
    return path.absolute().parent.name if path.stem in ("best", "last") else path.stem


def _write(
    result: Evaluation,
    output: Path,
    groups: list[str] | None,
    curves: dict[str, Any] | None,
    command: str,
) -> None:
    from adatom import __version__
    from adatom.core.console import print_table, say
    from adatom.core.files import atomic_write
    from adatom.report.evaluation_page import COLUMNS, error_row, write_evaluation_page

    numbers = result.to_json()
    write_evaluation_page(
        output,
        numbers,
        {name: getattr(result.pairs, name) for name in ("energy", "forces", "stress")},
        energy_groups=[groups[i] for i in result.pairs.energy_structure] if groups else (),
        curves=curves,
        footer=f"{command} · adatom {__version__}",
    )
    beside = output.with_suffix(".json")
    with atomic_write(beside) as part:
        part.write_text(json.dumps(numbers, indent=2) + "\n", encoding="utf-8")
    rows = [["all", *error_row(numbers["overall"])]]
    rows += [[name, *error_row(errors)] for name, errors in numbers["by_group"].items()]
    print_table(None, COLUMNS, rows)
    say(f"Wrote {output} and {beside}.")
