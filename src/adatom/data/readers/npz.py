"""NumPy archives (``.npz``): one array per quantity, one row per structure."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from adatom.core.errors import DataError, did_you_mean
from adatom.data.frame import Frame
from adatom.data.label_units import declared_units, plain_spelling
from adatom.data.labels import USUAL_KEYS
from adatom.data.readers.base import FrameReader, read_bytes

Array = npt.NDArray[Any]

#: Usual names of the arrays that make a structure, in lower case.
USUAL_ARRAYS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "atomic_numbers": ("z", "atomic_numbers", "numbers", "nuclear_charges", "species"),
        "pos": ("r", "pos", "positions", "coordinates", "coords", "coord"),
        "cell": ("cell", "cells", "lattice", "box"),
        "pbc": ("pbc",),
    }
)
#: Names of labels that only make sense where every array has a known meaning.
SHORT_LABELS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"energy": ("e", "energies"), "forces": ("f",)}
)


class NpzReader(FrameReader):
    """Structures from arrays.

    With F structures of at most N atoms: atomic numbers ``[F, N]`` (0 = padding) or ``[N]`` for
    all, positions ``[F, N, 3]``, cell ``[F, 3, 3]``, ``[F, 9]`` or ``[3, 3]``, pbc ``[F, 3]`` or
    ``[3]``. Every other array of F rows goes to ``info``, or, with one row per atom, to
    ``arrays`` without the padding.
    """

    def __init__(self, path: Path, key_map: Mapping[str, str]) -> None:
        """Load all arrays.

        Args:
            path: The file.
            key_map: From ``atomic_numbers``, ``pos``, ``cell``, ``pbc`` to names of arrays; those
                not given are recognized by :data:`USUAL_ARRAYS`.

        Raises:
            DataError: If an array is missing, of the wrong shape, or needs pickle.
        """
        self.path = path
        arrays = _load(path)
        pos = self._array("pos", arrays, key_map)
        numbers = self._array("atomic_numbers", arrays, key_map)
        if pos is None or numbers is None:
            missing = "pos" if pos is None else "atomic_numbers"
            raise DataError(
                f"{str(path)!r} has no array for {missing}",
                expected=f"one of the arrays that are there: {', '.join(sorted(arrays))}",
                fix=f"Name it: key_map.{missing}=NAME.",
            )
        self._pos = pos[None] if pos.ndim == 2 else pos
        same_atoms = numbers.ndim == 1 and numbers.shape == self._pos.shape[1:2]
        self._numbers = np.broadcast_to(numbers, self._pos.shape[:2]) if same_atoms else numbers
        self._check_shapes()
        self._cell = self._per_frame("cell", self._array("cell", arrays, key_map), (3, 3))
        self._pbc = self._per_frame("pbc", self._array("pbc", arrays, key_map), (3,))
        self.declared = _declared(arrays)
        self.label_keys = _label_keys(arrays)
        used = {self._key(name, arrays, key_map) for name in USUAL_ARRAYS}
        self._others = {
            key: value
            for key, value in arrays.items()
            if key not in used and value.ndim and len(value) == len(self._pos)
        }

    def __len__(self) -> int:
        """Return the number of structures F."""
        return len(self._pos)

    def frame(self, i: int) -> Frame:
        """Make structure ``i`` without its padding atoms."""
        real = self._numbers[i] != 0
        cell = np.zeros((3, 3)) if self._cell is None else self._cell[i]
        frame = Frame(
            numbers=self._numbers[i][real].astype(np.int64),
            positions=self._pos[i][real],
            cell=cell,
            pbc=np.full(3, bool(np.any(cell))) if self._pbc is None else self._pbc[i],
            fixed=self._fixed(i, real),
        )
        for key, value in self._others.items():
            if value.ndim > 1 and value.shape[1] == len(real) and len(real) > 1:
                frame.arrays[key] = value[i][real]
            else:
                frame.info[key] = value[i]
        return frame

    def _fixed(self, i: int, real: Array) -> Array:
        """Return the array ``fixed`` that adatom itself writes, else no atom."""
        found = self._others.get("fixed")
        if found is None or found.dtype != bool or found.shape[1:] != real.shape:
            return np.zeros(int(real.sum()), dtype=bool)
        return np.asarray(found[i][real])

    def _check_shapes(self) -> None:
        shape = self._pos.shape
        if len(shape) != 3 or shape[2] != 3 or self._numbers.shape != shape[:2]:
            raise DataError(
                f"{str(self.path)!r} has positions of shape {shape} and atomic numbers of shape "
                f"{self._numbers.shape}",
                expected="shapes [F, N, 3] and [F, N] or [N]",
            )
        if self._numbers.dtype.kind not in "iuf" or (self._numbers % 1 != 0).any():
            raise DataError(
                f"{str(self.path)!r} has atomic numbers that are not whole numbers",
                fix="Name the right array: key_map.atomic_numbers=NAME.",
            )

    def _key(
        self, name: str, arrays: Mapping[str, Array], key_map: Mapping[str, str]
    ) -> str | None:
        if name in key_map:
            if key_map[name] not in arrays:
                raise DataError(
                    f"{str(self.path)!r} has no array {key_map[name]!r}, which key_map.{name} names"
                    f"{did_you_mean(key_map[name], arrays)}",
                    expected=f"one of the arrays that are there: {', '.join(sorted(arrays))}",
                )
            return key_map[name]
        candidates = [key for key in arrays if key.lower() in USUAL_ARRAYS[name]]
        if len(candidates) > 1:
            raise DataError(
                f"{str(self.path)!r} has several arrays for {name}: {', '.join(candidates)}",
                fix=f"Choose one: key_map.{name}={candidates[0]}.",
            )
        return candidates[0] if candidates else None

    def _array(
        self, name: str, arrays: Mapping[str, Array], key_map: Mapping[str, str]
    ) -> Array | None:
        key = self._key(name, arrays, key_map)
        return None if key is None else arrays[key]

    def _per_frame(self, name: str, array: Array | None, shape: tuple[int, ...]) -> Array | None:
        if array is None:
            return None
        frames, size = len(self._pos), int(np.prod(shape))
        if array.size == size:
            return np.broadcast_to(array.reshape(shape), (frames, *shape))
        if array.size != frames * size or len(array) != frames:
            raise DataError(
                f"{str(self.path)!r} has a {name} of shape {array.shape}",
                expected=f"shape {shape} or {(frames, *shape)}",
            )
        return array.reshape((frames, *shape))


def _load(path: Path) -> dict[str, Array]:
    try:
        with np.load(io.BytesIO(read_bytes(path)), allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, AttributeError) as error:
        raise DataError(
            f"{str(path)!r} is not a whole .npz file ({error})", fix="Copy or write it again."
        ) from error
    except ValueError as error:
        raise DataError(
            f"{str(path)!r} cannot be read ({error})",
            expected="arrays of numbers (object arrays are pickles, which are never loaded)",
            fix="Write it again with padded arrays of numbers.",
        ) from error


def _declared(arrays: Mapping[str, Array]) -> dict[str, str]:
    """Read units from text entries: ``energy_unit``, or ``e_unit`` and ``r_unit`` (sGDML)."""
    texts = {
        key: str(value.item().decode() if isinstance(value.item(), bytes) else value.item())
        for key, value in arrays.items()
        if value.size == 1 and value.dtype.kind in "SU"
    }
    found = declared_units(texts)
    if "e_unit" in texts and "r_unit" in texts:
        found["energy"] = plain_spelling(texts["e_unit"])
        found["length"] = plain_spelling(texts["r_unit"])
        found["forces"] = f"{found['energy']}/{found['length']}"
    return found


def _label_keys(arrays: Mapping[str, Array]) -> dict[str, str] | None:
    """Map labels from short names such as ``E``, unless a usual name is there."""
    found = {}
    for name, usual in USUAL_KEYS.items():
        keys = [key for key in arrays if key.lower() in usual]
        keys = keys or [key for key in arrays if key.lower() in SHORT_LABELS.get(name, ())]
        if len(keys) > 1:
            return None
        if keys:
            found[name] = keys[0]
    return found
