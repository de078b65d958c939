"""Splits that can be repeated and checked: seeded, saved with hashes, verified when loaded."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Hashable, Mapping, Sequence
from itertools import groupby
from typing import Any, Literal, get_args

import numpy as np

from adatom.core.errors import ConfigError, DataError, unknown_name
from adatom.core.files import atomic_write, require_readable
from adatom.data.atomic_data import AtomicData

Method = Literal["random", "group", "composition", "trajectory"]
Groups = Sequence[Hashable] | Callable[[int], Hashable]

_FORMAT = "adatom-split"
_VERSION = 1


def split_indices(
    systems: Sequence[AtomicData],
    fractions: Mapping[str, float],
    *,
    method: Method = "random",
    groups: Groups | None = None,
    seed: int = 0,
    gap: int = 0,
) -> dict[str, list[int]]:
    """Divide a dataset into named parts.

    Args:
        systems: The structures; only ``composition`` looks at them.
        fractions: Name to share, such as ``{"train": 0.8, "val": 0.1, "test": 0.1}``; a sum
            below 1 leaves structures out.
        method: ``"random"``; ``"group"``: structures of one group stay together;
            ``"composition"``: structures of one reduced composition stay together;
            ``"trajectory"``: each run of consecutive structures of one group (without groups: the
            whole file) is cut into contiguous blocks in the order of ``fractions``.
        groups: The group of each structure, as a list or a function of the index.
        seed: Of the shuffle (``trajectory`` needs none).
        gap: Structures left out between the blocks of a trajectory, which are correlated.

    Returns:
        Ascending indices of each part; no index is in two of them.

    Raises:
        ConfigError: If the fractions are not positive or exceed 1, or groups are missing.
        DataError: If a part would stay empty.
        UnknownNameError: If the method is unknown.
    """
    _check_fractions(fractions)
    if method not in get_args(Method):
        raise unknown_name("split method", method, get_args(Method))
    if method == "group" and groups is None:
        raise ConfigError("Splitting by group needs the group of each structure", fix="Give groups")
    if len(systems) == 0:
        raise DataError("An empty dataset cannot be split", expected="at least one structure")
    if method == "random":
        parts = _random(len(systems), fractions, seed)
    elif method == "trajectory":
        parts = _blocks(_names(groups, len(systems)), fractions, gap)
    elif method == "group":
        parts = _grouped(_names(groups, len(systems)), fractions, seed)
    else:
        compositions = [_reduced_composition(systems[i]) for i in range(len(systems))]
        parts = _grouped(compositions, fractions, seed)
    empty = [name for name, rows in parts.items() if not rows]
    if empty:
        raise DataError(
            f"The part {empty[0]!r} of the split would be empty ({len(systems)} structures, "
            f"method {method!r})",
            fix="Give it a larger fraction, use more structures, or another method.",
        )
    return {name: sorted(rows) for name, rows in parts.items()}


def save_split(
    path: str | os.PathLike[str],
    indices: Mapping[str, Sequence[int]],
    *,
    source: Mapping[str, Any],
    recipe: Mapping[str, Any] | None = None,
) -> None:
    """Write a split as JSON, with the hash of the data and of each list of indices.

    Args:
        path: Written whole or not at all.
        indices: From :func:`split_indices`.
        source: Fingerprint of the dataset, with ``sha256`` and ``count``; see
            ``StructureDataset.fingerprint``.
        recipe: How it was made (method, seed, fractions), kept for the reader.

    Raises:
        FileAccessError: If the file cannot be written.
    """
    document = {
        "format": _FORMAT,
        "version": _VERSION,
        "recipe": dict(recipe or {}),
        "source": dict(source),
        "splits": {
            name: {"count": len(rows), "sha256": _hash(rows), "indices": [int(i) for i in rows]}
            for name, rows in indices.items()
        },
    }
    with atomic_write(path) as part:
        part.write_text(json.dumps(document) + "\n", encoding="utf-8")


def load_split(
    path: str | os.PathLike[str], *, source: Mapping[str, Any] | None = None
) -> dict[str, list[int]]:
    """Read a split and verify that nothing has changed since it was made.

    Args:
        path: Written by :func:`save_split`.
        source: Fingerprint of the dataset to which the indices shall be applied.

    Returns:
        Indices by name.

    Raises:
        FileAccessError: If the file cannot be read.
        DataError: If it is no split, was changed, or belongs to other data.
    """
    file = require_readable(path)
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        kind, version, made_of = document["format"], int(document["version"]), document["source"]
        parts = {name: part["indices"] for name, part in document["splits"].items()}
        hashes = {name: part["sha256"] for name, part in document["splits"].items()}
        count, digest = int(made_of["count"]), str(made_of["sha256"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _no_split(path) from error
    if kind != _FORMAT:
        raise _no_split(path)
    if version > _VERSION:
        raise DataError(
            f"{str(path)!r} has split format {version}",
            expected=f"{_VERSION} or less",
            fix="Update adatom.",
        )
    _verify_lists(parts, hashes, count, path)
    if source is not None and (source["sha256"], source["count"]) != (digest, count):
        raise DataError(
            f"The split {str(path)!r} was made for other data ({count} structures, sha256 "
            f"{digest[:12]}) than this ({source['count']} structures, sha256 "
            f"{str(source['sha256'])[:12]})",
            fix="Use the data it was made for, or make a new split.",
        )
    return parts


def _no_split(path: object) -> DataError:
    return DataError(
        f"{str(path)!r} is not a split of adatom",
        expected="a JSON file written by 'adatom data split'",
    )


def _verify_lists(
    parts: Mapping[str, Any], hashes: Mapping[str, Any], count: int, path: object
) -> None:
    seen: set[int] = set()
    for name, rows in parts.items():
        whole = isinstance(rows, list) and all(type(i) is int and 0 <= i < count for i in rows)
        if not whole or _hash(rows) != hashes[name]:
            raise DataError(
                f"The indices of {name!r} in {str(path)!r} do not agree with their hash",
                expected="the file as 'adatom data split' wrote it",
                fix="Make the split again.",
            )
        if len(set(rows)) < len(rows) or seen & set(rows):
            raise DataError(f"The part {name!r} in {str(path)!r} repeats indices")
        seen.update(rows)


def _hash(rows: Sequence[int]) -> str:
    return hashlib.sha256(",".join(str(int(i)) for i in rows).encode()).hexdigest()


def _check_fractions(fractions: Mapping[str, float]) -> None:
    bad = [name for name, share in fractions.items() if not share > 0.0]
    total = sum(fractions.values())
    if not fractions or bad or total > 1.0 + 1e-9:
        raise ConfigError(
            f"The fractions of the split are {dict(fractions)}",
            expected="positive numbers whose sum is at most 1",
        )


def _names(groups: Groups | None, count: int) -> list[Hashable]:
    if groups is None:
        return [None] * count
    names = [groups(i) for i in range(count)] if callable(groups) else list(groups)
    if len(names) != count:
        raise ConfigError(f"There are {len(names)} groups for {count} structures")
    return names


def _sizes(count: int, fractions: Mapping[str, float]) -> dict[str, int]:
    """Whole numbers nearest to the shares (largest remainders), with the right sum."""
    exact = {name: count * share for name, share in fractions.items()}
    sizes = {name: int(value + 1e-9) for name, value in exact.items()}
    left = round(sum(exact.values())) - sum(sizes.values())
    for name in sorted(exact, key=lambda name: sizes[name] - exact[name])[:left]:
        sizes[name] += 1
    return sizes


def _random(count: int, fractions: Mapping[str, float], seed: int) -> dict[str, list[int]]:
    order = np.random.default_rng(seed).permutation(count).tolist()
    parts, start = {}, 0
    for name, size in _sizes(count, fractions).items():
        parts[name] = order[start : start + size]
        start += size
    return parts


def _blocks(
    names: Sequence[Hashable], fractions: Mapping[str, float], gap: int
) -> dict[str, list[int]]:
    if gap < 0:
        raise ConfigError(f"The gap between blocks is {gap}", expected="0 or more structures")
    parts: dict[str, list[int]] = {name: [] for name in fractions}
    for _, run in groupby(range(len(names)), key=lambda i: names[i]):
        rows = list(run)
        kept = len(rows) - gap * (len(fractions) - 1)
        start = 0
        for name, size in _sizes(max(kept, 0), fractions).items():
            parts[name] += rows[start : start + size]
            start += size + gap
    return parts


def _grouped(
    names: Sequence[Hashable], fractions: Mapping[str, float], seed: int
) -> dict[str, list[int]]:
    """Give whole groups, large ones first, to the part that lacks most."""
    members: dict[Hashable, list[int]] = {}
    for i, name in enumerate(names):
        members.setdefault(name, []).append(i)
    order = [
        list(members.values())[k] for k in np.random.default_rng(seed).permutation(len(members))
    ]
    order.sort(key=len, reverse=True)
    shares = dict(fractions)
    rest = 1.0 - sum(shares.values())
    unused = "" if rest > 1e-9 else None
    if unused is not None:
        shares[unused] = rest
    parts: dict[str, list[int]] = {name: [] for name in shares}
    for rows in order:
        wanted = max(shares, key=lambda name: shares[name] * len(names) - len(parts[name]))
        parts[wanted] += rows
    return {name: parts[name] for name in fractions}


def _reduced_composition(system: AtomicData) -> bytes:
    counts = np.bincount(system.atomic_numbers.numpy(), minlength=119)
    return bytes((counts // np.gcd.reduce(counts)).astype(np.int64).tobytes())
