"""Signs, units and shifts of forces and stresses against energy differences."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from adatom.data.doctor.context import Context
from adatom.data.doctor.finding import Finding
from adatom.data.doctor.work import WorkPairs

#: Pairs needed before anything is said.
FEWEST_PAIRS = 6

#: A slope within this factor of a known one counts as that one.
SLOPE_FACTOR = 1.12

#: Smallest correlation of energy differences and work that is a relation at all.
CORRELATION = 0.9

#: Pairs nearer than this (angstrom, root mean square) must show a relation, and this many are
#: enough to say that they do not. Sound sets have 0.98 or more there (zuo2020, qm7x, oc20, ...).
CLOSE_SHIFT = 0.15
ENOUGH_CLOSE_PAIRS = 20
NO_CORRELATION = 0.7

_WILD = 20.0

_GPA = 160.21766208
_HARTREE, _BOHR = 27.211386, 0.52917721
_KCAL, _KJ = 23.060548, 96.485332

#: dE / work for forces -> what would explain it. dE and work are in the units of the file.
_FORCE_SLOPES = {
    1.0 / _HARTREE: "energies in hartree with forces in eV/angstrom",
    _KCAL: "energies in kcal/mol with forces in eV/angstrom",
    _KJ: "energies in kJ/mol with forces in eV/angstrom",
    1.0 / _KCAL: "energies in eV with forces in kcal/mol/angstrom",
    1.0 / _KJ: "energies in eV with forces in kJ/mol/angstrom",
    _HARTREE: "energies in eV with forces in hartree/angstrom",
    _HARTREE / _BOHR: "energies in eV with forces in hartree/bohr",
    1.0 / _BOHR: "forces per bohr instead of per angstrom (hartree and hartree/bohr?)",
    _KCAL * _HARTREE / _BOHR: "energies in kcal/mol with forces in hartree/bohr",
    _BOHR: "forces per angstrom with lengths in bohr",
}

#: dE / work for stresses (without those that involve the volume).
_STRESS_SLOPES = {
    1.0 / _GPA: "stress in GPa",
    0.1 / _GPA: "stress in kbar",
    0.1: "stress in kbar that was converted as GPa",
    10.0: "stress in GPa that was converted as kbar",
    1.0 / _HARTREE * _BOHR**3: "stress in eV/angstrom^3 taken as hartree/bohr^3",
    _HARTREE / _BOHR**3: "stress in hartree/bohr^3",
}


def check_forces_against_energy(context: Context) -> list[Finding]:
    """Compare energy differences of neighboring structures with the work of the forces."""
    pairs = context.work
    moving = (pairs.strain < 1e-9) & np.isfinite(pairs.force_work) & (pairs.shift > 1e-5)
    both = moving & np.isfinite(pairs.energy)
    close = both & (pairs.shift < CLOSE_SHIFT)
    enough = int(close.sum()) >= ENOUGH_CLOSE_PAIRS
    both = close if enough else both
    sids = context.survey.sids(np.unique(pairs.first[both]))
    fit = _fit(pairs.energy[both], pairs.force_work[both], pairs.force_scale[both])
    if fit is None or abs(fit.correlation) < CORRELATION:
        findings = _check_curvature(context, moving)
        if not findings and enough and (fit is None or abs(fit.correlation) < NO_CORRELATION):
            findings = [_unrelated(fit, int(both.sum()), sids)]
        return findings
    what = (
        f"Energy differences of {fit.count} pairs of neighboring structures are {fit.slope:.4g} "
        f"times the work of their forces (correlation {fit.correlation:.3f}; 1 is expected)"
    )
    if -1.6 < fit.slope < -0.6:
        return [
            Finding(
                "error",
                "forces-are-gradients",
                f"{what}: these are gradients, not forces.",
                "Flip the sign: label_keys.forces: -key.",
                sids,
            )
        ]
    name = _name_of(fit.slope)
    if name is None and 0.7 < fit.slope < 1.4:
        return []
    if name is None:
        return [
            Finding(
                "warning",
                "forces-and-energy",
                f"{what}.",
                "Check the units of both and whether they belong to the same level of theory "
                "(free energy against energy at zero smearing, kinetic energy included?).",
                sids,
            )
        ]
    return [
        Finding(
            "error",
            "force-or-energy-unit",
            f"{what}: {name}.",
            "Declare units.energy, forces.",
            sids,
        )
    ]


def _unrelated(fit: _Fit | None, count: int, sids: tuple[str, ...]) -> Finding:
    correlation = 0.0 if fit is None else fit.correlation
    return Finding(
        "error",
        "energy-and-forces-unrelated",
        f"Energy differences of {count} pairs of close structures have nothing to do with the work "
        f"of their forces (correlation {correlation:.2f}).",
        "Energies with kinetic energy in them, energies and forces in different order, or "
        "forces of another model: find out which label is right and leave out the other.",
        sids,
    )


def _check_curvature(context: Context, moving: np.ndarray) -> list[Finding]:
    """Without usable energies: forces must pull back from displacements on the average."""
    pairs = context.work
    curvature = pairs.curvature[moving]
    if len(curvature) < 2 * FEWEST_PAIRS or (curvature < 0.0).mean() < 0.9:
        return []
    return [
        Finding(
            "error",
            "forces-are-gradients",
            f"In {(curvature < 0).mean():.0%} of {len(curvature)} pairs of neighboring structures "
            "the forces push further away: these are gradients, not forces.",
            "Flip the sign: label_keys.forces: -key.",
            context.survey.sids(np.unique(pairs.first[moving])),
        )
    ]


def check_stress_against_energy(context: Context) -> list[Finding]:
    """Compare energy differences under small deformations with the work of the stress."""
    pairs = context.work
    # The work of forces, if there are any, is part of the energy difference.
    rest = pairs.energy - np.nan_to_num(pairs.force_work)
    strained = (pairs.strain >= 1e-9) & np.isfinite(pairs.stress_work) & np.isfinite(rest)
    strained &= np.abs(np.nan_to_num(pairs.force_work)) < 3.0 * np.abs(rest) + 1e-3
    work, rest = pairs.stress_work[strained], rest[strained]
    volume = pairs.volume[strained]
    scale = pairs.stress_scale[strained]
    if len(work) < FEWEST_PAIRS:
        return []
    sids = context.survey.sids(np.unique(pairs.first[strained]))
    plain = _related(rest, work, scale)
    if plain is not None and 0.8 < plain.slope < 1.25:
        return _shift_finding(rest - work, work, pairs, strained, sids)
    explained = []
    for sign, factor, name in _stress_hypotheses(volume):
        fit = _related(rest, sign * factor * work, factor * scale)
        if fit is not None and _near(fit.slope, 1.0):
            explained.append((fit, sign, name))
    if explained:
        fit, sign, name = max(explained, key=lambda case: case[0].correlation)
        return [_stress_scale_finding(fit, sign, name, sids)]
    shifted = _shift_finding(rest - work, work, pairs, strained, sids)
    if shifted:
        return shifted
    if plain is None:
        return []
    return [
        Finding(
            "warning",
            "stress-and-energy",
            f"Energy differences of {plain.count} pairs of strained structures are "
            f"{plain.slope:.3g} times the work of the stress (1 is expected).",
            "Check the unit, sign and component order of the stress before training on it.",
            sids,
        )
    ]


def check_stress_magnitude(context: Context) -> list[Finding]:
    """Report stresses of a size that only other units explain."""
    trace = np.abs(context.survey.stress_trace)
    trace = trace[np.isfinite(trace)]
    if len(trace) < FEWEST_PAIRS or np.median(trace) < 1.0:
        return []
    return [
        Finding(
            "warning",
            "stress-magnitude",
            f"Half of the structures are under more than {np.median(trace):.3g} eV/angstrom^3 "
            f"({np.median(trace) * _GPA:.4g} GPa).",
            "Unless these are planetary cores, the stress is in GPa or kbar, or it is the virial: "
            "declare units.stress or label_keys.virial.",
        )
    ]


@dataclass(frozen=True, slots=True)
class _Fit:
    slope: float
    correlation: float
    count: int


def _fit(energy: np.ndarray, work: np.ndarray, scale: np.ndarray) -> _Fit | None:
    """Slope of ``energy = slope * work`` through the origin, if there is enough to fit.

    Pairs weigh by ``1 / scale``: those that lie on two sides of a minimum, where the works at
    both ends cancel and only the error is left, count little.
    """
    if len(energy) < FEWEST_PAIRS or not work.any() or not energy.any():
        return None
    weight = 1.0 / np.maximum(scale, 0.1 * _typical(scale))
    x, y = work * weight, energy * weight
    # One wild energy must not decide.
    y = np.clip(y, -_WILD * _typical(y), _WILD * _typical(y))
    correlation = float(x @ y / np.sqrt((x @ x) * (y @ y)))
    return _Fit(float(y @ x / (x @ x)), correlation, len(energy))


def _related(energy: np.ndarray, work: np.ndarray, scale: np.ndarray) -> _Fit | None:
    fit = _fit(energy, work, scale)
    return fit if fit is not None and abs(fit.correlation) >= CORRELATION else None


def _typical(values: np.ndarray) -> float:
    return float(np.median(np.abs(values))) or float(np.abs(values).max())


def _near(value: float, wanted: float) -> bool:
    return 1.0 / SLOPE_FACTOR < value / wanted < SLOPE_FACTOR


def _name_of(slope: float) -> str | None:
    known = min(_FORCE_SLOPES, key=lambda value: abs(np.log(abs(slope) / value)))
    if not _near(abs(slope), known):
        return None
    return _FORCE_SLOPES[known] + (", and with the wrong sign" if slope < 0.0 else "")


def _stress_hypotheses(volume: np.ndarray) -> list[tuple[float, np.ndarray, str]]:
    cases: list[tuple[float, np.ndarray, str]] = [
        (-1.0, np.ones_like(volume), "the sign of the stress is wrong")
    ]
    for sign in (1.0, -1.0):
        suffix = "" if sign > 0 else ", and with the wrong sign"
        cases.append((sign, 1.0 / volume, f"virials (volume times stress) given as stress{suffix}"))
        for factor, name in _STRESS_SLOPES.items():
            cases.append((sign, np.full_like(volume, factor), name + suffix))
    return cases


def _stress_scale_finding(fit: _Fit, sign: float, name: str, sids: tuple[str, ...]) -> Finding:
    return Finding(
        "error",
        "stress-sign" if name.startswith("the sign") else "stress-unit",
        f"Energy differences of {fit.count} pairs of strained structures agree with the work of "
        f"the stress only if this holds: {name} (correlation {fit.correlation:.3f}).",
        "Flip it with label_keys.stress: -key."
        if sign < 0 and name.startswith("the sign")
        else "Declare units.stress (or label_keys.virial), with a minus before the key for the "
        "opposite sign.",
        sids,
    )


def _shift_finding(
    excess: np.ndarray,
    work: np.ndarray,
    pairs: WorkPairs,
    strained: np.ndarray,
    sids: tuple[str, ...],
) -> list[Finding]:
    """Report a constant pressure by which the stresses miss the energy differences."""
    expansion = pairs.expansion[strained]
    usable = np.abs(expansion) > 0.1 * np.abs(expansion).max()
    if usable.sum() < FEWEST_PAIRS:
        return []
    center, spread = _intercept(
        pairs.strain[strained][usable] ** 2, excess[usable] / expansion[usable]
    )
    pressure = work[usable] / expansion[usable]
    small = max(0.3 / _GPA, 0.05 * float(np.median(np.abs(pressure))))
    if abs(center) < small or abs(center) < 2.0 * spread:
        return []
    return [
        Finding(
            "warning",
            "stress-shift",
            f"The stress of {int(usable.sum())} pairs of strained structures misses -dE/dV of "
            f"the energies by {-center * _GPA:+.2f} GPa (spread {spread * _GPA:.2f} GPa).",
            "Do not train on this stress or judge by it (leave stress out of label_keys); a "
            "plane-wave cutoff too small for stress (Pulay stress) is a usual reason.",
            sids,
        )
    ]


def _intercept(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Robust ``y = a + b x``: a, and the spread of the residual (both in units of y).

    The error of the trapezoidal rule in a pressure goes with the square of the strain, always
    to the same side; the shift is what remains at zero strain.
    """
    keep = np.abs(y - np.median(y)) <= 10.0 * np.median(np.abs(y - np.median(y))) + 1e-12
    matrix = np.stack([np.ones_like(x), x], axis=1)
    solution, *_ = np.linalg.lstsq(matrix[keep], y[keep], rcond=None)
    rest = np.abs(y - matrix @ solution)
    return float(solution[0]), 1.4826 * float(np.median(rest))
