"""Batches as PyTorch Geometric ``Batch`` objects, and back."""

from __future__ import annotations

import importlib
import warnings
from types import ModuleType
from typing import Any

import torch

from adatom.core.errors import MissingExtraError
from adatom.data.atomic_data import AtomicData
from adatom.data.frameworks.fields import Fields, data_from, fields_of


def import_pyg() -> ModuleType:
    """Return ``torch_geometric.data``.

    Raises:
        MissingExtraError: If PyTorch Geometric is not installed.
    """
    try:
        with warnings.catch_warnings():
            # It scripts parts of itself on import, which PyTorch no longer likes.
            warnings.simplefilter("ignore", DeprecationWarning)
            return importlib.import_module("torch_geometric.data")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "torch_geometric":
            raise
        raise MissingExtraError("torch-geometric", "pyg") from error


def to_pyg(
    data: AtomicData, *, vectors: torch.Tensor | None = None, dtype: torch.dtype | None = None
) -> Any:
    """Return a ``torch_geometric.data.Batch`` with the fields of a batch.

    Names are those of :mod:`adatom.data.frameworks.fields`, with ``batch``, ``ptr`` and, where
    there are edges, ``edge_index``, ``cell_offsets``, ``edge_vectors`` and ``edge_distances``.
    Nothing is copied; gradients go through positions, cell and edge vectors.

    Args:
        data: With or without edges.
        vectors: ``[E, 3]`` edge vectors that are there already; None computes them.
        dtype: Of positions, cell and edge vectors; None keeps theirs.

    Raises:
        MissingExtraError: If PyTorch Geometric is not installed.
    """
    fields = fields_of(data, vectors=vectors, dtype=dtype)
    batch = import_pyg().Batch(batch=data.batch, ptr=_slices(data.natoms))
    per_system = torch.arange(data.num_systems + 1)
    groups = [(fields.atoms, batch.ptr), (fields.systems, per_system)]
    if fields.edge_index is not None and fields.edge_counts is not None:
        per_edge = _slices(fields.edge_counts)
        groups += [({"edge_index": fields.edge_index}, per_edge), (fields.edges, per_edge)]
    slices = {}
    for group, rows in groups:
        for name, value in group.items():
            batch[name] = value
            slices[name] = rows
    # What Batch.from_data_list leaves, so that to_data_list() and batch[i] can take it apart.
    nothing = torch.zeros(data.num_systems, dtype=torch.int64)
    batch._num_graphs = data.num_systems  # noqa: SLF001
    batch._slice_dict = slices  # noqa: SLF001
    batch._inc_dict = dict.fromkeys(slices, nothing)  # noqa: SLF001
    if "edge_index" in slices:
        batch._inc_dict["edge_index"] = batch.ptr[:-1]  # noqa: SLF001
    return batch


def from_pyg(graph: Any) -> AtomicData:
    """Return the batch of a ``torch_geometric.data`` ``Data`` or ``Batch``.

    Gradients go through positions and cell. Fields that a batch has no place for are left out.

    Args:
        graph: With the names of :mod:`adatom.data.frameworks.fields`.

    Raises:
        DataError: If something that a structure needs is missing or has a wrong shape.
    """
    found = dict(graph.to_dict())
    fields = Fields(atoms=found, edges=found, systems=found, edge_index=found.get("edge_index"))
    ptr, batch = found.get("ptr"), found.get("batch")
    if ptr is not None:
        found["natoms"] = ptr[1:] - ptr[:-1]
    else:
        found["natoms"] = [graph.num_nodes] if batch is None else torch.bincount(batch)
    return data_from(fields, "The graph")


def _slices(counts: torch.Tensor) -> torch.Tensor:
    return torch.cat([counts.new_zeros(1), torch.cumsum(counts, 0)])
