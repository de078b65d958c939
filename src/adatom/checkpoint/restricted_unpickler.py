"""Read a pickle as data: nothing that it names is imported or called.

A pickle is a program: it names globals and calls them. Here each name on a short list stands for
an inert record of this module, and any other name is refused before it is looked up. Tensors and
storages stay descriptions. Format: https://docs.python.org/3/library/pickletools.html.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from adatom.core.errors import CheckpointError

#: Instructions that reach objects other than through ``find_class``.
_FORBIDDEN_OPCODES = {"EXT1", "EXT2", "EXT4"}
#: Characters of the parser's reason that are shown; it may quote the file.
_SHOWN = 200
#: Instructions whose argument is a place in the memo.
_MEMO_OPCODES = {"PUT", "BINPUT", "LONG_BINPUT"}


class Record:
    """An object of the pickled program, reduced to the state it was saved with.

    Every class here has ``__setstate__``: without it, a pickle could set attributes of the class.
    """

    state: Any = None

    def __setstate__(self, state: Any) -> None:
        """Keep the state as data."""
        self.state = state


class CheckpointRecord(Record):
    """``MLIPInferenceCheckpoint``: a dict of four entries."""


class ContainerRecord(Record):
    """OmegaConf's ``DictConfig`` or ``ListConfig``: state ``{"_content": ..., ...}``."""


class ValueRecord(Record):
    """OmegaConf's ``AnyNode``: state ``{"_val": ..., ...}``."""


class MetadataRecord(Record):
    """OmegaConf's book-keeping, which is not needed."""


class TensorRecord(Record):
    """Stands for ``torch._utils._rebuild_tensor_v2(storage, offset, shape, stride, ...)``."""

    view: tuple[Any, Any, Any, Any] = (None, None, None, None)

    def __init__(self, storage: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> None:
        self.view = (storage, offset, shape, stride)


class MappingRecord(dict[Any, Any]):
    """``OrderedDict`` or ``defaultdict``; a default factory and attributes are dropped."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(arguments[0] if arguments and isinstance(arguments[0], list) else ())

    def __setstate__(self, state: Any) -> None:
        """Drop attributes, such as the ``_metadata`` of a state dict."""


class StorageRecord(NamedTuple):
    """Raw numbers in the archive."""

    dtype: torch.dtype
    key: str
    numel: int


_STORAGES = {
    "torch.FloatStorage": torch.float32,
    "torch.DoubleStorage": torch.float64,
    "torch.LongStorage": torch.int64,
}
#: Types that are only mentioned; their names stand for them.
_TYPES = (
    *_STORAGES,
    "typing.Any",
    *("__builtin__.dict", "__builtin__.list", "__builtin__.long"),
    *("builtins.dict", "builtins.list", "builtins.int"),
)

#: Every global that a file may name, and what stands for it.
ALLOWED_GLOBALS: Mapping[str, Any] = {
    "fairchem.core.units.mlip_unit.api.inference.MLIPInferenceCheckpoint": CheckpointRecord,
    "collections.OrderedDict": MappingRecord,
    "collections.defaultdict": MappingRecord,
    "torch._utils._rebuild_tensor_v2": TensorRecord,
    "omegaconf.dictconfig.DictConfig": ContainerRecord,
    "omegaconf.listconfig.ListConfig": ContainerRecord,
    "omegaconf.nodes.AnyNode": ValueRecord,
    "omegaconf.base.ContainerMetadata": MetadataRecord,
    "omegaconf.base.Metadata": MetadataRecord,
    **{name: name for name in _TYPES},
}


class _RefusedError(Exception):
    """A global that is not on the list."""


class _RestrictedUnpickler(pickle.Unpickler):
    """Resolves names by the table above and storages to their descriptions."""

    def __init__(self, program: bytes) -> None:
        # fix_imports would rename Python 2 names before they reach the table.
        super().__init__(io.BytesIO(program), fix_imports=False)

    def find_class(self, module_name: str, global_name: str) -> Any:
        name = f"{module_name}.{global_name}"
        if name not in ALLOWED_GLOBALS:
            raise _RefusedError(name)
        return ALLOWED_GLOBALS[name]

    def persistent_load(self, pid: Any) -> StorageRecord:
        kind, storage_type, key, _, numel = pid
        if kind != "storage" or not isinstance(key, str) or not isinstance(numel, int):
            raise pickle.UnpicklingError("a storage is described wrongly")
        return StorageRecord(_STORAGES[storage_type], key, numel)


def read_pickle(program: bytes, source: str) -> Any:
    """Return the pickled object, made of dicts, lists, plain values and records.

    Args:
        program: The pickle.
        source: The file's name, for messages.

    Raises:
        CheckpointError: If the pickle names a global that is not on the list (it is named, and
            nothing was called), or is damaged.
    """
    try:
        if _scan(program) & _FORBIDDEN_OPCODES:
            refused = "objects of the extension registry"
        else:
            return _RestrictedUnpickler(program).load()
    except _RefusedError as error:
        refused = repr(str(error))
    # A damaged or hostile program can make the parser fail in any way; all mean the same.
    except Exception as error:
        raise CheckpointError(
            f"{source!r} is damaged: {str(error)[:_SHOWN] or type(error).__name__}",
            fix="Copy or download the file again.",
        ) from error
    raise CheckpointError(
        f"{source!r} asks for {refused}, which adatom does not run; nothing in the file was "
        "executed",
        expected="an official fairchem inference checkpoint (weights and settings only)",
        fix="Open it with other tools only if you trust its source.",
    )


def _scan(program: bytes) -> set[str]:
    """Return the names of all instructions, without running any.

    Raises:
        ValueError: If the program is cut off, or would make the unpickler allocate a memo that is
            larger than the program.
    """
    used = set()
    for opcode, argument, _ in pickletools.genops(program):
        used.add(opcode.name)
        if opcode.name in _MEMO_OPCODES and argument is not None and argument > len(program):
            raise ValueError(f"it remembers an object in place {argument}")
    return used
