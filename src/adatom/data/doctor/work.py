"""Do energies, forces and stresses belong together? dE against the work they imply.

Between two structures i, j with the same atoms in the same order and slightly different positions
and cells, second-order accurate in the displacement (trapezoidal rule),

    E_j - E_i = 1/2 sum_{k=i,j} [ V_k sigma_k : e_k  -  F_k . u_k ],

with the homogeneous deformation e (cell_j = cell_i (1 + e)) and the displacement u of the atoms
beside it, so that each sign, unit and shift of a label shows as a slope or offset.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.spatial import cKDTree

from adatom.data.atomic_data import AtomicData
from adatom.data.survey import Survey

#: Pairs that are compared at most.
MAX_PAIRS = 600

_MAX_DISPLACEMENT = 0.4  # angstrom, any atom
_MAX_STRAIN = 0.08
_NEIGHBORS = 3


@dataclass(frozen=True, slots=True)
class WorkPairs:
    """Compared pairs; P pairs. Energies in eV, NaN where a label is missing.

    Attributes:
        first: ``[P]`` row of structure i.
        second: ``[P]`` row of structure j.
        energy: ``[P]`` ``E_j - E_i``.
        force_work: ``[P]`` ``-F.u`` of the mean forces.
        stress_work: ``[P]`` ``V sigma : e`` of the mean stress; 0 where the cell is the same.
        volume: ``[P]`` mean volume, angstrom^3 (0 without a cell).
        expansion: ``[P]`` ``V tr(e)``, angstrom^3.
        strain: ``[P]`` largest component of e.
        shift: ``[P]`` root mean square displacement u, angstrom.
        force_scale: ``[P]`` mean size of the works of the forces at i and at j, which cancel in
            part near a minimum: the size of what the difference is made of.
        stress_scale: ``[P]`` the same for the stress.
        curvature: ``[P]`` ``-(F_j - F_i).u``, eV; positive near a minimum.
    """

    first: np.ndarray
    second: np.ndarray
    energy: np.ndarray
    force_work: np.ndarray
    stress_work: np.ndarray
    volume: np.ndarray
    expansion: np.ndarray
    strain: np.ndarray
    shift: np.ndarray
    force_scale: np.ndarray
    stress_scale: np.ndarray
    curvature: np.ndarray

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.first)


def work_pairs(systems: Sequence[AtomicData], columns: Survey) -> WorkPairs:
    """Find pairs of neighboring structures and compute energy differences and work.

    Args:
        systems: Single structures; only those of candidate pairs are read.
        columns: Their survey.

    Returns:
        At most 600 pairs; none where no two structures are near enough.
    """
    candidates = _candidates(columns)
    if len(candidates) > 3 * MAX_PAIRS:
        chosen = np.linspace(0, len(candidates) - 1, 3 * MAX_PAIRS).astype(int)
        candidates = [candidates[i] for i in chosen]
    rows = []
    for i, j in candidates:
        row = _compare(systems[i], systems[j])
        if row is not None:
            rows.append((i, j, *row))
        if len(rows) == MAX_PAIRS:
            break
    table = np.array(rows, dtype=np.float64).reshape(-1, 12)
    return WorkPairs(table[:, 0].astype(int), table[:, 1].astype(int), *table[:, 2:].T)


def _candidates(columns: Survey) -> list[tuple[int, int]]:
    """Pairs with the same atom order: next in the file, and nearest in geometry."""
    groups: dict[tuple[object, ...], list[int]] = {}
    for i in range(len(columns)):
        usable = columns.natoms[i] > 1 or columns.pbc[i].any()
        if usable and np.isfinite(columns.fingerprint[i]).all():
            key = (
                columns.dataset[i],
                columns.numbers[i],
                int(columns.charge[i]),
                int(columns.spin[i]),
                columns.pbc[i].tobytes(),
            )
            groups.setdefault(key, []).append(i)
    pairs: set[tuple[int, int]] = set()
    for rows in groups.values():
        pairs.update(pairwise(rows))
        if len(rows) > 2:
            pairs.update(_nearest(columns, np.array(rows)))
    return sorted(pairs)


def _nearest(columns: Survey, rows: np.ndarray) -> set[tuple[int, int]]:
    points = np.concatenate(
        [columns.fingerprint[rows], columns.cell[rows].reshape(len(rows), 9) / 10.0], axis=1
    )
    count = min(_NEIGHBORS + 1, len(rows))
    _, near = cKDTree(points).query(points, k=count)
    pairs = set()
    for a, others in enumerate(near):
        for b in others:
            if a != b:
                low, high = sorted((int(rows[a]), int(rows[b])))
                pairs.add((low, high))
    return pairs


def _compare(one: AtomicData, two: AtomicData) -> tuple[float, ...] | None:
    """Return the columns of :class:`WorkPairs` from ``energy`` on, or None if too far apart."""
    cells = one.cell[0].double().numpy(), two.cell[0].double().numpy()
    pos = one.pos.double().numpy(), two.pos.double().numpy()
    forces = _label(one, "forces", pos[0].shape), _label(two, "forces", pos[1].shape)
    pbc = one.pbc[0].numpy()
    strain = np.zeros((2, 3, 3))
    if not pbc.any():
        shift, forces = _molecular_shift(pos, forces)
    elif np.allclose(cells[0], cells[1], rtol=0.0, atol=1e-10):
        shift = _wrapped_shift(pos, cells[0], pbc)
    elif pbc.all():
        shift = _scaled_shift(pos, cells)
        strain = np.stack([np.linalg.solve(cell, cells[1] - cells[0]) for cell in cells])
    else:
        return None
    largest, bend = float(np.linalg.norm(shift, axis=1).max()), float(np.abs(strain).max())
    if largest > _MAX_DISPLACEMENT or bend > _MAX_STRAIN or largest + bend < 1e-7:
        return None
    volume = np.array([abs(np.linalg.det(cell)) if pbc.all() else 0.0 for cell in cells])
    stress_work = np.zeros(2)
    if bend > 0.0:
        stress = np.stack([_label(system, "stress", (3, 3)) for system in (one, two)])
        stress_work = volume * (stress * strain).sum(axis=(1, 2))
    force_work = -(np.stack(forces) * shift).sum(axis=(1, 2))
    return (
        float(_label(two, "energy", ()) - _label(one, "energy", ())),
        float(force_work.mean()),
        float(stress_work.mean()),
        float(volume.mean()),
        0.5 * float((volume * np.trace(strain, axis1=1, axis2=2)).sum()),
        bend,
        float(np.sqrt((shift**2).sum(axis=1).mean())),
        float(np.abs(force_work).mean()),
        float(np.abs(stress_work).mean()),
        float(force_work[1] - force_work[0]),
    )


def _label(system: AtomicData, name: str, shape: tuple[int, ...]) -> np.ndarray:
    if name not in system.labels:
        return np.full(shape, np.nan)
    return system.labels[name].double().numpy().reshape(shape)


def _wrapped_shift(
    pos: tuple[np.ndarray, np.ndarray], cell: np.ndarray, pbc: np.ndarray
) -> np.ndarray:
    shift = pos[1] - pos[0]
    jumps = np.round(shift @ np.linalg.pinv(cell)) * pbc
    shift = shift - jumps @ cell
    return np.asarray(shift - shift.mean(axis=0))


def _scaled_shift(
    pos: tuple[np.ndarray, np.ndarray], cells: tuple[np.ndarray, np.ndarray]
) -> np.ndarray:
    """Displacement beside the homogeneous deformation, in the mean cell."""
    scaled = [np.linalg.solve(c.T, p.T).T for c, p in zip(cells, pos, strict=True)]
    shift = scaled[1] - scaled[0]
    # The common translation is free; taking it from the first atom keeps the wrap unambiguous.
    shift = shift - shift[0]
    shift = shift - np.round(shift)
    return np.asarray((shift - shift.mean(axis=0)) @ (0.5 * (cells[0] + cells[1])))


def _molecular_shift(
    pos: tuple[np.ndarray, np.ndarray], forces: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Displacement after the best rotation of the second molecule onto the first (Kabsch 1976)."""
    one, two = (p - p.mean(axis=0) for p in pos)
    left, _, right = np.linalg.svd(two.T @ one)
    left[:, -1] *= np.sign(np.linalg.det(left @ right))
    rotation = left @ right
    return two @ rotation - one, (forces[0], forces[1] @ rotation)
