"""What a preflight found, in words and tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adatom.core.console import print_table, say
from adatom.core.quantities import duration, memory_size


def say_findings(found: Mapping[str, Any]) -> None:
    """Write the essence to standard error, as a run begins.

    Args:
        found: What ``preflight.json`` holds.
    """
    parts = {row["part"]: row for row in found["parameters"]}
    total = parts["all"]
    frozen = f", {total['frozen']} of them frozen" if total["frozen"] else ""
    expected = found["forecast"]
    peak = expected["peak_bytes"]
    memory = f"; memory up to about {memory_size(peak)}" if peak is not None else ""
    say(
        f"Preflight: {total['parameters']} parameters{frozen}; about "
        f"{duration(expected['step_seconds'])} per step, {duration(expected['epoch_seconds'])} per "
        f"epoch, {duration(expected['run_seconds'])} in all{memory}."
    )
    for sentence in _remarks(found):
        say(sentence)


def show_findings(found: Mapping[str, Any]) -> None:
    """Print everything as tables to standard output.

    Args:
        found: What ``preflight.json`` holds.
    """
    parameters, labels = found["parameters"], found["labels"]
    heads = [name.replace("_", " ") for name in parameters[0]]
    print_table("Parameters", heads, [list(row.values()) for row in parameters])
    print_table("Training structures", list(labels[0]), [list(row.values()) for row in labels])
    first, expected = found["first_batch"], found["forecast"]
    rows: list[tuple[str, object]] = [
        (f"loss of {name}", value) for name, value in first["losses"].items()
    ]
    rows.append(("size", f"{len(first['structures'])} structures, {first['atoms']} atoms"))
    rows.append(("time", duration(first["seconds"])))
    print_table("First batch", ("", ""), rows)
    rows = [(name, duration(expected[f"{name}_seconds"])) for name in ("step", "epoch", "run")]
    if expected["peak_bytes"] is not None:
        rows.append(("memory", memory_size(expected["peak_bytes"])))
    if expected["available_bytes"] is not None:
        rows.append(("memory of the device", memory_size(expected["available_bytes"])))
    print_table("Forecast, without validations", ("", "about"), rows)
    for sentence in _remarks(found):
        say(sentence)


def _remarks(found: Mapping[str, Any]) -> list[str]:
    """Return sentences about what the user should know, if there is anything."""
    out = []
    missing = [
        f"{count} of {row['structures']} structures of {row['dataset']!r} {what}"
        for row in found["labels"]
        for what, count in row.items()
        if what.startswith("without ") and count
    ]
    if missing:
        out.append(f"Missing labels are left out of the loss: {'; '.join(missing)}.")
    if found["losses_without_labels_so_far"]:
        names = ", ".join(found["losses_without_labels_so_far"])
        out.append(f"No label of {names} was in the first batches.")
    unreached = found["parameters_without_gradient"]
    if unreached:
        more = f" and {len(unreached) - 3} more" if len(unreached) > 3 else ""
        out.append(f"The loss does not depend on: {', '.join(unreached[:3])}{more}.")
    peak, available = (found["forecast"][k] for k in ("peak_bytes", "available_bytes"))
    if peak is not None and available is not None and peak > 0.9 * available:
        out.append(
            f"Warning: the largest batch may need {memory_size(peak)} of {memory_size(available)} "
            "of memory. Lower data.max_atoms or data.max_edges if it does not fit."
        )
    return out
