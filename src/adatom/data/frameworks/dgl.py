"""Batches as batched DGL graphs, and back."""

from __future__ import annotations

from typing import Any

import torch

from adatom.core.errors import GraphError
from adatom.data.atomic_data import AtomicData
from adatom.data.frameworks.fields import Fields, data_from, fields_of
from adatom.data.frameworks.import_dgl import import_dgl


def to_dgl(
    data: AtomicData, *, vectors: torch.Tensor | None = None, dtype: torch.dtype | None = None
) -> Any:
    """Return a batched ``dgl.DGLGraph`` with the fields of a batch.

    ``ndata`` and ``edata`` have the fields of atoms and edges by the names of
    :mod:`adatom.data.frameworks.fields`. What there is one of per system (``cell``, ``natoms``,
    ``y``, ``sid``, ...) is in the dictionary ``graph.system_data``, which copies of the graph keep
    and which ``dgl.batch`` does not join. Nothing is copied; gradients go through positions, cell
    and edge vectors.

    Args:
        data: With edges.
        vectors: ``[E, 3]`` edge vectors that are there already; None computes them.
        dtype: Of positions, cell and edge vectors; None keeps theirs.

    Raises:
        GraphError: If ``data`` has no edges.
        MissingExtraError: If DGL is not installed.
        ConfigError: If DGL does not import; see :func:`import_dgl`.
    """
    dgl = import_dgl()
    fields = fields_of(data, vectors=vectors, dtype=dtype)
    if fields.edge_index is None:
        raise GraphError(
            "The batch has no edges",
            fix="Call data.with_edges(cutoff, max_neighbors=...) first.",
        )
    graph = dgl.graph(tuple(fields.edge_index), num_nodes=data.num_atoms)
    graph.set_batch_num_nodes(data.natoms)
    graph.set_batch_num_edges(fields.edge_counts)
    graph.ndata.update(fields.atoms)
    graph.edata.update(fields.edges)
    graph.system_data = fields.systems
    return graph


def from_dgl(graph: Any) -> AtomicData:
    """Return the batch of a ``dgl.DGLGraph``.

    Gradients go through positions and cell. Fields that a batch has no place for are left out.

    Args:
        graph: With the names of :func:`to_dgl`; without ``system_data`` its systems have no cell.

    Raises:
        DataError: If something that a structure needs is missing or has a wrong shape.
    """
    systems = dict(getattr(graph, "system_data", {}))
    systems["natoms"] = graph.batch_num_nodes()
    fields = Fields(
        atoms=dict(graph.ndata),
        edges=dict(graph.edata),
        systems=systems,
        edge_index=torch.stack(graph.edges()),
        edge_counts=graph.batch_num_edges(),
    )
    return data_from(fields, "The graph")
