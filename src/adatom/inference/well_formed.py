"""Structures made by hand are checked before anything reads them: shapes, types, numbers."""

from __future__ import annotations

import math

import torch

from adatom.core.errors import DataError
from adatom.data.atomic_data import AtomicData

_FLOATING = "a floating type such as torch.float64"


def check_well_formed(data: AtomicData) -> None:
    """Refuse a system or batch that is not what :class:`AtomicData` says.

    Kernels read memory where these tensors point to, so nothing here is left to chance.

    Raises:
        DataError: Naming the structure and what is wrong with it.
    """
    where = f"Structure {data.sid[0]!r}" if data.sid else "The batch"
    _check_tensors(data, where)
    _check_systems(data, where)
    _check_edges(data, where)
    _check_numbers(data)


def _check_tensors(data: AtomicData, where: str) -> None:
    """Check types, shapes and devices."""
    if not isinstance(data.pos, torch.Tensor) or not isinstance(data.natoms, torch.Tensor):
        raise DataError(
            f"{where} has pos of type {type(data.pos).__name__}", expected="torch tensors"
        )
    atoms, systems = data.pos.shape[:1].numel(), data.natoms.numel()
    expected: dict[str, tuple[tuple[int, ...], torch.dtype | None]] = {
        "pos": ((atoms, 3), None),
        "cell": ((systems, 3, 3), None),
        "pbc": ((systems, 3), torch.bool),
        "atomic_numbers": ((atoms,), torch.int64),
        "batch": ((atoms,), torch.int64),
        "natoms": ((systems,), torch.int64),
        "charge": ((systems,), torch.int64),
        "spin": ((systems,), torch.int64),
    }
    for name, (shape, dtype) in expected.items():
        _check_tensor(getattr(data, name), f"{where} has {name}", shape, dtype, data.pos.device)


def _check_tensor(
    value: torch.Tensor,
    what: str,
    shape: tuple[int, ...],
    dtype: torch.dtype | None,
    device: torch.device,
) -> None:
    """Check one tensor; no dtype means any floating one."""
    if not isinstance(value, torch.Tensor):
        raise DataError(f"{what} of type {type(value).__name__}", expected="a torch tensor")
    if value.dtype != dtype and (dtype is not None or not value.dtype.is_floating_point):
        raise DataError(f"{what} of type {value.dtype}", expected=str(dtype or _FLOATING))
    if value.shape != shape:
        raise DataError(f"{what} of shape {tuple(value.shape)}", expected=f"shape {shape}")
    if value.is_meta:
        raise DataError(f"{what} on the device 'meta', where there are no numbers")
    if value.device != device:
        raise DataError(
            f"{what} on {value.device} and positions on {device}",
            fix="Move the whole structure: data.to(device).",
        )


def _check_systems(data: AtomicData, where: str) -> None:
    """Check that all atoms belong to a system, in order, and that every system has its names."""
    systems = data.num_systems
    for name in ("dataset", "sid"):
        value = getattr(data, name)
        if isinstance(value, str) or len(value) != systems:
            raise DataError(
                f"{where} has {name} {value!r}", expected=f"a list with {systems} entries"
            )
    if systems == 1:
        right = bool((data.natoms[0] == data.num_atoms) & ~data.batch.any())
    else:
        right = int(data.natoms.sum()) == data.num_atoms and int(data.natoms.min()) >= 0
        right = right and torch.equal(
            data.batch,
            torch.repeat_interleave(torch.arange(systems, device=data.natoms.device), data.natoms),
        )
    if not right:
        raise DataError(
            f"{where}: natoms and batch do not fit {data.num_atoms} positions",
            expected="natoms that sum to them, and batch with the system of each atom in order",
        )


def _check_edges(data: AtomicData, where: str) -> None:
    edges = data.edges
    if edges is None:
        return
    count = edges.index.shape[-1] if isinstance(edges.index, torch.Tensor) else 0
    integers, device = torch.int64, data.pos.device
    _check_tensor(edges.index, f"{where} has edges.index", (2, count), integers, device)
    _check_tensor(edges.offsets, f"{where} has edges.offsets", (count, 3), integers, device)
    _check_tensor(edges.counts, f"{where} has edges.counts", (data.num_systems,), integers, device)
    right = edges.counts.sum() == count
    if count:
        # One number to wait for on a device.
        lowest, highest = torch.aminmax(edges.index)
        target = edges.index[1]
        right &= (lowest >= 0) & (highest < data.num_atoms) & (target[1:] >= target[:-1]).all()
    if not bool(right):
        raise DataError(
            f"{where} has edges that do not fit its {data.num_atoms} atoms",
            expected="indices of atoms, sorted by target, and counts that sum to the edges",
            fix="Call data.with_edges(cutoff).",
        )


def _check_numbers(data: AtomicData) -> None:
    for name, word in (("pos", "positions"), ("cell", "cell")):
        value: torch.Tensor = getattr(data, name)
        # The sum is finite only if every number is, up to overflow, which the slow way decides.
        if math.isfinite(float(value.detach().sum())):
            continue
        rows = torch.isfinite(value.flatten(1)).all(1)
        if bool(rows.all()):
            continue
        row = int(torch.nonzero(~rows)[0])
        system = int(data.batch[row]) if name == "pos" else row
        raise DataError(
            f"Structure {data.sid[system]!r} has NaN or infinite numbers in its {word}",
            expected="finite numbers",
        )
