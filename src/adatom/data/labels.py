"""Labels of one structure: which keys hold them, and their values in eV and angstrom."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from adatom.core.errors import DataError, MissingLabelError, did_you_mean, unknown_name
from adatom.core.units import voigt_to_matrix
from adatom.data.label_keys import LabelKey
from adatom.data.label_units import UNIT_OF_LABEL, label_factors

#: Key names that are recognized without being told, in lower case.
USUAL_KEYS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "energy": (
            "energy",
            "ref_energy",
            "dft_energy",
            "energy_dft",
            "totenergy",
            "tot_energy",
            "total_energy",
            "potential_energy",
        ),
        "forces": (
            "forces",
            "force",
            "ref_forces",
            "ref_force",
            "dft_forces",
            "dft_force",
            "forces_dft",
            "force_dft",
        ),
        "stress": ("stress", "ref_stress", "dft_stress", "stress_dft"),
        "virial": ("virial", "virials", "ref_virial", "ref_virials", "dft_virial", "virial_dft"),
        "relaxed_energy": ("relaxed_energy", "energy_relaxed", "y_relaxed"),
        "relaxed_pos": ("relaxed_pos", "pos_relaxed", "relaxed_positions"),
    }
)

#: What a label map may name; ``virial`` becomes ``stress``.
LABEL_NAMES = tuple(UNIT_OF_LABEL)

#: Two keys for one label agree if they differ by no more than this (relative and absolute).
AGREEMENT = 1e-5

Array = npt.NDArray[np.float64]


@dataclass(slots=True, frozen=True)
class Entry:
    """One value that a structure carries.

    Attributes:
        key: Its name in the file.
        value: A number or array.
        place: ``"calculator"``, ``"info"`` or ``"arrays"``.
    """

    key: str
    value: Any
    place: str


def check_label_keys(label_keys: Mapping[str, str] | None) -> dict[str, str] | None:
    """Return ``label_keys`` as a dict after checking its names.

    Raises:
        UnknownNameError: If a name is not among :data:`LABEL_NAMES`.
        DataError: If both stress and virial are named.
    """
    if label_keys is None:
        return None
    for name in label_keys:
        if name not in LABEL_NAMES:
            raise unknown_name("label", name, LABEL_NAMES)
    if "stress" in label_keys and "virial" in label_keys:
        raise DataError(
            "label_keys names both a stress and a virial", fix="Keep the one to be used."
        )
    return dict(label_keys)


def read_labels(
    entries: Sequence[Entry],
    *,
    natoms: int,
    cell: Array,
    label_keys: Mapping[str, str] | None,
    units: Mapping[str, str],
    where: str,
) -> dict[str, Array]:
    """Read, check and convert the labels of one structure.

    Args:
        entries: Everything the structure carries.
        natoms: Number of atoms.
        cell: ``[3, 3]`` angstrom, whose volume V makes ``stress = -virial / V``.
        label_keys: From label to key; a leading minus flips the sign (``"-gradient"``), and a
            star multiplies (``"energy_per_adsorbate*n_adsorbates"``). Only these are read. None
            recognizes :data:`USUAL_KEYS`.
        units: See :func:`adatom.data.label_units.merge_units`.
        where: Names the structure in messages.

    Returns:
        ``energy [1]`` and ``relaxed_energy [1]`` eV, ``forces [n, 3]`` eV/angstrom, ``stress
        [1, 3, 3]`` eV/angstrom^3 (positive is tensile), ``relaxed_pos [n, 3]`` angstrom; float64,
        as far as the structure has them.

    Raises:
        DataError: If keys contradict each other, or a value has the wrong shape.
    """
    if label_keys is None:
        found = {name: _usual_entry(entries, name, where) for name in USUAL_KEYS}
    else:
        found = {name: _named_entry(entries, key, where) for name, key in label_keys.items()}
    present = {name: entry for name, entry in found.items() if entry is not None}
    factors = label_factors(present, units, where)
    labels = {}
    for name, entry in present.items():
        value = _array(entry, where)
        labels[name] = factors[name] * _shaped(name, value, natoms, entry.key, where)
    if "virial" in labels:
        _virial_to_stress(labels, cell, where)
    return labels


def raw_energy(
    entries: Sequence[Entry], label_keys: Mapping[str, str] | None, where: str
) -> float | None:
    """Return the energy of a structure in the file's unit, or None if it has none.

    Args:
        entries: Everything the structure carries.
        label_keys: From label to key; None recognizes :data:`USUAL_KEYS`.
        where: Names the structure in messages.

    Raises:
        DataError: If keys contradict each other, or the value is no number.
    """
    if label_keys is None:
        entry = _usual_entry(entries, "energy", where)
    else:
        key = label_keys.get("energy")
        entry = None if key is None else _named_entry(entries, key, where)
    if entry is None:
        return None
    return float(_shaped("energy", _array(entry, where), 0, entry.key, where)[0])


def require_labels(
    labels: Iterable[str],
    required: Collection[str],
    entries: Sequence[Entry],
    label_keys: Mapping[str, str] | None,
    where: str,
) -> None:
    """Raise unless every required label was found.

    Raises:
        MissingLabelError: Naming the keys that are there.
    """
    missing = sorted(set(required) - set(labels))
    if missing:
        raise missing_label(missing[0], [entry.key for entry in entries], label_keys, where)


def label_sources(entries: Sequence[Entry], label_keys: Mapping[str, str] | None) -> dict[str, str]:
    """Return which key each label would be read from, for the labels that are there."""
    there = [entry.key for entry in entries if entry.value is not None]
    if label_keys is not None:
        return {name: key for name, key in label_keys.items() if not _lost(key, there)}
    found = {}
    for name, usual in USUAL_KEYS.items():
        keys = [key for key in there if key.lower() in usual]
        if keys:
            found[name] = keys[0]
    return found


def missing_label(
    name: str, keys: Iterable[str], label_keys: Mapping[str, str] | None, where: str
) -> MissingLabelError:
    """Build the error for a label that was not found, listing the keys that are there."""
    there = sorted(set(keys))
    named = (label_keys or {}).get(name)
    lost = _lost(named, there) if named else []
    searched = f" under the key {lost[0]!r}" if lost else ""
    hint = did_you_mean(lost[0] if lost else name, there)
    return MissingLabelError(
        f"{where} has no label {name!r}{searched}{hint}",
        expected=f"one of the keys that are there: {', '.join(there) if there else '(none)'}",
        fix=f"Name the key, for example label_keys.{name}=KEY.",
    )


def _usual_entry(entries: Sequence[Entry], name: str, where: str) -> Entry | None:
    usual = USUAL_KEYS[name]
    candidates = [
        entry for entry in entries if entry.key.lower() in usual and entry.value is not None
    ]
    return _agreeing(candidates, name, where)


def _named_entry(entries: Sequence[Entry], text: str, where: str) -> Entry | None:
    wanted = LabelKey.of(text)
    found = []
    for key in wanted.keys:
        candidates = [entry for entry in entries if entry.key == key and entry.value is not None]
        entry = _agreeing(candidates, key, where)
        if entry is None:
            return None
        found.append(entry)
    if len(found) == 1 and wanted.sign > 0.0:
        return found[0]
    value = wanted.sign * _array(found[0], where)
    for factor in found[1:]:
        number = _array(factor, where)
        if number.size != 1:
            raise DataError(
                f"{where} has {factor.key} of shape {number.shape}",
                expected=f"one number: it multiplies {found[0].key}",
            )
        value = value * float(number.reshape(-1)[0])
    return Entry(text, value, found[0].place)


def _lost(text: str, there: Collection[str]) -> list[str]:
    """Return the keys of a label that are not among those of a structure."""
    return [key for key in LabelKey.of(text).keys if key not in there]


def _agreeing(candidates: list[Entry], name: str, where: str) -> Entry | None:
    if not candidates:
        return None
    first = candidates[0]
    for other in candidates[1:]:
        one, two = _array(first, where), _array(other, where)
        if one.size != two.size:
            same = False
        else:
            same = np.allclose(
                one.ravel(), two.ravel(), rtol=AGREEMENT, atol=AGREEMENT, equal_nan=True
            )
        if not same:
            raise DataError(
                f"{where} has two different values for its {name}: {first.key!r} "
                f"({first.place}) and {other.key!r} ({other.place})",
                fix=f"Choose one, for example label_keys.{name}={other.key}"
                if first.key != other.key
                else "Remove one of them.",
            )
    return first


def _array(entry: Entry, where: str) -> Array:
    try:
        return np.asarray(entry.value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{where} has {entry.key} = {str(entry.value)[:40]!r}", expected="numbers"
        ) from error


def _shaped(name: str, value: Array, natoms: int, key: str, where: str) -> Array:
    if UNIT_OF_LABEL[name] == "energy" and name != "virial":
        if value.size == 1:
            return value.reshape(1)
        expected = "one number"
    elif name in ("forces", "relaxed_pos"):
        if value.shape == (natoms, 3):
            return value
        expected = f"shape ({natoms}, 3)"
    else:
        if value.size == 9 and value.shape in ((9,), (3, 3), (1, 3, 3), (1, 9)):
            return _symmetric(value.reshape(1, 3, 3), key, where)
        if value.size == 6:
            return voigt_to_matrix(value.reshape(1, 6))
        expected = "shape (3, 3), (9,) or (6,) in the order xx yy zz yz xz xy"
    raise DataError(f"{where} has {key} of shape {value.shape}", expected=expected)


def _symmetric(matrix: Array, key: str, where: str) -> Array:
    transposed = matrix.swapaxes(1, 2)
    scale = np.abs(matrix).max()
    if np.abs(matrix - transposed).max() > 1e-2 * scale + 1e-6:
        raise DataError(
            f"{where} has a {key} that is not symmetric", expected="a symmetric 3 by 3 matrix"
        )
    return 0.5 * (matrix + transposed)


def _virial_to_stress(labels: dict[str, Array], cell: Array, where: str) -> None:
    """Replace the virial W by the stress -W / V (ASE sign: positive is tensile)."""
    virial = labels.pop("virial")
    volume = abs(float(np.linalg.det(cell))) if np.isfinite(cell).all() else 0.0
    if volume <= 0.0:
        raise DataError(
            f"{where} has a virial but no cell",
            expected="a cell with a volume",
            fix="Set the cell.",
        )
    stress = -virial / volume
    if "stress" in labels and not np.allclose(labels["stress"], stress, rtol=1e-3, atol=1e-5):
        raise DataError(
            f"{where} has a stress and a virial that disagree (stress = -virial / volume)",
            fix="Choose one with label_keys.stress or label_keys.virial.",
        )
    labels["stress"] = stress
