"""Which structures of a file are read: by number, and by what the file says of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from adatom.core.errors import ConfigError, DataError, did_you_mean
from adatom.data.readers.base import FrameReader

#: One value, or several that will do.
Wanted = str | int | float | bool
Where = Mapping[str, Wanted | Sequence[Wanted]]

#: How many different values a message lists.
_SHOWN = 12


def rows_by_index(
    count: int, index: int | str | slice | Sequence[int] | None, path: Path
) -> Sequence[int]:
    """Return the selected numbers of ``count`` structures.

    Args:
        count: Number of structures in the file.
        index: A number, a slice, text such as ``"::10"``, a list; None takes all.
        path: Of the file, for messages.

    Raises:
        DataError: If there is no such structure.
        ConfigError: If the text is no selection.
    """
    if index is None:
        return range(count)
    if isinstance(index, str):
        index = _parse_index(index)
    if isinstance(index, slice):
        return range(count)[index]
    wanted = [index] if isinstance(index, int) else list(index)
    for i in wanted:
        if not -count <= i < count:
            raise DataError(
                f"{str(path)!r} has {count} structures, and number {i} was asked for",
                expected=f"a number from 0 to {count - 1}",
            )
    return [range(count)[i] for i in wanted]


def rows_where(
    files: Sequence[tuple[FrameReader, Sequence[int]]], where: Where
) -> list[tuple[FrameReader, Sequence[int]]]:
    """Keep the structures whose ``info`` has the wanted values; each is looked at once.

    Args:
        files: Open files with the numbers of their structures.
        where: From key to the value, or values, that will do. ``1`` and ``"1"`` are the same.

    Raises:
        DataError: If nothing has such a key, or nothing is left.
    """
    accepted = {key: _texts(value) for key, value in where.items()}
    seen: dict[str, dict[str, None]] = {key: {} for key in where}
    keys: dict[str, None] = {}
    kept: list[tuple[FrameReader, Sequence[int]]] = []
    for reader, rows in files:
        chosen = []
        for row in rows:
            info = reader.frame(row).info
            keys.update(dict.fromkeys(info))
            for key in where:
                if key in info:
                    seen[key][_text(info[key])] = None
            if all(k in info and _text(info[k]) in good for k, good in accepted.items()):
                chosen.append(row)
        kept.append((reader, chosen))
    if not any(rows for _, rows in kept):
        raise _nothing(accepted, seen, keys, str(files[0][0].path))
    return kept


def _nothing(
    accepted: Mapping[str, Sequence[str]],
    seen: Mapping[str, Mapping[str, None]],
    keys: Mapping[str, None],
    path: str,
) -> DataError:
    for key, values in seen.items():
        if not values:
            return DataError(
                f"No structure of {path!r} says its {key!r}{did_you_mean(key, keys)}",
                expected=f"a key that is there: {', '.join(sorted(keys)) or '(none)'}",
            )
        if not set(values) & set(accepted[key]):
            more = ", ..." if len(values) > _SHOWN else ""
            there = ", ".join(sorted(values)[:_SHOWN]) + more
            wanted = " or ".join(map(repr, accepted[key]))
            return DataError(
                f"No structure of {path!r} has {key} = {wanted}"
                f"{did_you_mean(accepted[key][0], values)}",
                expected=f"one of the values that are there: {there}",
            )
    return DataError(f"No structure of {path!r} meets all of {dict(accepted)}")


def _texts(value: Any) -> list[str]:
    values = value if isinstance(value, (list, tuple)) else [value]
    if not values:
        raise ConfigError("where names no value", expected="at least one for each key")
    return [_text(one) for one in values]


def _text(value: Any) -> str:
    return str(value)


def _parse_index(text: str) -> int | slice:
    try:
        parts = [int(part) if part.strip() else None for part in text.split(":")]
    except ValueError:
        parts = []
    if len(parts) == 1 and parts[0] is not None:
        return parts[0]
    if len(parts) not in (2, 3):
        raise ConfigError(
            f"index is {text!r}",
            expected="a number or start:stop:step, such as '0', ':100', '::10'",
        )
    return slice(*parts)
