"""``docs/model-zoo.md``: the tables, the plot beside it, and where the figures come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from adatom.core.files import atomic_write
from adatom.report.model_zoo import ZooPanel, ZooPoint, zoo_plot
from benchmarks.records import markdown_table
from benchmarks.zoo_sets import ZooSet

#: From the key of an error to its heading and a factor.
_HEADINGS: Mapping[str, Mapping[str, tuple[str, float]]] = {
    "energy": {
        "energy_mae": ("E MAE (meV/atom)", 1.0),
        "forces_mae": ("F MAE (meV/Å)", 1.0),
        "forces_cosine": ("F cosine", 1.0),
        "both_within": ("EFwT (%)", 100.0),
    },
    "relaxed_energy": {
        "energy_mae": ("E MAE (eV)", 1.0),
        "energy_within": ("EwT (%)", 100.0),
    },
}
#: Which of them is plotted.
_PLOTTED = {"energy": "forces_mae", "relaxed_energy": "energy_mae"}

_INTRODUCTION = """# Model zoo

What each network learns from the same real structures with the same budget, trained through
`adatom s2ef fit` and `adatom is2re fit` with a configuration that differs in `model.backbone` and
the learning rate. Minutes on one core are no race: they tell which networks learn fast, not which
are best in the end. The linear baseline is one energy per element, fitted to the same training
structures, and no forces.

![Errors against parameters and against the time of a prediction]({plot})

Errors are those of the averaged weights at the end; nothing was chosen by them. EwT: energy of the
structure within 0.02 eV; EFwT: that, and every force component within 0.03 eV/Å. Time: energy and
forces (IS2RE: relaxed energy) of one test structure with the default settings, neighbor search
included, on one core.

The sizes are in `benchmarks/zoo_models.py`. This page is made by

```sh
{command}
```

which writes into `runs/zoo`, goes on where it was interrupted, and does not train again what is
done. `--seconds` or `--structures` set the budget.
"""


def write_page(
    page: Path,
    sets: Mapping[str, ZooSet],
    results: Mapping[str, Mapping[str, Mapping[str, Any]]],
    command: str,
) -> None:
    """Write the page and its plot.

    Args:
        page: The Markdown file; the plot lies beside it with the ending ``.png``.
        sets: By task.
        results: By task and name of the backbone, as stored.
        command: That made them.
    """
    baselines = {
        task: {name: zoo_set.baseline(path) for name, path in zoo_set.tests.items()}
        for task, zoo_set in sets.items()
    }
    panels = [_panel(sets[task], baselines[task], results[task]) for task in sets]
    plot = page.with_suffix(".png")
    with atomic_write(plot) as part:
        part.write_bytes(zoo_plot(panels))
    parts = [_INTRODUCTION.format(plot=plot.name, command=command)]
    parts += [_section(sets[task], baselines[task], results[task]) for task in sets]
    with atomic_write(page) as part:
        part.write_text("\n".join(parts), encoding="utf-8")


def _panel(
    zoo_set: ZooSet,
    baseline: Mapping[str, Mapping[str, float]],
    results: Mapping[str, Mapping[str, Any]],
) -> ZooPanel:
    first, key = next(iter(zoo_set.tests)), _PLOTTED[zoo_set.label]
    points = [
        ZooPoint(name, r["parameters"], r["milliseconds"], r["errors"][first][key])
        for name, r in results.items()
    ]
    heading = _HEADINGS[zoo_set.label][key][0]
    return ZooPanel(zoo_set.title, f"{heading}, {first}", baseline[first][key], points)


def _section(
    zoo_set: ZooSet,
    baseline: Mapping[str, Mapping[str, float]],
    results: Mapping[str, Mapping[str, Any]],
) -> str:
    headings = _HEADINGS[zoo_set.label]
    columns = ["network", "parameters", "structures seen", "trained structures/s", "ms"]
    columns += [f"{head}, {test}" for test in zoo_set.tests for head, _ in headings.values()]
    rows = [["linear baseline", None, None, None, None, *_cells(zoo_set, baseline)]]
    for name, r in results.items():
        facts = [r["structures_per_second"], r["milliseconds"]]
        errors = _cells(zoo_set, r["errors"])
        rows.append([name, r["parameters"], r["structures_seen"], *facts, *errors])
    facts = [
        f"- {name.replace('_', ' ')}: {'; '.join(dict.fromkeys(r[name] for r in results.values()))}"
        for name in ("budget", "date", "machine", "load", "commit", "torch")
    ]
    parts = [
        f"## {zoo_set.title}",
        zoo_set.description,
        markdown_table(columns, rows),
        "\n".join(facts),
    ]
    return "\n\n".join(parts) + "\n"


def _cells(zoo_set: ZooSet, errors: Mapping[str, Mapping[str, float]]) -> Sequence[float]:
    keys = _HEADINGS[zoo_set.label]
    return [
        errors[test][key] * factor for test in zoo_set.tests for key, (_, factor) in keys.items()
    ]
