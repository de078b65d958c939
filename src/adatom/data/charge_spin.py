"""Total charge and spin multiplicity of a structure, from what its file says."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from adatom.core.errors import DataError

#: Allowed total charge (e) and multiplicity; 0 means "not given".
RANGES: Mapping[str, tuple[int, int]] = MappingProxyType(
    {"charge": (-100, 100), "spin": (0, 100), "unpaired_electrons": (0, 99)}
)

#: Names that look like a charge or spin but are not read unless ``key_map`` says so.
LOOKALIKES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "charge": ("total_charge", "net_charge", "molecular_charge"),
        "spin": ("spin_multiplicity", "multiplicity", "unpaired_electrons", "total_spin"),
    }
)


def charge_and_spin(
    info: Mapping[str, Any], key_map: Mapping[str, str], where: str
) -> tuple[int, int]:
    """Read total charge and multiplicity (0 = not given) from ``info``.

    Raises:
        DataError: If a value is not a whole number in range, a mapped key is missing, or a
            look-alike such as ``total_charge`` is there that ``key_map`` does not mention.
    """
    values = {}
    for name in ("charge", "spin", "unpaired_electrons"):
        key = key_map.get(name, name if name != "unpaired_electrons" else None)
        if key is None:
            continue
        if key in info:
            values[name] = _whole_number(info[key], name, key, where)
        elif name in key_map:
            raise DataError(
                f"{where} has no {key!r}, which key_map.{name} names",
                expected=f"one of the keys that are there: {', '.join(sorted(info)) or '(none)'}",
            )
    _refuse_lookalikes(info, values, key_map, where)
    if "unpaired_electrons" in values:
        return values.get("charge", 0), values["unpaired_electrons"] + 1
    return values.get("charge", 0), values.get("spin", 0)


def _refuse_lookalikes(
    info: Mapping[str, Any], values: Mapping[str, int], key_map: Mapping[str, str], where: str
) -> None:
    mapped = set(key_map.values())
    for name, others in LOOKALIKES.items():
        if name in values or (name == "spin" and "unpaired_electrons" in values):
            continue
        for key in others:
            if key in info and key not in mapped:
                choice = "spin or key_map.unpaired_electrons" if name == "spin" else name
                raise DataError(
                    f"{where} has {key!r} but no {name!r}",
                    expected=f"{name!r} in atoms.info",
                    fix=f"Say what it is: key_map.{choice} = {key!r}.",
                )


def _whole_number(value: Any, name: str, key: str, where: str) -> int:
    low, high = RANGES[name]
    expected = f"a whole number from {low} to {high}"
    array = np.asarray(value)
    if array.size != 1 or array.dtype.kind not in "iuf":
        raise DataError(f"{where} has {key} = {str(value)[:40]!r}", expected=expected)
    number = float(array.reshape(()))
    if not number.is_integer() or not low <= number <= high:
        raise DataError(f"{where} has {key} = {number:g}", expected=expected)
    return int(number)
