"""From a path to structures, whatever the format."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from adatom.core.errors import ConfigError, DataError, FileAccessError
from adatom.core.files import require_readable
from adatom.data.ase_convert import SYSTEM_KEYS, Reading
from adatom.data.labels import LABEL_NAMES
from adatom.data.readers.base import COMPRESSIONS, FrameReader, split_suffix
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
    lazy: bool = False,
) -> StructureDataset:
    """Open one or several files of one level of theory.

    Args:
        path: A file, a folder (all its files of the formats below), or a list of them. Extended
            XYZ, ASE databases (``.db``, ``.aselmdb``), Open Catalyst ``.lmdb``, ``.npz``, and
            whatever ASE reads; text may be compressed (``.xz``, ``.gz``, ``.bz2``).
        dataset: Name of the level of theory.
        label_keys: From ``energy``, ``forces``, ``stress``, ``virial``, ``relaxed_energy`` to the
            key that holds it; only these are read, and ``"-key"`` flips the sign. None recognizes
            the usual names.
        units: From ``length``, ``energy``, ``forces``, ``stress`` to a unit such as ``"Ha"``;
            default what the file declares, else eV and angstrom.
        required: Labels that every structure must have.
        key_map: Names of other things in the file: ``charge``, ``spin``, ``unpaired_electrons``,
            ``sid``, ``fid``, ``tags``, ``fixed``, for npz also ``atomic_numbers``, ``pos``,
            ``cell``, ``pbc``. Labels may be named here too.
        index: Selection in each file: a number, a slice, text such as ``"::10"``, or a list.
        lazy: Convert and check structures only when they are asked for, not only those of
            databases.

    Raises:
        FileAccessError: If a file is missing, empty or protected.
        DataError: If the format is unknown or a file or structure is damaged.
        MissingLabelError: If a required or named label is not there.
        UnknownNameError: If an argument names something unknown.
    """
    keys = dict(key_map or {})
    arrays = {name: keys.pop(name) for name in list(keys) if name in _ARRAY_NAMES}
    named = {name: keys.pop(name) for name in list(keys) if name in LABEL_NAMES}
    if named:
        label_keys = named | dict(label_keys or {})
    reading = Reading.checked(
        dataset=dataset, label_keys=label_keys, units=units, required=required, key_map=keys
    )
    readers = [_open(file, arrays) for file in _files(path)]
    return StructureDataset(
        [(reader, _rows(len(reader), index, reader.path)) for reader in readers],
        reading,
        lazy=lazy,
    )


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
            expected=f"one of {known}, any format of ASE (traj, cif, POSCAR, vasprun.xml, ...), "
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


def _rows(count: int, index: int | str | slice | Sequence[int] | None, path: Path) -> Sequence[int]:
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
