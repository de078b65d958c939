"""The page of a training: what was trained on what, how it went, how good it became."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adatom.core.quantities import duration, memory_size
from adatom.report.page import Page, format_cell
from adatom.report.plots import lines

Array = NDArray[np.float64]
Curves = Mapping[str, tuple[Array, Array]]

#: Milliunits for reading, by the property that a result is about.
_UNITS = {
    "energy": "meV",
    "energy_per_atom": "meV/atom",
    "relaxed_energy": "meV",
    "forces": "meV/Å",
    "stress": "meV/Å³",
}
_MILLI = 1000.0

#: Measures in the unit of their property; the others are ratios or loss values.
_ERRORS = ("mae", "rmse", "magnitude_error")

#: Sections of ``run`` in words.
_PARTS = {"train": "training", "val": "validation", "test": "test", "predict": "prediction"}


def write_training_page(
    path: str | os.PathLike[str],
    run: Mapping[str, Any],
    curves: Curves,
    *,
    config: str = "",
    footer: str = "",
) -> None:
    """Write the report of a training.

    Args:
        path: The HTML file.
        run: ``name``, and by the name of the file in the run directory ``result``, ``versions``,
            ``data`` and ``preflight``; any of them may be missing.
        curves: Every column of ``metrics.csv`` as (step, value).
        config: The resolved configuration as text.
        footer: Small print.

    Raises:
        FileAccessError: If ``path`` cannot be written.
    """
    result = run.get("result") or {}
    page = Page(f"Training of {run['name']}", _ending(result))
    best = {k: v for k, v in (result.get("best") or {}).items() if k.startswith("val/")}
    page.cards(_cards(best, result))
    if best:
        page.section("Validation errors by dataset", _of_which(result["best"]))
        columns, rows = error_table(best)
        page.table(columns, rows)
    _curve_sections(page, curves)
    if run.get("preflight"):
        _preflight_section(page, run["preflight"])
    if run.get("data"):
        _data_section(page, run["data"])
    if config:
        page.section("Configuration")
        page.code(config)
    if run.get("versions"):
        page.section("Versions")
        page.table(["", ""], list(run["versions"].items()))
    page.write(path, footer)


def error_table(results: Mapping[str, float]) -> tuple[list[str], list[list[object]]]:
    """Arrange ``val/[<dataset>/]<property>_<measure>`` as one row per dataset.

    Args:
        results: In eV and angstrom.

    Returns:
        Headings and rows; errors in meV, cells without a result are None.
    """
    columns: dict[str, str] = {}
    rows: dict[str, dict[str, float]] = {}
    for name, value in results.items():
        dataset, measure = _dataset_and_measure(name)
        if _is_loss(measure):
            continue
        heading, factor = _heading(measure)
        columns[measure] = heading
        rows.setdefault(dataset, {})[measure] = factor * value
    table: list[list[object]] = [
        [dataset or "all", *(row.get(measure) for measure in columns)]
        for dataset, row in rows.items()
    ]
    return ["dataset", *columns.values()], table


def _dataset_and_measure(name: str) -> tuple[str, str]:
    dataset, _, measure = name.split("/", 1)[1].rpartition("/")
    return dataset, measure


def _heading(measure: str) -> tuple[str, float]:
    for prop in sorted(_UNITS, key=len, reverse=True):
        rest = measure.removeprefix(f"{prop}_")
        if rest != measure:
            unit = _UNITS[prop]
            if rest.removeprefix("per_atom_") != rest:
                rest, unit = rest.removeprefix("per_atom_"), f"{unit}/atom"
            if rest in _ERRORS:
                words = rest.replace("_", " ") if "_" in rest else rest.upper()
                return f"{prop.replace('_', ' ')} {words} ({unit})", _MILLI
    return measure.replace("_", " "), 1.0


def _ending(result: Mapping[str, Any]) -> str:
    if not result:
        return "not finished"
    return f"{result['reason']}, {result['epochs']} epochs, {result['steps']} steps"


def _of_which(best: Mapping[str, Any]) -> str:
    return (
        f"Averaged weights after epoch {best['epoch']:.0f}, step {best['step']:.0f}: what "
        "best.safetensors holds."
    )


def _cards(best: Mapping[str, float], result: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    cards = []
    if "val/loss" in best:
        cards.append(("best validation loss", f"{best['val/loss']:.4g}", ""))
    for measure, label, unit in (
        ("energy_per_atom_mae", "energy MAE", "meV/atom"),
        ("forces_mae", "force MAE", "meV/Å"),
    ):
        found = [v for k, v in best.items() if _dataset_and_measure(k)[1] == measure]
        if found:
            worst = f", worst of {len(found)} datasets" if len(found) > 1 else ""
            cards.append((label + worst, f"{_MILLI * max(found):.3g}", unit))
    if "steps" in result:
        cards.append(("optimizer steps", str(result["steps"]), ""))
    if "seconds_of_last_session" in result:
        value, unit = duration(result["seconds_of_last_session"]).split()
        cards.append(("last session", value, unit))
    return cards


def _curve_sections(page: Page, curves: Curves) -> None:
    losses = {k: v for k, v in curves.items() if k in ("train/loss", "val/loss")}
    of_terms = {k: v for k, v in curves.items() if k.startswith("train/") and k.endswith("_loss")}
    if losses:
        page.section("Losses", "Training values are those of single steps, before the average.")
        pictures = [(_drawn(losses, "loss"), "Training and validation loss")]
        if of_terms:
            pictures.append((_drawn(of_terms, "loss by term"), "Terms of the training loss"))
        page.figures(pictures)
    families: dict[str, dict[str, tuple[Array, Array]]] = {}
    for name, (step, value) in curves.items():
        dataset, measure = _dataset_and_measure(name)
        if name.startswith("val/") and not _is_loss(measure):
            heading, factor = _heading(measure)
            families.setdefault(heading, {})[dataset or "all"] = (step, factor * value)
    if families:
        page.section("Validation errors over the training")
        page.figures([(_drawn(family, name), name) for name, family in families.items()])
    others = {
        k: v for k, v in curves.items() if k not in losses | of_terms and k.startswith("train/")
    }
    if others:
        page.section("The training itself")
        short = {name.removeprefix("train/").replace("_", " "): c for name, c in others.items()}
        page.figures([(_drawn({name: curve}, name), name) for name, curve in short.items()])


def _is_loss(measure: str) -> bool:
    return measure == "loss" or measure.endswith("_loss")


def _drawn(family: Curves, label: str) -> str:
    positive = all(bool((y > 0.0).all()) for _, y in family.values())
    return lines(family, xlabel="optimizer step", ylabel=label, log=positive)


def _preflight_section(page: Page, found: Mapping[str, Any]) -> None:
    page.section("Before the first step", "Measured on the first batch; an estimate for the rest.")
    parameters = found.get("parameters") or []
    if parameters:
        page.table(list(parameters[0]), [list(row.values()) for row in parameters])
    labels = found.get("labels") or []
    if labels:
        page.table(list(labels[0]), [list(row.values()) for row in labels])
    page.table(["", "about"], [_forecast_row(*item) for item in found["forecast"].items()])


def _forecast_row(name: str, value: float | None) -> tuple[str, str]:
    what, _, unit = name.rpartition("_")
    if value is not None and unit == "seconds":
        return f"time of a {what}", duration(value)
    if value is not None and unit == "bytes":
        return f"{what} memory", memory_size(value)
    return name.replace("_", " "), format_cell(value)


def _data_section(page: Page, data: Mapping[str, Any]) -> None:
    counts = data.get("count") or {}
    numbers = [f"{n} {_PARTS.get(part, part)}" for part, n in counts.items()]
    page.section("Data", f"Structures: {', '.join(numbers)}." if numbers else "")
    rows: list[dict[str, Any]] = []
    for part, sources in data.items():
        if part in _PARTS and isinstance(sources, Sequence):
            rows += [{"part": _PARTS[part], **_plain(source)} for source in sources]
    columns = list(dict.fromkeys(key for row in rows for key in row))
    page.table(columns, [[row.get(key) for key in columns] for row in rows])


def _plain(source: Mapping[str, Any]) -> dict[str, Any]:
    """Return what fits into a cell; lists are counted."""
    out: dict[str, Any] = {}
    for key, value in source.items():
        if isinstance(value, str):
            out[key] = value if len(value) <= 64 else f"{value[:61]}..."
        elif isinstance(value, (int, float)) or value is None:
            out[key] = value
        elif isinstance(value, Sequence):
            names = [str(v.get("name", v)) if isinstance(v, Mapping) else str(v) for v in value]
            text = ", ".join(names)
            out[key] = text if len(text) <= 64 else f"{len(value)} entries"
    return out
