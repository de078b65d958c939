"""Between ASE structures and :class:`AtomicData`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from adatom.core.errors import ConfigError, DataError, unknown_name
from adatom.core.units import length_factor, matrix_to_voigt
from adatom.data.atomic_data import AtomicData
from adatom.data.charge_spin import charge_and_spin
from adatom.data.frame import Frame
from adatom.data.label_units import check_units, declared_units, merge_units
from adatom.data.labels import LABEL_NAMES, Entry, check_label_keys, read_labels, require_labels
from adatom.data.reference_energies import EnergyChoice
from adatom.data.validation import validate_numbers

#: What ``key_map`` may name, besides labels: where a structure keeps these.
SYSTEM_KEYS = ("charge", "spin", "unpaired_electrons", "sid", "fid", "tags", "fixed")


@dataclass(slots=True, frozen=True, kw_only=True)
class Reading:
    """How structures are read; see :func:`from_ase` for the attributes."""

    dataset: str = "default"
    label_keys: Mapping[str, str] | None = None
    units: Mapping[str, str] = field(default_factory=dict)
    required: Collection[str] = ()
    key_map: Mapping[str, str] = field(default_factory=dict)
    energies: EnergyChoice | None = None
    # Changes nothing that is read, and so not the identity of a dataset.
    refuse_constraints: bool = field(default=False, repr=False)

    @classmethod
    def checked(
        cls,
        *,
        dataset: str = "default",
        label_keys: Mapping[str, str] | None = None,
        units: Mapping[str, str] | None = None,
        required: Collection[str] = (),
        key_map: Mapping[str, str] | None = None,
        energies: EnergyChoice | None = None,
        refuse_constraints: bool = False,
    ) -> Reading:
        """Make an instance after checking every name in it.

        Raises:
            UnknownNameError: If a label, quantity, unit or structure key is unknown.
        """
        for name in required:
            if name not in LABEL_NAMES:
                raise unknown_name("label", name, LABEL_NAMES)
        for name in key_map or {}:
            if name not in SYSTEM_KEYS:
                raise unknown_name("name in key_map", name, (*SYSTEM_KEYS, *LABEL_NAMES))
        if key_map and "spin" in key_map and "unpaired_electrons" in key_map:
            raise ConfigError("key_map names both spin and unpaired_electrons", fix="Keep one.")
        return cls(
            dataset=dataset,
            label_keys=check_label_keys(label_keys),
            units=check_units(units),
            required=tuple(required),
            key_map=dict(key_map or {}),
            energies=energies,
            refuse_constraints=refuse_constraints,
        )


def from_ase(
    atoms: Atoms,
    *,
    dataset: str = "default",
    sid: str | None = None,
    label_keys: Mapping[str, str] | None = None,
    units: Mapping[str, str] | None = None,
    required: Collection[str] = (),
    key_map: Mapping[str, str] | None = None,
) -> AtomicData:
    """Convert one ASE structure; ``atoms`` is never changed and positions are not wrapped.

    Charge and spin (multiplicity 2S+1) come from ``atoms.info["charge"]`` and
    ``atoms.info["spin"]`` without being asked; their defaults are 0 and 0 ("not given"). FixAtoms
    constraints become ``fixed``. Labels come from the results of the attached calculator (nothing
    is computed, and results of other positions are ignored), ``atoms.info`` and ``atoms.arrays``.

    Args:
        atoms: The structure.
        dataset: Name of the level of theory.
        sid: Identifier; default ``atoms.info["sid"]`` (with ``-frame-{fid}`` if there is a
            ``fid``), else the chemical formula.
        label_keys: From ``energy``, ``forces``, ``stress``, ``virial``, ``relaxed_energy`` to the
            key that holds it; ``"-key"`` flips the sign. Only these are read, so ``{}`` reads no
            label. None recognizes the usual names.
        units: From ``length``, ``energy``, ``forces``, ``stress`` to a unit; default eV, angstrom.
        required: Labels that must be there.
        key_map: From ``charge``, ``spin``, ``unpaired_electrons``, ``sid``, ``fid``, ``tags``,
            ``fixed`` to the key that holds it, where that is not the name itself.

    Returns:
        One system; labels are float64 in eV, eV/angstrom, eV/angstrom^3.

    Raises:
        DataError: If a number is wrong, NaN or contradictory; the message names the structure.
        MissingLabelError: If a required or named label is not there.
        UnknownNameError: If an argument names something unknown.
    """
    reading = Reading.checked(
        dataset=dataset, label_keys=label_keys, units=units, required=required, key_map=key_map
    )
    needed = {"stress" if name == "virial" else name for name in (*required, *(label_keys or {}))}
    frame = Frame.of(atoms)
    name = sid or structure_id(frame, reading.key_map, "") or atoms.get_chemical_formula()
    return convert(frame, reading, name, required=needed)


def convert(
    frame: Frame,
    reading: Reading,
    sid: str,
    *,
    required: Collection[str] | None = None,
    check: bool = True,
) -> AtomicData:
    """Convert one structure with checked options; see :func:`from_ase`.

    Args:
        frame: The structure.
        reading: Checked options.
        sid: Identifier.
        required: Labels that must be there; default ``reading.required``.
        check: Look for wrong numbers; what was found right before need not be checked again.
    """
    where = f"Structure {sid!r}"
    if reading.refuse_constraints and frame.ignored:
        raise DataError(
            f"{where} has the constraint {frame.ignored[0]}, which would be lost",
            expected="FixAtoms, or no constraint",
            fix="Remove it, or use MLIPCalculator with ASE, which respects it.",
        )
    units = merge_units(reading.units, declared_units(frame.info), where)
    length = length_factor(units["length"]) if "length" in units else 1.0
    n = len(frame.numbers)
    cell = np.array(frame.cell, dtype=np.float64)
    pos = np.array(frame.positions, dtype=np.float64)
    if length != 1.0:
        cell, pos = cell * length, pos * length
    found = entries(frame)
    labels = read_labels(
        found,
        natoms=n,
        cell=cell,
        label_keys=reading.label_keys,
        units=units,
        where=where,
    )
    if reading.energies is not None:
        own = frame.info.get(reading.key_map.get("sid", "sid"))
        labels = reading.energies.applied(labels, own, where)
    needed = reading.required if required is None else required
    require_labels(labels, needed, found, reading.label_keys, where)
    charge, spin = charge_and_spin(frame.info, reading.key_map, where)
    data = AtomicData(
        pos=torch.from_numpy(pos),
        atomic_numbers=torch.from_numpy(np.array(frame.numbers, dtype=np.int64)),
        cell=torch.from_numpy(cell.reshape(1, 3, 3)),
        pbc=torch.from_numpy(np.array(frame.pbc, dtype=bool).reshape(1, -1)),
        # Four times as fast as torch.tensor and torch.zeros.
        natoms=torch.from_numpy(np.array([n])),
        batch=torch.from_numpy(np.zeros(n, dtype=np.int64)),
        charge=torch.from_numpy(np.array([charge])),
        spin=torch.from_numpy(np.array([spin])),
        dataset=[reading.dataset],
        tags=torch.from_numpy(_per_atom(frame, reading.key_map, "tags", where)),
        fixed=torch.from_numpy(_fixed(frame, reading.key_map, where)),
        sid=[sid],
        labels={name: torch.from_numpy(value) for name, value in labels.items()},
    )
    if check:
        validate_numbers(data)
    return data


def to_ase(data: AtomicData) -> list[Atoms]:
    """Convert to one ASE structure per system.

    Labels go to a SinglePointCalculator (``energy``, ``forces``, ``stress`` in Voigt order,
    ``energies``) and others to ``info`` or ``arrays``; charge, spin (if given), sid and dataset go
    to ``info``; ``fixed`` becomes a FixAtoms constraint. Missing labels (NaN rows) are left out.
    """
    return [_one_to_ase(system) for system in data.unbatch()]


def entries(frame: Frame) -> list[Entry]:
    """List everything a structure carries that may be a label."""
    found = [Entry(key, value, "calculator") for key, value in frame.results.items()]
    found += [Entry(key, value, "info") for key, value in frame.info.items()]
    found += [Entry(key, value, "arrays") for key, value in frame.arrays.items() if key != "tags"]
    return found


def structure_id(frame: Frame, key_map: Mapping[str, str], default: str) -> str:
    """Return the sid a structure carries, or ``default``.

    Raises:
        DataError: If ``key_map`` names one and it is not there.
    """
    key = key_map.get("sid", "sid")
    sid = frame.info.get(key)
    if sid is None and "sid" in key_map:
        raise DataError(f"A structure has no {key!r}, which key_map.sid names")
    if sid is None:
        return default
    fid = frame.info.get(key_map.get("fid", "fid"))
    return str(sid) if fid is None else f"{sid}-frame-{fid}"


def _per_atom(
    frame: Frame, key_map: Mapping[str, str], name: str, where: str
) -> npt.NDArray[np.int64]:
    key, n = key_map.get(name, name), len(frame.numbers)
    if key not in frame.arrays:
        if name in key_map:
            raise DataError(f"{where} has no per-atom {key!r}, which key_map names")
        return np.zeros(n, dtype=np.int64)
    values = np.asarray(frame.arrays[key])
    if values.shape != (n,) or values.dtype.kind not in "iub":
        raise DataError(
            f"{where} has {key} of shape {values.shape} and type {values.dtype}",
            expected=f"{n} whole numbers",
        )
    return values.astype(np.int64)


def _fixed(frame: Frame, key_map: Mapping[str, str], where: str) -> npt.NDArray[np.bool_]:
    if "fixed" in key_map:
        return _per_atom(frame, key_map, "fixed", where).astype(bool)
    return np.array(frame.fixed, dtype=bool)


def _one_to_ase(system: AtomicData) -> Atoms:
    info: dict[str, Any] = {"sid": system.sid[0], "dataset": system.dataset[0]}
    info["charge"] = int(system.charge[0])
    if int(system.spin[0]):
        info["spin"] = int(system.spin[0])
    atoms = Atoms(
        numbers=system.atomic_numbers.cpu().numpy(),
        positions=system.pos.detach().cpu().numpy(),
        cell=system.cell[0].detach().cpu().numpy(),
        pbc=system.pbc[0].cpu().numpy(),
        tags=system.tags.cpu().numpy(),
        info=info,
    )
    fixed = system.fixed.cpu().numpy()
    if fixed.any():
        from ase.constraints import FixAtoms

        atoms.set_constraint(FixAtoms(mask=fixed))
    results: dict[str, Any] = {}
    for name, value in system.labels.items():
        array = value.detach().cpu().numpy()
        if name == "energy":
            results["energy"] = float(array[0])
        elif name == "stress":
            results["stress"] = matrix_to_voigt(array[0])
        elif name in ("forces", "energies"):
            results[name] = array
        elif name == "relaxed_energy":
            info[name] = atoms.info[name] = float(array[0])
        else:
            atoms.arrays[name] = array
    if results:
        atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms
