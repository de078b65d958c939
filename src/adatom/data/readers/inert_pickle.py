"""Read pickled graphs of PyTorch Geometric as data: nothing that they name is imported or called.

A pickle is a program: it names globals and calls them. Here each name on a short list stands for
an inert record of this module, and any other name is refused before it is looked up. Tensors
become NumPy arrays. Format: https://docs.python.org/3/library/pickletools.html, and for the
numbers of a tensor that of ``torch.save`` before version 1.6.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from adatom.core.errors import DataError

#: Instructions that reach objects other than through ``find_class``.
_FORBIDDEN_OPCODES = {"EXT1", "EXT2", "EXT4"}
#: Instructions whose argument is a place in the memo.
_MEMO_OPCODES = {"PUT", "BINPUT", "LONG_BINPUT"}
#: First number of a storage saved by ``torch.save``.
_MAGIC = 0x1950A86A20F9469CFC6C


class _Record:
    """An object of the pickled program, reduced to what it was made of.

    Every class here has ``__setstate__``: without it, a pickle could set attributes of the class.
    """

    arguments: tuple[Any, ...] = ()
    state: Any = None

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Graph(_Record):
    """``Data``: its state has the attributes, or a store of them."""


class _Store(_Record):
    """``GlobalStorage``: its state has the attributes in ``_mapping``."""


class _Tensor(_Record):
    """``torch._utils._rebuild_tensor_v2(storage, offset, shape, stride, ...)``."""


class _Storage(_Record):
    """``torch.storage._load_from_bytes(bytes)``."""


class _Array(_Record):
    """``numpy``'s ``_reconstruct``; state ``(version, shape, dtype, is_fortran, bytes)``."""


class _Buffer(_Record):
    """``numpy``'s ``_frombuffer(bytes, dtype, shape, order)``."""


class _Dtype(_Record):
    """``numpy.dtype(code, ...)``."""


class _Scalar(_Record):
    """``numpy``'s ``scalar(dtype, bytes)``."""


class _Encoded(_Record):
    """``_codecs.encode(text, "latin1")``, which is how protocol 2 writes bytes."""


class _Mapping(_Record):
    """``OrderedDict``, which only comes with tensors, as their hooks."""


class _StorageId(NamedTuple):
    dtype: str
    key: str
    numel: int


_STORAGES = {
    f"torch.{name}Storage": dtype
    for name, dtype in {
        "Half": "<f2",
        "Float": "<f4",
        "Double": "<f8",
        "Byte": "u1",
        "Char": "i1",
        "Short": "<i2",
        "Int": "<i4",
        "Long": "<i8",
        "Bool": "?",
    }.items()
}
#: Types that are only mentioned; their names stand for them.
_TYPES = (
    "numpy.ndarray",
    "torch_geometric.data.data.DataEdgeAttr",
    "torch_geometric.data.data.DataTensorAttr",
    *_STORAGES,
)
_NUMPY = {"multiarray._reconstruct": _Array, "multiarray.scalar": _Scalar}

#: Every global that a record may name, and what stands for it.
ALLOWED_GLOBALS: Mapping[str, Any] = {
    "torch_geometric.data.data.Data": _Graph,
    "torch_geometric.data.storage.GlobalStorage": _Store,
    "torch._utils._rebuild_tensor_v2": _Tensor,
    "torch.storage._load_from_bytes": _Storage,
    "collections.OrderedDict": _Mapping,
    "_codecs.encode": _Encoded,
    "numpy.dtype": _Dtype,
    **{f"numpy.{core}.{name}": kind for core in ("core", "_core") for name, kind in _NUMPY.items()},
    **{f"numpy.{core}.numeric._frombuffer": _Buffer for core in ("core", "_core")},
    **{name: name for name in _TYPES},
}


class _RefusedError(Exception):
    """A global that is not on the list."""


