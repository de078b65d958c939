"""From a path to structures, whatever the format."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from adatom.core.errors import ConfigError, DataError, FileAccessError, unknown_name
from adatom.core.files import require_readable
from adatom.data.ase_convert import SYSTEM_KEYS, Reading
from adatom.data.labels import LABEL_NAMES
from adatom.data.readers.base import COMPRESSIONS, FrameReader, split_suffix
from adatom.data.readers.relaxations import keys_with_relaxed, refuse_mixture, with_relaxed
from adatom.data.reference_check import check_choice
from adatom.data.reference_energies import (
    ENERGY_KINDS,
    EnergyChoice,
    EnergyKind,
    frame_names,
    read_reference_energies,
)
from adatom.data.selection import Where, rows_by_index, rows_where
from adatom.data.structure_dataset import StructureDataset

PathLike = str | os.PathLike[str]

#: Formats with a reader of their own, by file ending; anything else goes to ASE.
FORMATS: Mapping[str, str] = MappingProxyType(
    {
        ".extxyz": "extended XYZ",
        ".xyz": "extended or plain XYZ",
        ".db": "ASE database (SQLite)",
        ".aselmdb": "ASE database (LMDB)",
        ".lmdb": "Open Catalyst LMDB",
        ".npz": "NumPy arrays with a key map",
        ".traj": "ASE trajectory",
    }
)


def open_dataset(
    path: PathLike | Sequence[PathLike],
    *,
    dataset: str = "default",
    label_keys: Mapping[str, str] | None = None,
    units: Mapping[str, str] | None = None,
    required: Sequence[str] = (),
    key_map: Mapping[str, str] | None = None,
    index: int | str | slice | Sequence[int] | None = None,
    where: Where | None = None,
    frames: Literal["all", "relaxation"] = "all",
    relaxed: PathLike | Sequence[PathLike] | None = None,
    energy: EnergyKind | None = None,
    reference_energies: PathLike | None = None,
    lazy: bool = False,
    refuse_constraints: bool = False,
) -> StructureDataset:
    """Open one or several files of one level of theory.

    Args:
        path: A file, a folder (all its files of the formats below), or a list of them. Extended
            XYZ, ASE databases (``.db``, ``.aselmdb``) and trajectories (``.traj``), Open Catalyst
            ``.lmdb``, ``.npz``, and whatever ASE reads; text may be compressed (``.xz``, ``.gz``,
            ``.bz2``).
        dataset: Name of the level of theory.
        label_keys: From ``energy``, ``forces``, ``stress``, ``virial``, ``relaxed_energy``,
            ``relaxed_pos`` to the key that holds it; only these are read, ``"-key"`` flips the
            sign, and ``"key*number_key"`` multiplies. None recognizes the usual names.
        units: From ``length``, ``energy``, ``forces``, ``stress`` to a unit such as ``"Ha"``;
            default what the file declares, else eV and angstrom.
        required: Labels that every structure must have.
        key_map: Names of other things in the file: ``charge``, ``spin``, ``unpaired_electrons``,
            ``sid``, ``fid``, ``tags``, ``fixed``, for npz also ``atomic_numbers``, ``pos``,
            ``cell``, ``pbc``. Labels may be named here too.
        index: Selection in each file: a number, a slice, text such as ``"::10"``, or a list.
        where: From key to value, or a list of values: only structures whose ``info`` has them, of
            those that ``index`` selects. Every structure is looked at once for that.
        frames: ``relaxation`` makes one structure of each file: the first frame, with energy and
            positions of the last as ``relaxed_energy`` and ``relaxed_pos``.
        relaxed: Relaxed structures of those in ``path``, which get ``relaxed_energy`` and
            ``relaxed_pos`` from them: by ``sid`` where the relaxed ones have it, else in order.
        energy: ``total`` or ``adsorption``, which energies these are; kept with a potential that
            is trained on them.
        reference_energies: Table of reference energies in eV by sid; see
            :mod:`adatom.data.reference_energies`. With ``energy="adsorption"`` they are
            subtracted from the energies of the file, with ``energy="total"`` added to them.
        lazy: Convert and check structures only when they are asked for, not only those of
            databases.
        refuse_constraints: Refuse structures with constraints of ASE that do more than hold atoms
            in place. They are not read; what moves atoms must not lose them.

    Raises:
        FileAccessError: If a file is missing, empty or protected.
        DataError: If the format is unknown, a file or structure is damaged, nothing meets
            ``where``, or a structure has no relaxed one or no reference energy.
        MissingLabelError: If a required or named label is not there.
        UnknownNameError: If an argument names something unknown.
    """
    keys = dict(key_map or {})
    arrays = {name: keys.pop(name) for name in list(keys) if name in _ARRAY_NAMES}
    named = {name: keys.pop(name) for name in list(keys) if name in LABEL_NAMES}
    if named:
        label_keys = named | dict(label_keys or {})
    table = None if reference_energies is None else Path(reference_energies).expanduser()
    choice = _choice(energy, table)
    readers = [_open(file, arrays) for file in _files(path)]
    refuse_mixture(readers, label_keys)
    if table is not None and table.is_dir():
        readers = [_named(reader, table) for reader in readers]
    others = [] if relaxed is None else [_open(file, arrays) for file in _files(relaxed)]
    of_frames = label_keys
    if label_keys is not None and (others or frames == "relaxation"):
        label_keys = keys_with_relaxed(label_keys, readers[0])
    readers = with_relaxed(readers, frames, others, of_frames, keys.get("sid", "sid"))
    reading = Reading.checked(
        dataset=dataset,
        label_keys=label_keys,
        units=units,
        required=required,
        key_map=keys,
        energies=choice,
        refuse_constraints=refuse_constraints,
    )
    files = [(reader, rows_by_index(len(reader), index, reader.path)) for reader in readers]
    if where is not None:
        files = rows_where(files, where)
    found = StructureDataset(files, reading, lazy=lazy)
    if choice is not None and choice.references is not None:
        check_choice(choice, found)
    return found


def _choice(energy: EnergyKind | None, table: Path | None) -> EnergyChoice | None:
    if energy is None and table is None:
        return None
    if energy is None:
        raise ConfigError(
            f"reference_energies is {str(table)!r}, but energy is not set",
            expected="adsorption, to subtract them from total energies, or total, to add them",
        )
    if energy not in ENERGY_KINDS:
        raise unknown_name("kind of energy", energy, ENERGY_KINDS)
    return EnergyChoice(energy, None if table is None else read_reference_energies(table))


def _named(reader: FrameReader, folder: Path) -> FrameReader:
    from adatom.data.readers.named_frames import NamedFrameReader

    names = frame_names(folder, reader.path.name.partition(".")[0])
    return reader if names is None else NamedFrameReader(reader, names)


def _extxyz(path: Path, arrays: Mapping[str, str]) -> FrameReader:
    from adatom.data.readers.extxyz import ExtxyzReader

    _refuse_arrays(arrays, path)
    return ExtxyzReader(path)


def _ase_db(path: Path, arrays: Mapping[str, str]) -> FrameReader:
    from adatom.data.readers.ase_db import AseDbReader

    _refuse_arrays(arrays, path)
    return AseDbReader(path)


def _aselmdb(path: Path, arrays: Mapping[str, str]) -> FrameReader:
    from adatom.data.readers.aselmdb import AselmdbReader

    _refuse_arrays(arrays, path)
    return AselmdbReader(path)


def _oc_lmdb(path: Path, arrays: Mapping[str, str]) -> FrameReader:
    from adatom.data.readers.oc_lmdb import OcLmdbReader

    _refuse_arrays(arrays, path)
    return OcLmdbReader(path)


def _traj(path: Path, arrays: Mapping[str, str]) -> FrameReader:
    from adatom.data.readers.ase_traj import AseTrajReader

    _refuse_arrays(arrays, path)
    return AseTrajReader(path)


def _npz(path: Path, arrays: Mapping[str, str]) -> FrameReader:
    from adatom.data.readers.npz import NpzReader

    return NpzReader(path, arrays)


_OPENERS: Mapping[str, Callable[[Path, Mapping[str, str]], FrameReader]] = MappingProxyType(
    {
        ".extxyz": _extxyz,
        ".xyz": _extxyz,
        ".db": _ase_db,
        ".aselmdb": _aselmdb,
        ".lmdb": _oc_lmdb,
        ".traj": _traj,
        ".npz": _npz,
    }
)
_ARRAY_NAMES = ("atomic_numbers", "pos", "cell", "pbc")


def _open(path: Path, arrays: Mapping[str, str]) -> FrameReader:
    require_readable(path)
    suffix, _ = split_suffix(path)
    if suffix in _OPENERS:
        return _OPENERS[suffix](path, arrays)
    from adatom.data.readers.ase_any import AseReader, known_to_ase

    if not known_to_ase(path):
        known = ", ".join(f"{ending} ({what})" for ending, what in FORMATS.items())
        raise DataError(
            f"The file {str(path)!r} has a name that belongs to no known format",
            expected=f"one of {known}, any format of ASE (cif, POSCAR, vasprun.xml, ...), "
            f"or text formats compressed as {', '.join(COMPRESSIONS)}",
            fix="Rename the file so that its ending tells the format.",
        )
    _refuse_arrays(arrays, path)
    return AseReader(path)


def _refuse_arrays(arrays: Mapping[str, str], path: Path) -> None:
    if arrays:
        raise ConfigError(
            f"key_map names {', '.join(arrays)}, which only npz files need, for {str(path)!r}",
            expected=f"names among {', '.join((*SYSTEM_KEYS, *LABEL_NAMES))}",
        )


def _files(path: PathLike | Sequence[PathLike]) -> list[Path]:
    if isinstance(path, (str, os.PathLike)):
        file = Path(path).expanduser()
        if not file.is_dir():
            return [file]
        inside = sorted(p for p in file.iterdir() if split_suffix(p)[0] in FORMATS and p.is_file())
        if not inside:
            raise FileAccessError(
                f"The folder {str(path)!r} holds no data file",
                expected=f"files ending in {', '.join(FORMATS)}",
            )
        return inside
    files = [file for one in path for file in _files(one)]
    if not files:
        raise FileAccessError("The list of data files is empty", expected="at least one file")
    return files
