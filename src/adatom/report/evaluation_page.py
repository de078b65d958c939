"""The page of an evaluation: errors, parity plots, distributions, learning curves."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adatom.report.page import Page
from adatom.report.plots import error_histogram, lines, parity

Array = NDArray[np.float64]

#: meV for reading; the JSON keeps eV.
MILLI = 1000.0


def write_evaluation_page(
    path: str | os.PathLike[str],
    results: Mapping[str, Any],
    pairs: Mapping[str, Array],
    *,
    energy_groups: Sequence[str] = (),
    curves: Mapping[str, tuple[Array, Array]] | None = None,
    footer: str = "",
) -> None:
    """Write the report.

    Args:
        path: The HTML file.
        results: ``Evaluation.to_json()``.
        pairs: ``energy [n, 2]`` eV per atom, ``forces [m, 2, 3]``, ``stress [s, 2, 9]``; each
            (predicted, reference).
        energy_groups: ``[n]`` names that colour the energy plot.
        curves: Learning curves by column name, (step, value).
        footer: Small print, such as the command.

    Raises:
        FileAccessError: If ``path`` cannot be written.
    """
    page = Page(
        f"{results['model']} on {results['data']}",
        f"{results['num_structures']} structures, {results['num_atoms']} atoms",
    )
    overall = results["overall"]
    page.cards(_cards(overall, results["baseline_rmse"]))
    page.section("Errors")
    page.table(COLUMNS, [["all", *error_row(overall)]])
    if results["baseline_rmse"] is not None:
        page.paragraph(
            "For comparison, element references alone (a linear model in the composition) have an "
            f"energy RMSE of {MILLI * results['baseline_rmse']:.4g} meV/atom."
        )
    _parity_section(page, pairs, energy_groups)
    _group_section(page, "By configuration type", results["by_group"])
    _element_section(page, results["by_element"])
    if curves:
        _curves_section(page, curves)
    if results["worst"]:
        page.section("Largest errors", "Structures to look at first.")
        keys = list(results["worst"][0])
        page.table(keys, [[row[key] for key in keys] for row in results["worst"]])
    page.write(path, footer)


#: Headings of the error tables.
COLUMNS = (
    "",
    "E MAE (meV/atom)",
    "E RMSE (meV/atom)",
    "F MAE (meV/Å)",
    "F RMSE (meV/Å)",
    "|ΔF| mean (meV/Å)",
    "F cosine",
    "stress MAE (meV/Å³)",
    "stress RMSE (meV/Å³)",
)


def error_row(errors: Mapping[str, Any]) -> list[float | None]:
    """Return the numbers below ``COLUMNS[1:]``, from ``asdict(Errors)``; None where unlabelled."""

    def milli(name: str, measure: str) -> float | None:
        return None if errors[name] is None else MILLI * errors[name][measure]

    return [
        milli("energy_per_atom", "mae"),
        milli("energy_per_atom", "rmse"),
        milli("forces", "mae"),
        milli("forces", "rmse"),
        milli("force_vectors", "mae"),
        errors["force_cosine"],
        milli("stress", "mae"),
        milli("stress", "rmse"),
    ]


def _cards(overall: Mapping[str, Any], baseline: float | None) -> list[tuple[str, str, str]]:
    cards = []
    for name, label, unit in (
        ("energy_per_atom", "energy RMSE", "meV/atom"),
        ("forces", "force RMSE", "meV/Å"),
        ("stress", "stress RMSE", "meV/Å³"),
    ):
        if overall[name] is not None:
            cards.append((label, f"{MILLI * overall[name]['rmse']:.3g}", unit))
    energy, forces = overall["energy_per_atom"], overall["forces"]
    if energy is not None and baseline is not None and energy["rmse"] > 0:
        ratio = f"{baseline / energy['rmse']:.3g}"
        cards.append(("better in energy than element references alone", ratio, "times"))
    if forces is not None and forces["rmse"] > 0:
        ratio = f"{forces['reference_rms'] / forces['rmse']:.3g}"
        cards.append(("better in forces than predicting zero", ratio, "times"))
    return cards


def _parity_section(page: Page, pairs: Mapping[str, Array], groups: Sequence[str]) -> None:
    page.section("Predicted against reference")
    pictures = []
    for name, label, unit in (
        ("energy", "energy", "eV/atom"),
        ("forces", "force component", "eV/Å"),
        ("stress", "stress component", "eV/Å³"),
    ):
        values = pairs[name]
        if len(values):
            predicted, reference = values[:, 0].ravel(), values[:, 1].ravel()
            colored = groups if name == "energy" and len(set(groups)) <= 6 else ()
            pictures.append(
                (
                    parity(reference, predicted, label=label, unit=unit, groups=colored),
                    f"Predicted against reference {label}",
                )
            )
            pictures.append(
                (
                    error_histogram(MILLI * (predicted - reference), label=label, unit="m" + unit),
                    f"Distribution of the errors: {label}",
                )
            )
    page.figures(pictures)


def _group_section(page: Page, heading: str, groups: Mapping[str, Any]) -> None:
    if groups:
        page.section(heading)
        page.table(COLUMNS, [[name, *error_row(errors)] for name, errors in groups.items()])


def _element_section(page: Page, elements: Mapping[str, Any]) -> None:
    if not elements:
        return
    page.section("Forces by element")
    rows = [
        [name, errors["forces"]["count"] // 3, *error_row(errors)[2:6]]
        for name, errors in elements.items()
    ]
    page.table(["", "atoms", *COLUMNS[3:7]], rows)


def _curves_section(page: Page, curves: Mapping[str, tuple[Array, Array]]) -> None:
    page.section("Learning curves")
    families: dict[str, dict[str, tuple[Array, Array]]] = {}
    for name, curve in curves.items():
        families.setdefault(name.split("/")[-1], {})[name] = curve
    page.figures(
        [
            (
                lines(
                    family,
                    xlabel="optimizer step",
                    ylabel=name.replace("_", " "),
                    log=all(bool((y > 0).all()) for _, y in family.values()),
                ),
                name.replace("_", " "),
            )
            for name, family in families.items()
        ]
    )
