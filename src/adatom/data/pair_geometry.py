"""What the distances of one structure say: shortest ones, images, fingerprint."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase.data import covalent_radii

from adatom.core.errors import AdatomError
from adatom.data.atomic_data import AtomicData
from adatom.data.fingerprint import FINGERPRINT_SIZE, geometry_fingerprint
from adatom.graph.neighbors import neighbor_list

#: Distances are complete up to here in structures with a periodic axis, angstrom.
PERIODIC_REACH = 5.0

#: The same for molecules, where all pairs are cheap, so that dissociation curves stay distinct.
MOLECULAR_REACH = 12.0

_ALL_PAIRS_LIMIT = 256
_BOND_FACTOR = 1.25
_MOLECULE_LIMIT = 64


@dataclass(frozen=True, slots=True)
class PairGeometry:
    """Numbers from the distances of one structure; see :class:`adatom.data.survey.Survey`."""

    min_distance: float
    min_ratio: float
    min_pair: tuple[int, int]
    outside: float
    image_gap: float
    fingerprint: np.ndarray

    @classmethod
    def undefined(cls) -> PairGeometry:
        """Return the row of a structure whose distances cannot be computed."""
        nan = float("nan")
        return cls(nan, nan, (0, 0), nan, nan, np.full(FINGERPRINT_SIZE, np.nan))


@dataclass(frozen=True, slots=True)
class _Pairs:
    source: np.ndarray
    target: np.ndarray
    offsets: np.ndarray
    distance: np.ndarray
    reach: float


def pair_geometry(system: AtomicData) -> PairGeometry:
    """Compute shortest distances, position in the cell and fingerprint of one structure.

    Structures whose neighbor list cannot be built (no cell in spite of pbc, ...) give
    :meth:`PairGeometry.undefined`; the doctor's cell check names the reason.
    """
    periodic = bool(system.pbc.any())
    try:
        if periodic or system.num_atoms > _ALL_PAIRS_LIMIT:
            pairs = _pairs_in_cell(system)
        else:
            pairs = _all_pairs(system)
        outside = _outside(system) if periodic else 0.0
    except (AdatomError, np.linalg.LinAlgError):
        return PairGeometry.undefined()
    numbers = system.atomic_numbers.numpy()
    radii = covalent_radii[numbers]
    ratio = pairs.distance / (radii[pairs.source] + radii[pairs.target])
    closest = int(np.argmin(ratio)) if len(ratio) else -1
    return PairGeometry(
        min_distance=float(pairs.distance.min()) if len(ratio) else float("nan"),
        min_ratio=float(ratio[closest]) if len(ratio) else float("nan"),
        min_pair=_pair_of(numbers, pairs, closest) if len(ratio) else (0, 0),
        outside=outside,
        image_gap=_image_gap(system.num_atoms, pairs, ratio) if periodic else float("nan"),
        fingerprint=geometry_fingerprint(
            numbers, pairs.source, pairs.target, pairs.distance, pairs.reach
        ),
    )


def _pair_of(numbers: np.ndarray, pairs: _Pairs, edge: int) -> tuple[int, int]:
    low, high = sorted((int(numbers[pairs.source[edge]]), int(numbers[pairs.target[edge]])))
    return low, high


def _all_pairs(system: AtomicData) -> _Pairs:
    pos = system.pos.double().numpy()
    target, source = np.nonzero(~np.eye(len(pos), dtype=bool))
    distance = np.linalg.norm(pos[source] - pos[target], axis=1)
    offsets = np.zeros((len(source), 3), dtype=np.int64)
    return _Pairs(source, target, offsets, distance, MOLECULAR_REACH)


def _pairs_in_cell(system: AtomicData) -> _Pairs:
    edges = neighbor_list(system.pos, system.cell, system.pbc, PERIODIC_REACH)
    distance = np.linalg.norm(edges.vectors(system.pos, system.cell).double().numpy(), axis=1)
    source, target = edges.index.numpy()
    return _Pairs(source, target, edges.offsets.numpy(), distance, PERIODIC_REACH)


def _outside(system: AtomicData) -> float:
    """How far the outermost atom lies beyond ``[0, 1]`` along a periodic axis, in cells."""
    cell = system.cell[0].double().numpy()
    pbc = system.pbc[0].numpy()
    # Axes without a vector (mixed pbc) do not matter for the periodic ones.
    fractional = system.pos.double().numpy() @ np.linalg.pinv(cell)
    fractional = fractional[:, pbc]
    return max(0.0, float((fractional - 1.0).max()), float((-fractional).max()))


def _image_gap(n: int, pairs: _Pairs, ratio: np.ndarray) -> float:
    """Shortest distance from a single finite molecule to its images, or NaN.

    NaN where the atoms form several molecules or a bonded network through the boundary.
    """
    if not 2 <= n <= _MOLECULE_LIMIT:
        return float("nan")
    neighbors: list[list[int]] = [[] for _ in range(n)]
    for bond in np.flatnonzero(ratio < _BOND_FACTOR).tolist():
        neighbors[int(pairs.target[bond])].append(bond)
    image: list[tuple[int, ...] | None] = [None] * n
    image[0] = (0, 0, 0)
    stack = [0]
    while stack:
        atom = stack.pop()
        for edge in neighbors[atom]:
            here = image[atom]
            other = int(pairs.source[edge])
            there = tuple(int(a + b) for a, b in zip(here or (), pairs.offsets[edge], strict=True))
            if image[other] is None:
                image[other] = there
                stack.append(other)
            elif image[other] != there:
                return float("nan")
    if any(place is None for place in image):
        return float("nan")
    places = np.array(image)
    own = (places[pairs.target] + pairs.offsets == places[pairs.source]).all(axis=1)
    return float(pairs.distance[~own].min()) if bool((~own).any()) else float("inf")
