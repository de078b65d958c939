"""The fields of a graph by name, whoever's graph it is, and their way back to a batch.

Names are those of the Open Catalyst files: ``pos``, ``atomic_numbers``, ``cell``, ``natoms``,
``tags``, ``fixed``, ``edge_index``, ``cell_offsets``, and for labels ``y`` (energy), ``force``,
``y_relaxed``, ``pos_relaxed``; ``stress`` has its own name and any other label the prefix
``label_``. ``sid`` is the whole identifier; the ``fid`` of a graph from elsewhere is joined to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import torch

from adatom.core.errors import DataError
from adatom.data.atomic_data import SYSTEM_LABELS, AtomicData
from adatom.data.frameworks.plain_graph import to_plain
from adatom.graph.edges import Edges

#: Label -> field.
LABEL_FIELDS = MappingProxyType(
    {
        "energy": "y",
        "forces": "force",
        "stress": "stress",
        "relaxed_energy": "y_relaxed",
        "relaxed_pos": "pos_relaxed",
    }
)
_PREFIX = "label_"
_ATOMS = ("pos", "atomic_numbers", "tags", "fixed")
_SYSTEMS = ("cell", "pbc", "natoms", "charge", "spin")


@dataclass(slots=True)
class Fields:
    """What a graph holds, by what there is one row of.

    Attributes:
        atoms: ``[N, ...]`` by name.
        edges: ``[E, ...]`` by name, without ``edge_index``.
        systems: ``[B, ...]``, or a list of B texts, by name.
        edge_index: ``[2, E]`` int64, or None without edges.
        edge_counts: ``[B]`` int64, or None where they are not known.
    """

    atoms: dict[str, Any]
    edges: dict[str, Any] = field(default_factory=dict)
    systems: dict[str, Any] = field(default_factory=dict)
    edge_index: torch.Tensor | None = None
    edge_counts: torch.Tensor | None = None


def fields_of(
    data: AtomicData, *, vectors: torch.Tensor | None = None, dtype: torch.dtype | None = None
) -> Fields:
    """Return the fields of a batch; tensors are shared where the dtype allows.

    Args:
        data: With or without edges.
        vectors: ``[E, 3]`` edge vectors that are there already; None computes them.
        dtype: Of positions, cell and edge vectors; None keeps theirs.
    """
    fields = Fields({name: getattr(data, name) for name in _ATOMS})
    fields.systems = {name: getattr(data, name) for name in _SYSTEMS}
    fields.systems |= {"dataset": list(data.dataset), "sid": list(data.sid)}
    fields.atoms["pos"] = data.pos.to(dtype or data.pos.dtype)
    fields.systems["cell"] = data.cell.to(dtype or data.cell.dtype)
    for label, value in data.labels.items():
        rows = fields.systems if label in SYSTEM_LABELS else fields.atoms
        rows[LABEL_FIELDS.get(label, _PREFIX + label)] = value
    if data.edges is not None:
        graph = to_plain(data, vectors=vectors, dtype=dtype)
        fields.edge_index, fields.edge_counts = data.edges.index, data.edges.counts
        fields.edges = {
            "cell_offsets": data.edges.offsets,
            "edge_vectors": graph.edge_vectors,
            "edge_distances": graph.edge_distances,
        }
    return fields


def data_from(fields: Fields, what: str) -> AtomicData:
    """Return the batch that has these fields.

    Missing ones get what the Open Catalyst files mean by it: periodic where there is a cell, no
    charge, no tags. Edges are sorted; their vectors follow from positions, cell and offsets.

    Args:
        fields: At least ``pos``, ``atomic_numbers`` and ``natoms``.
        what: The graph, in words.

    Raises:
        DataError: If a field is missing, has another shape than it should, or the edges are not
            within systems or lack the offsets that a periodic system needs.
    """
    atoms, systems = fields.atoms, fields.systems
    for name in ("pos", "atomic_numbers"):
        if atoms.get(name) is None:
            raise DataError(f"{what} has no {name}", expected=f"{name} for each atom")
    pos = atoms["pos"].double()
    natoms = _numbers(systems["natoms"]).to(pos.device)
    count, number = len(natoms), int(natoms.sum())
    if pos.shape != (number, 3) or len(atoms["atomic_numbers"]) != number:
        raise DataError(
            f"{what} has positions of shape {tuple(pos.shape)} and "
            f"{len(atoms['atomic_numbers'])} atomic numbers for {number} atoms",
            expected="a position [3] and an atomic number for each atom",
        )
    zeros, none = natoms.new_zeros(number), natoms.new_zeros(count)
    cell = systems.get("cell")
    cell = pos.new_zeros(count, 3, 3) if cell is None else cell.double().reshape(count, 3, 3)
    pbc = systems.get("pbc")
    pbc = (cell != 0).any(dim=2) if pbc is None else pbc.bool().reshape(count, 3)
    data = AtomicData(
        pos=pos,
        atomic_numbers=_numbers(atoms["atomic_numbers"]),
        cell=cell,
        pbc=pbc,
        natoms=natoms,
        batch=torch.repeat_interleave(natoms, output_size=number),
        charge=_numbers(systems.get("charge", none)),
        spin=_numbers(systems.get("spin", none)),
        dataset=_texts(systems.get("dataset", ["default"] * count)),
        tags=_numbers(atoms.get("tags", zeros)),
        fixed=atoms.get("fixed", zeros).bool(),
        sid=_identifiers(systems, count),
        labels=_labels(atoms, systems),
    )
    data.edges = _edges(fields, data, what)
    return data


def _labels(atoms: Mapping[str, Any], systems: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    own = {name: label for label, name in LABEL_FIELDS.items()}
    labels = {}
    for name, value in {**atoms, **systems}.items():
        label = own.get(name)
        if label is None and name.startswith(_PREFIX):
            label = name.removeprefix(_PREFIX)
        if label is not None and value is not None:
            rows = torch.as_tensor(value)
            labels[label] = rows.reshape(-1) if label.endswith("energy") else rows
    return labels


def _edges(fields: Fields, data: AtomicData, what: str) -> Edges | None:
    index = fields.edge_index
    if index is None:
        return None
    offsets = fields.edges.get("cell_offsets")
    if offsets is None:
        if bool(data.pbc.any()):
            raise DataError(
                f"{what} is periodic and has edges without cell_offsets",
                expected="the image [3] that each edge goes to",
                fix="Give the edges cell_offsets, or leave edge_index out and find them anew.",
            )
        offsets = index.new_zeros(index.shape[1], 3)
    source, target = index
    if not torch.equal(data.batch[source], data.batch[target]):
        raise DataError(f"{what} has edges between different systems")
    if bool(((offsets != 0) & ~data.pbc[data.batch[target]]).any()):
        raise DataError(
            f"{what} has edges to images along directions that are not periodic",
            fix="Give the cell and pbc of its systems.",
        )
    if bool((target[1:] < target[:-1]).any()):
        order = torch.argsort(target, stable=True)
        index, offsets = index[:, order], offsets[order]
    counts = fields.edge_counts
    if counts is None:
        counts = torch.bincount(data.batch[target], minlength=data.num_systems)
    return Edges(index, offsets.long(), counts)


def _numbers(values: Any) -> torch.Tensor:
    return torch.as_tensor(values).reshape(-1).long()


def _identifiers(systems: Mapping[str, Any], count: int) -> list[str]:
    """Return the sid of each system, joined with the frame as in files that have both."""
    sid = _texts(systems.get("sid", range(count)))
    if systems.get("fid") is None:
        return sid
    frames = _texts(systems["fid"])
    return [f"{of}-frame-{frame}" for of, frame in zip(sid, frames, strict=True)]


def _texts(values: Any) -> list[str]:
    if isinstance(values, str):
        return [values]
    if isinstance(values, int):
        return [str(values)]
    return [str(value) for value in (values.tolist() if hasattr(values, "tolist") else values)]