class _Unpickler(pickle.Unpickler):
    """Resolves names by the table above and storages to their descriptions."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        name = f"{module_name}.{global_name}"
        if name not in ALLOWED_GLOBALS:
            raise _RefusedError(name)
        return ALLOWED_GLOBALS[name]

    def persistent_load(self, pid: Any) -> _StorageId:
        kind, storage_type, key, _, numel = pid[:5]
        if kind != "storage" or storage_type not in _STORAGES:
            raise pickle.UnpicklingError("a storage is described wrongly")
        return _StorageId(_STORAGES[storage_type], str(key), int(numel))


def read_graph(program: bytes, where: str) -> dict[str, Any]:
    """Return the attributes of a pickled graph: arrays, numbers and texts.

    Args:
        program: The pickle.
        where: Names it in messages.

    Raises:
        DataError: If it names a global that is not on the list (it is named, and nothing was
            called), is damaged, or is no graph.
    """
    loaded = _guarded(program, where)
    attributes = loaded.state if isinstance(loaded, _Graph) else loaded
    if isinstance(attributes, dict) and isinstance(attributes.get("_store"), _Store):
        attributes = attributes["_store"].state.get("_mapping")
    if not isinstance(attributes, dict) or "pos" not in attributes:
        raise DataError(
            f"{where} is not a graph of atoms",
            expected="a pickled Data object of PyTorch Geometric with pos and atomic_numbers",
        )
    return attributes


def read_number(program: bytes, where: str) -> int:
    """Return a pickled whole number.

    Raises:
        DataError: If it is something else; nothing was called.
    """
    number = _guarded(program, where)
    if not isinstance(number, int) or isinstance(number, bool):
        raise DataError(f"{where} is no whole number")
    return number


def as_array(value: Any, where: str) -> npt.NDArray[Any] | None:
    """Return the numbers of an attribute of a graph; None if it has none.

    Args:
        value: What :func:`read_graph` returned for the attribute.
        where: Names it in messages.

    Raises:
        DataError: If the attribute is damaged.
    """
    try:
        return _numbers(value)
    except _RefusedError as error:
        raise _refusal(where, str(error)) from error
    # A hostile description of a tensor can fail anywhere; all of that means the same.
    except Exception as error:
        raise DataError(f"{where} is damaged ({error})", fix="Copy the file again.") from error


def _numbers(value: Any) -> npt.NDArray[Any] | None:
    if isinstance(value, _Tensor):
        storage, offset, shape, stride = value.arguments[:4]
        return _view(_storage_numbers(_bytes(storage.arguments[0])), offset, shape, stride)
    if isinstance(value, _Array):
        _, shape, dtype, is_fortran, raw = value.state
        flat = np.frombuffer(_bytes(raw), _dtype(dtype))
        return flat.reshape(shape, order="F" if is_fortran else "C").copy()
    if isinstance(value, _Buffer):
        raw, dtype, shape, order = value.arguments
        return np.frombuffer(_bytes(raw), _dtype(dtype)).reshape(shape, order=order).copy()
    if isinstance(value, _Scalar):
        dtype, raw = value.arguments
        return np.frombuffer(_bytes(raw), _dtype(dtype))[0]  # type: ignore[no-any-return]
    if isinstance(value, (bool, int, float)) or (isinstance(value, list) and value):
        array = np.asarray(value)
        return array if array.dtype.kind in "biuf" else None
    return None


def _view(
    flat: npt.NDArray[Any], offset: int, shape: tuple[int, ...], stride: tuple[int, ...]
) -> npt.NDArray[Any]:
    if min((offset, *shape, *stride)) < 0 or len(shape) != len(stride):
        raise ValueError("a tensor has a negative size")
    count = int(np.prod(shape, dtype=np.float64))
    last = offset + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))
    if count and (last >= len(flat) or count > len(flat)):
        raise ValueError("a tensor is larger than its numbers")
    steps = tuple(step * flat.itemsize for step in stride)
    return np.lib.stride_tricks.as_strided(flat[offset:], shape, steps).copy()


def _storage_numbers(saved: bytes) -> npt.NDArray[Any]:
    """Read what ``torch.save`` wrote for one storage: five pickles, then the numbers."""
    stream = io.BytesIO(saved)
    _scan(saved)
    head = [_Unpickler(stream, fix_imports=False).load() for _ in range(5)]
    magic, _, system, storage, _ = head
    if magic != _MAGIC or not system.get("little_endian", True):
        raise ValueError("numbers in an unknown format")
    count = int.from_bytes(stream.read(8), "little", signed=True)
    return np.frombuffer(stream.read(), dtype=storage.dtype, count=count)


def _dtype(value: Any) -> np.dtype[Any]:
    code, state = value.arguments[0], value.state
    order = state[1] if isinstance(state, tuple) and state[1] in "<>" else ""
    dtype: np.dtype[Any] = np.dtype(order + code)
    if dtype.kind not in "biuf":
        raise _RefusedError(f"an array of type {code!r}")
    return dtype


def _bytes(value: Any) -> bytes:
    if isinstance(value, _Encoded) and value.arguments[1] == "latin1":
        return str(value.arguments[0]).encode("latin1")
    return bytes(value)


def _guarded(program: bytes, where: str) -> Any:
    try:
        _scan(program)
        return _Unpickler(io.BytesIO(program), fix_imports=False).load()
    except _RefusedError as error:
        raise _refusal(where, str(error)) from error
    # A damaged or hostile program can make the parser fail in any way; all mean the same.
    except Exception as error:
        raise DataError(
            f"{where} is damaged ({str(error)[:200] or type(error).__name__})",
            fix="Copy the file again.",
        ) from error


def _scan(program: bytes) -> None:
    """Look at all instructions of the first pickle without running any."""
    for opcode, argument, _ in pickletools.genops(program):
        if opcode.name in _FORBIDDEN_OPCODES:
            raise _RefusedError("an object of the extension registry")
        if opcode.name in _MEMO_OPCODES and argument is not None and argument > len(program):
            raise ValueError(f"it remembers an object in place {argument}")


def _refusal(where: str, name: str) -> DataError:
    return DataError(
        f"{where} asks for {name!r}, which adatom does not run; nothing in it was executed",
        expected="a graph of tensors and numbers, as the Open Catalyst Project writes them",
        fix="Open it with other tools only if you trust its source.",
    )
