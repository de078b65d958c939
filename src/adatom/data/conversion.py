"""From files of any format to one file of another, in several processes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from adatom.core.errors import AdatomError, DataError
from adatom.core.files import atomic_write, require_writable
from adatom.data.ase_convert import to_ase
from adatom.data.parallel import map_rows
from adatom.data.sinks import Sink, find_sink
from adatom.data.structure_dataset import StructureDataset
from adatom.data.writers import add_info


@dataclass(frozen=True, slots=True)
class Rejected:
    """A structure that could not be converted.

    Attributes:
        index: Number in the input.
        name: File and number within it.
        reason: Why.
    """

    index: int
    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Conversion:
    """What was done.

    Attributes:
        written: Number of structures in the new file.
        rejected: Those that are not.
        list_of_rejected: The file with their names and reasons, if there are any.
    """

    written: int
    rejected: tuple[Rejected, ...]
    list_of_rejected: Path | None


def convert_dataset(
    systems: StructureDataset,
    output: str | os.PathLike[str],
    *,
    workers: int = 0,
    strict: bool = False,
    advance: Callable[[int], None] | None = None,
) -> Conversion:
    """Write all structures that are usable to another file, in order.

    ``output`` is either left alone or complete, also if the process is killed. Structures that are
    not usable are listed in ``OUTPUT.rejected.json``.

    Args:
        systems: Opened with ``lazy=True``, so that a damaged structure is met here.
        output: See :func:`adatom.data.writers.write_structures` for the formats.
        workers: Other processes that read and encode; 0 does it in this one.
        strict: Stop at the first structure that is not usable.
        advance: Called with the number of structures that are done.

    Raises:
        DataError: If no structure is usable, or one is not and ``strict`` was asked for.
        FileAccessError: If the place cannot be written.
    """
    file = Path(output)
    kind, compression = find_sink(file)
    listed = require_writable(file.with_name(f"{file.name}.rejected.json"))
    rejected: list[Rejected] = []
    with atomic_write(file) as part, kind(part, compression) as sink:
        for found in map_rows(partial(_encode, kind), systems, workers=workers):
            for one in found:
                if not isinstance(one, Rejected):
                    sink.add(one)
                elif strict:
                    raise DataError(f"{one.name} is not usable: {one.reason}")
                else:
                    rejected.append(one)
            if advance is not None:
                advance(len(found))
        if not sink.count:
            raise DataError(
                f"None of the {len(rejected)} structures is usable; the first: {rejected[0].reason}"
            )
    listed.unlink(missing_ok=True)  # of an earlier conversion to the same file
    if rejected:
        _write_list(listed, systems, sink.count, rejected)
    return Conversion(sink.count, tuple(rejected), listed if rejected else None)


def _encode(kind: type[Sink], systems: StructureDataset, rows: Sequence[int]) -> list[Any]:
    out: list[Any] = []
    for row in rows:
        try:
            system, info = systems.structure(row)
        except AdatomError as error:
            out.append(Rejected(row, systems.name(row), error.message))
            continue
        (atoms,) = to_ase(system)
        add_info(atoms, info)
        out.append(kind.encode(atoms))
    return out


def _write_list(
    path: Path, systems: StructureDataset, count: int, rejected: Sequence[Rejected]
) -> None:
    document = {
        "source": [str(source) for source in systems.paths],
        "written": count,
        "rejected": [{"index": r.index, "name": r.name, "reason": r.reason} for r in rejected],
    }
    with atomic_write(path) as part:
        part.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
