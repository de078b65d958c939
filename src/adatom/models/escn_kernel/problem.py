"""The arguments of one call of the kernel (``AdatomProblem`` in ``cpp/problem.h``)."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import torch

from adatom.core.errors import GraphError

_INT, _LONG, _DOUBLE, _POINTER = ctypes.c_int32, ctypes.c_int64, ctypes.c_double, ctypes.c_void_p


class Problem(ctypes.Structure):
    """See ``cpp/problem.h``; the order of the fields is part of the interface."""

    _fields_ = (
        *(
            (name, _INT)
            for name in (
                *(
                    "channels",
                    "hidden",
                    "edge_channels",
                    "basis",
                    "lmax",
                    "mmax",
                    "layers",
                    "types",
                ),
                *("groups", "systems", "threads", "room", "intervals"),
                *("charge_start", "charge_stop", "spin_start", "spin_stop"),
            )
        ),
        ("cutoff", _DOUBLE),
        ("degree_rescale", _DOUBLE),
        ("atoms", _LONG),
        ("edges", _LONG),
        ("kept_bytes", _LONG),
        *(
            (name, _POINTER)
            for name in (
                *(
                    "weights",
                    "ranks",
                    "first_edge",
                    "source",
                    "pairs",
                    "group",
                    "system",
                    "vectors",
                ),
                *("invariants", "embeddings", "charge", "spin"),
            )
        ),
        ("all_atoms", _LONG),
        ("halo", _LONG),
        ("exchange", _POINTER),
    )


@dataclass(frozen=True)
class Systems:
    """What a call needs of the systems, apart from geometry.

    Attributes:
        types: ``[N]`` int64 element type of each atom, then of those of the halo.
        num_types: T.
        group: ``[N]`` int32; which merged weights.
        num_groups: G.
        system: ``[N]`` int32.
        invariants: ``[N, C]`` what the invariant features start from.
        embeddings: ``[B, C]`` of charge, spin and dataset.
        charge: ``[B]`` in the network's dtype.
        spin: ``[B]`` in the network's dtype.
        all_atoms: Atoms of all systems, those of other workers included.
        ranks: ``[networks, T * T]`` int32; functions per radial table, empty without tables.
        weights: Addresses of the weights in order.
        tensors: What they are addresses of.
    """

    types: torch.Tensor
    num_types: int
    group: torch.Tensor
    num_groups: int
    system: torch.Tensor
    invariants: torch.Tensor
    embeddings: torch.Tensor
    charge: torch.Tensor
    spin: torch.Tensor
    all_atoms: int
    ranks: torch.Tensor
    weights: ctypes.Array[ctypes.c_void_p]
    tensors: list[torch.Tensor]


@dataclass(frozen=True)
class EdgeArrays:
    """The edges in the kernel's form.

    Attributes:
        source: ``[E]`` int32.
        pairs: ``[E]`` int32, target type * T + source type.
        first_edge: ``[N + 1]`` int64.
    """

    source: torch.Tensor
    pairs: torch.Tensor
    first_edge: torch.Tensor


def edge_arrays(source: torch.Tensor, target: torch.Tensor, systems: Systems) -> EdgeArrays:
    """Convert edges.

    Raises:
        GraphError: If they are not sorted by target; the kernel would give them to other atoms.
    """
    if bool((target[1:] < target[:-1]).any()):
        raise GraphError(
            "Edges are not sorted by target",
            expected="edge_index[1] that never falls",
            fix="Build them with data.with_edges(cutoff), or sort them.",
        )
    atoms = systems.group.shape[0]
    first_edge = torch.zeros(atoms + 1, dtype=torch.int64)
    torch.cumsum(torch.bincount(target, minlength=atoms), 0, out=first_edge[1:])
    pairs = torch.add(systems.types[source], systems.types[target], alpha=systems.num_types)
    return EdgeArrays(source.to(torch.int32), pairs.to(torch.int32), first_edge)
