"""How fast a potential predicts one structure, and in how much memory."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from ase import Atoms

from adatom.calculators.ase_calculator import MLIPCalculator
from adatom.core.errors import ConfigError
from adatom.data.ase_convert import from_ase
from adatom.inference.predict_unit import MLIPPredictUnit
from adatom.nn.peak_memory import PeakMemory
from adatom.tasks.potential import Potential

#: Angstrom; every call sees new positions, as in dynamics.
_MOTION = 1e-3
_SECONDS_PER_DAY = 86400.0
#: Presets that are for many structures at once.
_FOR_MANY = ("batch",)
#: Structures and atoms in one call of those.
_MOST_STRUCTURES, _ABOUT_ATOMS = 16, 1000


@dataclass(frozen=True)
class Speed:
    """What was measured of one structure with one preset.

    Attributes:
        preset: Name of the inference settings.
        atoms: In the structure.
        edges: Directed pairs within the cutoff.
        properties: What each call computed.
        structures: Computed at once; more than one for presets that are made for that.
        calls: Timed ones.
        seconds: Median time per structure.
        first_seconds: Time of the first call, in which weights are merged and kernels compiled.
        peak_bytes: Largest memory of a call beyond the loaded model; None where it is not known.
        explanation: What was chosen for this model and machine, and why.
    """

    preset: str
    atoms: int
    edges: int
    properties: tuple[str, ...]
    structures: int
    calls: int
    seconds: float
    first_seconds: float
    peak_bytes: int | None
    explanation: str

    @property
    def atoms_per_second(self) -> float:
        """Atoms of all structures, per second."""
        return self.atoms / self.seconds

    def ns_per_day(self, timestep_fs: float) -> float | None:
        """Return the simulated time per day, one call per step; None if calls are of many."""
        if self.structures > 1:
            return None
        return timestep_fs * 1e-6 * _SECONDS_PER_DAY / self.seconds


def measure_speed(
    unit: MLIPPredictUnit,
    atoms: Atoms,
    preset: str,
    *,
    task_name: str | None = None,
    seconds: float = 10.0,
    repeats: int = 50,
) -> Speed:
    """Measure energy, forces and, where the cell has a volume, stress of one structure.

    The first call is timed apart. The second tells the memory, and is timed only if the limit
    leaves no time for another one. Atoms move a little from call to call.

    Args:
        unit: Prepared with the preset.
        atoms: The structure, with charge and spin in ``info`` if the task needs them.
        preset: Its name; that of ``batch`` measures many copies of the structure at once.
        task_name: The level of theory, needed only if the potential has several.
        seconds: After this time no further call is made.
        repeats: Timed calls at most.

    Raises:
        ConfigError: If a limit cannot be used.
        AdatomError: If the structure cannot be predicted.
    """
    if seconds <= 0 or repeats < 1:
        raise ConfigError(
            f"The limits are {seconds:g} seconds and {repeats} repeats",
            expected="more than 0 seconds and at least 1 repeat",
        )
    copies = 1
    if preset in _FOR_MANY:
        copies = max(2, min(_MOST_STRUCTURES, _ABOUT_ATOMS // max(1, len(atoms))))
    call, properties = _calls(unit, atoms, task_name, copies)
    first = _seconds(call, 0, unit.device)
    memory = PeakMemory(unit.device)
    second = _seconds(call, 1, unit.device)
    peak = memory.rise()
    times = [second] if second > seconds / 2 else []
    left = seconds - second
    while not times or (len(times) < repeats and left > 0):
        times.append(_seconds(call, len(times) + 2, unit.device))
        left -= times[-1]
    return Speed(
        preset=preset,
        atoms=len(atoms),
        edges=count_edges(unit.potential, atoms),
        properties=properties,
        structures=copies,
        calls=len(times),
        seconds=statistics.median(times) / copies,
        first_seconds=first,
        peak_bytes=peak,
        explanation=unit.explain(),
    )


def count_edges(potential: Potential, atoms: Atoms) -> int:
    """Return the number of directed pairs within the potential's cutoff."""
    data = from_ase(atoms, label_keys={})
    edges = data.with_edges(potential.cutoff, max_neighbors=potential.max_neighbors).edges
    return 0 if edges is None else int(edges.index.shape[1])


def recommend(speeds: Sequence[Speed], timestep_fs: float) -> str:
    """Return one sentence: what to take for this structure.

    Args:
        speeds: Of one structure; at least one.
        timestep_fs: Time of one step of dynamics, in fs.
    """
    many = [speed for speed in speeds if speed.structures > 1]
    single = [speed for speed in speeds if speed.structures == 1]
    if not single:
        best = min(many, key=lambda speed: speed.seconds)
        return f"Of many such structures, {best.preset!r} predicts one in {_ms(best)}."
    best = min(single, key=lambda speed: speed.seconds)
    default = next((speed for speed in single if speed.preset == "default"), None)
    # A few per cent are noise, and 'default' takes any input.
    if default is not None and best.seconds > 0.95 * default.seconds:
        best = default
    text = (
        f"For dynamics or relaxation take {best.preset!r}: {_ms(best)} per step, "
        f"{best.ns_per_day(timestep_fs):.3g} ns/day at {timestep_fs:g} fs"
    )
    if default is not None and best is not default:
        text += f", {default.seconds / best.seconds:.2g} times the speed of 'default'"
    if many:
        batch = min(many, key=lambda speed: speed.seconds)
        gain = best.seconds / batch.seconds
        text += (
            f"; for many such structures take {batch.preset!r}, {gain:.2g} times faster each"
            if gain > 1.05
            else f"; {batch.preset!r} gains nothing at this size"
        )
    return text + "."


def _ms(speed: Speed) -> str:
    return f"{1e3 * speed.seconds:.3g} ms"


def _calls(
    unit: MLIPPredictUnit, atoms: Atoms, task_name: str | None, copies: int
) -> tuple[Callable[[int], None], tuple[str, ...]]:
    """Return a function that makes the n-th call, and what it computes."""
    calculator = MLIPCalculator(unit, task_name)
    names = ["energy", "forces", *(["stress"] if atoms.cell.volume > 0 else [])]
    properties = tuple(name for name in names if name in calculator.implemented_properties)

    def one(number: int) -> None:
        calculator.calculate(_moved(atoms, number), properties)

    def many(number: int) -> None:
        systems = [_moved(known, copies * number + k) for k in range(copies)]
        unit.predict(systems, properties, task_name=calculator.task_name)

    if copies == 1:
        return one, properties
    known = atoms.copy()
    # What the task assumes where nothing is given.
    known.info["charge"], known.info["spin"] = calculator.rules.charge_and_spin(
        atoms.numbers,
        periodic=bool(atoms.pbc.any()),
        charge=atoms.info.get("charge"),
        spin=atoms.info.get("spin"),
        where=f"Structure {atoms.get_chemical_formula()!r}",
    )
    return many, properties


def _moved(atoms: Atoms, number: int) -> Atoms:
    copy: Atoms = atoms.copy()
    shifts = np.random.default_rng(number).uniform(-_MOTION, _MOTION, (len(atoms), 3))
    copy.positions = copy.positions + shifts
    return copy


def _seconds(call: Callable[[int], None], number: int, device: torch.device) -> float:
    started = time.perf_counter()
    call(number)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started
