"""One pass over a dataset: everything that statistics and the doctor need, as plain columns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import numpy as np

from adatom.core.errors import DataError
from adatom.data.atomic_data import AtomicData
from adatom.data.pair_geometry import PairGeometry, pair_geometry


@dataclass(frozen=True, slots=True)
class Survey:
    """Columns with one row per structure; S structures.

    NaN means "not given" or "not defined". Energies in eV, forces in eV/angstrom, stress in
    eV/angstrom^3, lengths in angstrom.

    Attributes:
        sid: Identifiers.
        dataset: Dataset names.
        labels: Names of the labels of each structure.
        bad: Names of the labels (or ``"pos"``, ``"cell"``) that hold NaN or infinity.
        numbers: Atomic numbers in file order, as bytes (uint8); equal for one atom ordering.
        counts: ``[S, 119]`` int32 atoms of each element.
        natoms: ``[S]`` int64.
        charge: ``[S]`` int64.
        spin: ``[S]`` int64 multiplicity, 0 if not given.
        pbc: ``[S, 3]`` bool.
        cell: ``[S, 3, 3]`` float64.
        energy: ``[S]`` float64.
        force_square: ``[S]`` sum of squares of the force components of free atoms.
        force_max: ``[S]`` largest force norm among free atoms.
        net_force: ``[S]`` norm of the sum of all forces.
        num_fixed: ``[S]`` int64 atoms held by a constraint.
        fixed_forces_zero: ``[S]`` bool; there are fixed atoms and all their forces are 0.
        stress_trace: ``[S]`` trace of the stress divided by 3.
        min_distance: ``[S]`` shortest distance (NaN: none within reach).
        min_ratio: ``[S]`` smallest distance over the sum of covalent radii.
        min_pair: ``[S, 2]`` int64 atomic numbers of the pair of ``min_ratio``.
        outside: ``[S]`` how far an atom lies outside the cell along a periodic axis, in cells.
        image_gap: ``[S]`` shortest distance between a single finite molecule and its images.
        fingerprint: ``[S, F]`` float64, NaN where the geometry is broken.
    """

    sid: list[str]
    dataset: list[str]
    labels: list[frozenset[str]]
    bad: list[frozenset[str]]
    numbers: list[bytes]
    counts: np.ndarray
    natoms: np.ndarray
    charge: np.ndarray
    spin: np.ndarray
    pbc: np.ndarray
    cell: np.ndarray
    energy: np.ndarray
    force_square: np.ndarray
    force_max: np.ndarray
    net_force: np.ndarray
    num_fixed: np.ndarray
    fixed_forces_zero: np.ndarray
    stress_trace: np.ndarray
    min_distance: np.ndarray
    min_ratio: np.ndarray
    min_pair: np.ndarray
    outside: np.ndarray
    image_gap: np.ndarray
    fingerprint: np.ndarray

    def __len__(self) -> int:
        """Return the number of structures."""
        return len(self.sid)

    @property
    def volume(self) -> np.ndarray:
        """``[S]`` signed cell volume in angstrom^3 (negative: left-handed, 0: no cell)."""
        return np.asarray(np.linalg.det(self.cell))

    @property
    def energy_per_atom(self) -> np.ndarray:
        """``[S]`` eV per atom."""
        return np.asarray(self.energy / self.natoms)

    def has(self, label: str) -> np.ndarray:
        """Return ``[S]`` bool: which structures carry ``label``."""
        return np.array([label in names for names in self.labels], dtype=bool)

    def sids(self, rows: np.ndarray) -> tuple[str, ...]:
        """Return the identifiers of ``rows`` (indices or a bool mask)."""
        index = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows
        return tuple(self.sid[int(i)] for i in index)


def survey(systems: Sequence[AtomicData], *, advance: Callable[[], None] | None = None) -> Survey:
    """Read every structure once and keep one row of numbers for each.

    Args:
        systems: Single systems (not batches).
        advance: Called after each structure, such as a progress bar's.

    Raises:
        DataError: If there is no structure, or an entry is a batch or has no atoms.
    """
    if len(systems) == 0:
        raise DataError("The dataset has no structures", expected="at least one")
    rows = []
    for i in range(len(systems)):
        rows.append(_row(systems[i]))
        if advance is not None:
            advance()
    columns: dict[str, object] = {}
    for item in fields(Survey):
        values = [row[item.name] for row in rows]
        columns[item.name] = values if item.name in _LISTS else np.array(values)
    return Survey(**columns)  # type: ignore[arg-type]  # one value per field of Survey


_LISTS = frozenset({"sid", "dataset", "labels", "bad", "numbers"})


def _row(system: AtomicData) -> dict[str, object]:
    if system.num_systems != 1 or system.num_atoms == 0:
        raise DataError(
            f"Entry {', '.join(system.sid)!r} has {system.num_systems} systems and "
            f"{system.num_atoms} atoms",
            expected="single structures with at least one atom",
        )
    numbers = system.atomic_numbers.numpy()
    if numbers.min() < 1 or numbers.max() > 118:
        raise DataError(
            f"Structure {system.sid[0]!r} has atomic numbers from {numbers.min()} to "
            f"{numbers.max()}",
            expected="atomic numbers from 1 to 118",
        )
    bad = {name for name in ("pos", "cell") if not bool(getattr(system, name).isfinite().all())}
    bad |= {name for name, value in system.labels.items() if not bool(value.isfinite().all())}
    geometry = PairGeometry.undefined() if bad & {"pos", "cell"} else pair_geometry(system)
    return {
        "sid": system.sid[0],
        "dataset": system.dataset[0],
        "labels": frozenset(system.labels),
        "bad": frozenset(bad),
        "numbers": numbers.astype(np.uint8).tobytes(),
        "counts": np.bincount(numbers, minlength=119).astype(np.int32),
        "natoms": len(numbers),
        "charge": int(system.charge[0]),
        "spin": int(system.spin[0]),
        "pbc": system.pbc[0].numpy(),
        "cell": system.cell[0].numpy(),
        "min_distance": geometry.min_distance,
        "min_ratio": geometry.min_ratio,
        "min_pair": np.array(geometry.min_pair),
        "outside": geometry.outside,
        "image_gap": geometry.image_gap,
        "fingerprint": geometry.fingerprint,
        **_label_numbers(system, bad),
    }


def _label_numbers(system: AtomicData, bad: set[str]) -> dict[str, object]:
    out: dict[str, object] = {
        "energy": np.nan,
        "stress_trace": np.nan,
        "force_square": np.nan,
        "force_max": np.nan,
        "net_force": np.nan,
        "num_fixed": int(system.fixed.sum()),
        "fixed_forces_zero": False,
    }
    if "energy" in system.labels and "energy" not in bad:
        out["energy"] = float(system.labels["energy"].reshape(-1)[0])
    if "stress" in system.labels and "stress" not in bad:
        out["stress_trace"] = float(system.labels["stress"].reshape(3, 3).trace()) / 3.0
    if "forces" in system.labels and "forces" not in bad:
        forces = system.labels["forces"].double().numpy()
        fixed = system.fixed.numpy()
        free = forces[~fixed]
        out["force_square"] = float((free**2).sum())
        out["force_max"] = float(np.linalg.norm(free, axis=1).max()) if len(free) else 0.0
        out["net_force"] = float(np.linalg.norm(forces.sum(axis=0)))
        out["fixed_forces_zero"] = bool(fixed.any() and not forces[fixed].any())
    return out
