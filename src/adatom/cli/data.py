"""``adatom data``: describe, check, split and convert labelled data."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from adatom.core.console import ProgressBar
    from adatom.data.doctor import Finding
    from adatom.data.statistics import DatasetStatistics, Spread
    from adatom.data.structure_dataset import StructureDataset

#: From this many structures on, reading shows its progress.
_MANY = 2000

_SHOWN_SIDS = 5


def main(arguments: list[str]) -> None:
    """Run ``adatom data <stats|check|split|convert>``."""
    from adatom.cli.arguments import run_functions

    verbs: dict[str, Callable[..., None]] = {
        "stats": stats,
        "check": check,
        "split": split,
        "convert": convert,
    }
    run_functions(verbs, arguments, "adatom data")


def stats(
    data: list[str],
    *,
    dataset: str = "default",
    label_keys: dict[str, str] | None = None,
    units: dict[str, str] | None = None,
    key_map: dict[str, str] | None = None,
    index: str | None = None,
    json: str | None = None,
) -> None:
    """Describe a dataset: counts, elements, labels, energies, forces, distances, cells.

    Args:
        data: Files or folders of one level of theory.
        dataset: Name of the level of theory.
        label_keys: From label (energy, forces, stress, virial) to the key that holds it.
        units: From quantity (length, energy, forces, stress) to its unit in the file.
        key_map: Where charge, spin, tags and so on are kept.
        index: Selection in each file, such as "::10".
        json: Write the numbers to this file, too.
    """
    from dataclasses import asdict

    from adatom.core.files import require_writable
    from adatom.data.statistics import statistics_of
    from adatom.data.survey import survey

    if json:
        require_writable(json)
    how: dict[str, Any] = {"label_keys": label_keys, "units": units, "key_map": key_map}
    systems = _open(data, dataset=dataset, index=index, **how)
    with _progress(len(systems)) as bar:
        numbers = statistics_of(survey(systems, advance=bar.advance if bar else None))
    _print_statistics(systems, numbers)
    if json:
        _write_json(json, {"data": systems.fingerprint(), "statistics": asdict(numbers)})


def check(
    data: list[str],
    *,
    others: dict[str, str] | None = None,
    dataset: str = "default",
    label_keys: dict[str, str] | None = None,
    units: dict[str, str] | None = None,
    key_map: dict[str, str] | None = None,
    index: str | None = None,
    json: str | None = None,
) -> None:
    """Examine a dataset before training on it; exit code 1 if something is wrong.

    Looks at label coverage, net forces, outliers, duplicates and leaks into other splits,
    distances, cells, and whether energies, forces and stresses agree in sign and unit.

    Args:
        data: Files or folders of one level of theory.
        others: Other splits by name, such as --others.test test.xyz, searched for repetitions.
        dataset: Name of the level of theory.
        label_keys: From label (energy, forces, stress, virial) to the key that holds it.
        units: From quantity (length, energy, forces, stress) to its unit in the file.
        key_map: Where charge, spin, tags and so on are kept.
        index: Selection in each file, such as "::10".
        json: Write statistics and findings to this file, too.

    Raises:
        SystemExit: With code 1, if there are findings of severity error.
    """
    from dataclasses import asdict

    from adatom.core.files import require_writable
    from adatom.data.doctor.context import Context
    from adatom.data.doctor.registry import check_context
    from adatom.data.statistics import statistics_of

    if json:
        require_writable(json)
    how: dict[str, Any] = {"label_keys": label_keys, "units": units, "key_map": key_map}
    systems = _open(data, dataset=dataset, index=index, **how)
    splits = {name: _open([path], dataset=dataset, **how) for name, path in (others or {}).items()}
    with _progress(len(systems) + sum(map(len, splits.values()))) as bar:
        context = Context.of(systems, splits, advance=bar.advance if bar else None)
        findings = check_context(context)
    numbers = statistics_of(context.survey)
    _print_statistics(systems, numbers)
    _print_findings(findings)
    if json:
        _write_json(
            json,
            {
                "data": systems.fingerprint(),
                "statistics": asdict(numbers),
                "findings": [asdict(finding) for finding in findings],
            },
        )
    if any(finding.severity == "error" for finding in findings):
        raise SystemExit(1)


def split(
    data: list[str],
    *,
    output: str = "split.json",
    method: Literal["random", "group", "composition", "trajectory"] = "random",
    fractions: dict[str, float] | None = None,
    group_key: str | None = None,
    gap: int = 0,
    seed: int = 0,
    index: str | None = None,
) -> None:
    """Divide a dataset into parts and save the indices with the hash of the data.

    Args:
        data: Files or folders.
        output: JSON file with the indices.
        method: At random; by group or composition (kept together); by trajectory (contiguous
            blocks).
        fractions: Share of each part; default train 0.8, val 0.1, test 0.1.
        group_key: Key of the structures that names their group or trajectory.
        gap: Structures left out between the blocks of a trajectory.
        seed: Of the shuffle.
        index: Selection in each file, such as "::10".
    """
    from adatom.core.console import print_table
    from adatom.core.files import require_writable
    from adatom.data.split import save_split, split_indices

    require_writable(output)
    shares = fractions or {"train": 0.8, "val": 0.1, "test": 0.1}
    systems = _open(data, label_keys={}, index=index)
    groups = (
        None if group_key is None else [_group(systems, i, group_key) for i in range(len(systems))]
    )
    parts = split_indices(systems, shares, method=method, groups=groups, seed=seed, gap=gap)
    recipe: dict[str, Any] = {"method": method, "fractions": shares, "seed": seed, "gap": gap}
    recipe |= {"group_key": group_key, "index": index}
    save_split(output, parts, source=systems.fingerprint(), recipe=recipe)
    print_table(
        f"Split of {systems.path} ({method}), written to {output}",
        ["part", "structures", "share"],
        [[name, len(rows), len(rows) / len(systems)] for name, rows in parts.items()],
    )


def convert(
    data: list[str],
    output: str,
    *,
    dataset: str = "default",
    label_keys: dict[str, str] | None = None,
    units: dict[str, str] | None = None,
    key_map: dict[str, str] | None = None,
    index: str | None = None,
    workers: int | None = None,
    strict: bool = False,
) -> None:
    """Write structures and their labels to one file of another format, in eV and angstrom.

    The new file is there when it is complete, never before. Structures that are not usable are
    left out and listed, with the reasons, in OUTPUT.rejected.json.

    Args:
        data: Files or folders of one level of theory.
        output: Ends in .extxyz, .xyz (also with .xz, .gz or .bz2), .db, .aselmdb or .npz.
        dataset: Name of the level of theory.
        label_keys: From label (energy, forces, stress, virial) to the key that holds it.
        units: From quantity (length, energy, forces, stress) to its unit in the file.
        key_map: Where charge, spin, tags and so on are kept.
        index: Selection in each file, such as "::10".
        workers: Processes that read and encode; null takes one per core, 0 none but this one.
        strict: Stop at the first structure that is not usable, and write nothing.
    """
    import os

    from adatom.core.console import progress, say, show
    from adatom.core.errors import ConfigError
    from adatom.data.conversion import convert_dataset
    from adatom.data.open_dataset import open_dataset
    from adatom.data.sinks import find_sink

    if workers is not None and workers < 0:
        raise ConfigError(f"workers is {workers}", expected="0 or more")
    find_sink(Path(output))
    how: dict[str, Any] = {"label_keys": label_keys, "units": units, "key_map": key_map}
    systems = open_dataset(data, dataset=dataset, index=index, lazy=True, **how)
    # Processes take a moment to start, in which this one converts a few hundred structures.
    few = len(systems) < _MANY
    count = workers if workers is not None else 0 if few else os.cpu_count() or 1
    with progress("Converting", len(systems)) as bar:
        done = convert_dataset(systems, output, workers=count, strict=strict, advance=bar.advance)
    show(f"{done.written} structures written to {output}")
    for one in done.rejected[:_SHOWN_SIDS]:
        say(f"Rejected {one.name}: {one.reason}")
    if done.rejected:
        say(f"{len(done.rejected)} structures were rejected; see {done.list_of_rejected}")


def _open(
    data: list[str],
    *,
    dataset: str = "default",
    label_keys: Mapping[str, str] | None = None,
    units: Mapping[str, str] | None = None,
    key_map: Mapping[str, str] | None = None,
    index: str | None = None,
) -> StructureDataset:
    from adatom.data.open_dataset import open_dataset

    return open_dataset(
        data, dataset=dataset, label_keys=label_keys, units=units, key_map=key_map, index=index
    )


def _group(systems: StructureDataset, i: int, key: str) -> str:
    from adatom.core.errors import DataError, did_you_mean

    info = systems.info(i)
    if key not in info:
        raise DataError(
            f"Structure {systems[i].sid[0]!r} has no {key!r}{did_you_mean(key, info)}",
            expected=f"one of the keys that are there: {', '.join(sorted(info)) or '(none)'}",
        )
    return str(info[key])


def _progress(count: int) -> Any:
    from adatom.core.console import progress

    nothing: ProgressBar | None = None
    return progress("Reading", count) if count >= _MANY else nullcontext(nothing)


def _print_statistics(systems: StructureDataset, numbers: DatasetStatistics) -> None:
    from adatom.core.console import print_table

    elements = ", ".join(f"{name} {atoms}" for name, (_, atoms) in numbers.elements.items())
    rows: list[list[object]] = [
        ["structures", numbers.num_structures],
        ["atoms", numbers.num_atoms],
        ["atoms of each element", elements],
        ["compositions", numbers.num_compositions],
        ["labels", _counts(numbers.labels) or "none"],
        ["periodic axes", _counts(numbers.pbc)],
        ["charges", _counts(numbers.charges)],
        ["spin multiplicities (0: not given)", _counts(numbers.spins)],
        ["atoms held fixed", numbers.num_fixed_atoms],
    ]
    if not math.isnan(numbers.force_rms):
        rows.append(["force RMS, free atoms (eV/angstrom)", numbers.force_rms])
    print_table(f"Dataset {systems.path}", ["quantity", "value"], rows)
    spreads: list[tuple[str, Spread]] = [
        ("atoms per structure", numbers.atoms_per_structure),
        ("energy (eV/atom)", numbers.energy_per_atom),
        ("energy less element references (eV/atom)", numbers.residual_per_atom),
        ("largest force (eV/angstrom)", numbers.force_max),
        ("|sum of forces| (eV/angstrom)", numbers.net_force),
        ("pressure (eV/angstrom^3)", numbers.pressure),
        ("shortest distance (angstrom)", numbers.shortest_distance),
        ("volume per atom (angstrom^3)", numbers.volume_per_atom),
        ("density (g/cm^3)", numbers.density),
    ]
    print_table(
        None,
        ["per structure", "min", "median", "mean", "max", "std"],
        [[n, s.min, s.median, s.mean, s.max, s.std] for n, s in spreads if not math.isnan(s.mean)],
    )


def _counts(counts: Mapping[Any, int]) -> str:
    return ", ".join(f"{name}: {count}" for name, count in counts.items())


def _print_findings(findings: list[Finding]) -> None:
    from adatom.core.console import show

    if not findings:
        show("Nothing suspicious was found.")
    for finding in findings:
        show(f"{finding.severity.upper():<8}{finding.code}: {finding.message}")
        show(f"        fix: {finding.fix}")
        if finding.sids:
            more = len(finding.sids) - _SHOWN_SIDS
            names = ", ".join(finding.sids[:_SHOWN_SIDS])
            show(f"        structures: {names}" + (f" and {more} more" if more > 0 else ""))


def _write_json(path: str, document: Mapping[str, Any]) -> None:
    import json

    from adatom.core.files import atomic_write

    with atomic_write(Path(path)) as part:
        text = json.dumps(_without_nan(document), indent=1, allow_nan=False)
        part.write_text(text + "\n", encoding="utf-8")


def _without_nan(value: Any) -> Any:
    """Return ``value`` with NaN as null, which is all that JSON knows."""
    if isinstance(value, Mapping):
        return {str(key): _without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
