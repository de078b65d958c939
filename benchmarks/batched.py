"""Many simulations together, or one after the other: ``python -m benchmarks.batched``.

Three ways take turns in one process: together (:mod:`adatom.simulate.batched`), a loop of
adatom's single simulations, and a loop of ASE's own optimizer or integrator with adatom's
calculator. Before anything is timed, energies of the three are compared. Ratios are taken within
a round, of wall-clock and of processor seconds; the latter hardly see what else the machine does.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from ase import Atoms, units
from ase.io import iread
from ase.md.langevin import Langevin
from ase.optimize import FIRE, LBFGS
from ase.optimize.optimize import Optimizer

from adatom import __version__
from adatom.calculators.ase_calculator import MLIPCalculator
from adatom.core.console import say
from adatom.core.errors import AdatomError, ConfigError
from adatom.inference.predict_unit import MLIPPredictUnit
from adatom.simulate.batched.dynamics import run_many_md
from adatom.simulate.batched.flight import Dynamics
from adatom.simulate.batched.relaxation import RelaxationSettings, relax_many
from adatom.simulate.ensembles import NVT, StepRandom, thermalize
from adatom.simulate.md import run_md
from adatom.simulate.relax import relax
from benchmarks.records import RESULTS, circumstances, load_average, record

DATA = Path(__file__).resolve().parents[1] / "examples" / "data"
#: Name to file and task of the embedded potential.
SETS = {
    "molecules": (DATA / "acac_test.extxyz", "acac"),
    "silicon": (DATA / "silicon_test.extxyz", "zuo2020"),
}
OPTIMIZERS: dict[str, type[Optimizer]] = {"FIRE": FIRE, "LBFGS": LBFGS}
COLUMNS = (
    "job",
    "structures",
    "atoms each",
    "steps",
    "together /s",
    "loop /s",
    "ASE loop /s",
    "together over loop",
    "over ASE loop",
    "over loop, processor",
    "over ASE loop, processor",
    "max dE",
)
NOTE = (
    "Relaxations per second, or steps of dynamics per second of all structures. Medians over "
    "rounds; 'processor' are ratios of processor seconds. The largest difference of the last "
    "energies between the three ways is in eV."
)


@dataclass
class Way:
    """One way to do a job.

    Attributes:
        run: Does it and returns the last energies.
        wall: Seconds of each round.
        processor: Processor seconds of each round.
    """

    run: Callable[[], list[float]]
    wall: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)

    def timed(self) -> list[float]:
        """Run once and note how long it took."""
        wall, processor = time.perf_counter(), time.process_time()
        energies = self.run()
        self.wall.append(time.perf_counter() - wall)
        self.processor.append(time.process_time() - processor)
        return energies


def structures_of(name: str, count: int) -> list[Atoms]:
    """Return ``count`` structures of a set, displaced so that no two are equal."""
    found = list(iread(str(SETS[name][0])))
    chosen = []
    for i in range(count):
        atoms = found[i % len(found)].copy()
        atoms.calc = None
        atoms.rattle(0.05, seed=i)
        chosen.append(atoms)
    return chosen


def relaxations(
    starts: list[Atoms], unit: MLIPPredictUnit, task: str, optimizer: str, steps: int
) -> dict[str, Way]:
    """Return three ways to relax all structures."""
    calculator = MLIPCalculator(unit, task)
    settings = RelaxationSettings(optimizer=optimizer, fmax=0.05, steps=steps)

    def together() -> list[float]:
        return [r.energies[-1] for r in relax_many(starts, unit, task_name=task, settings=settings)]

    def loop() -> list[float]:
        done = [
            relax(atoms, calculator, optimizer=optimizer, fmax=0.05, steps=steps)
            for atoms in starts
        ]
        return [result.energies[-1] for result in done]

    def ase_loop() -> list[float]:
        energies = []
        for start in starts:
            atoms = start.copy()
            atoms.calc = calculator
            OPTIMIZERS[optimizer](atoms, logfile=None).run(fmax=0.05, steps=steps)
            energies.append(float(atoms.get_potential_energy()))
        return energies

    return {"together": Way(together), "loop": Way(loop), "ASE": Way(ase_loop)}


def dynamics(starts: list[Atoms], unit: MLIPPredictUnit, task: str, steps: int) -> dict[str, Way]:
    """Return three ways to run Langevin dynamics of all structures."""
    calculator = MLIPCalculator(unit, task)
    ensemble = NVT(temperature=300.0)
    runs = [
        Dynamics(structure=atoms, ensemble=ensemble, steps=steps, seed=i, interval=steps)
        for i, atoms in enumerate(starts)
    ]

    def together() -> list[float]:
        return [r.log[-1].potential_energy_eV for r in run_many_md(runs, unit, task_name=task)]

    def loop() -> list[float]:
        return [
            run_md(
                run.structure, calculator, ensemble=ensemble, steps=steps, seed=run.seed,
                interval=steps,
            ).log[-1].potential_energy_eV
            for run in runs
            if isinstance(run.structure, Atoms)
        ]  # fmt: skip

    def ase_loop() -> list[float]:
        energies = []
        for seed, start in enumerate(starts):
            atoms, random = start.copy(), StepRandom(seed)
            thermalize(atoms, ensemble.temperature, random)
            atoms.calc = calculator
            integrator = Langevin(
                atoms, units.fs, temperature_K=ensemble.temperature, fixcm=False,
                friction=ensemble.friction / units.fs, rng=random.generator,
            )  # fmt: skip
            for step in range(steps):
                random.begin_step(step)
                integrator.step()
            energies.append(float(atoms.get_potential_energy()))
        return energies

    return {"together": Way(together), "loop": Way(loop), "ASE": Way(ase_loop)}


def measure(ways: dict[str, Way], rounds: int, tolerance: float) -> float:
    """Let the ways take turns, after one round each that is not counted.

    Returns:
        The largest difference of energies, in eV.

    Raises:
        ConfigError: If the ways do not do the same.
    """
    found = [way.run() for way in ways.values()]
    difference = float(np.abs(np.array(found[1:]) - np.array(found[0])).max())
    if not difference < tolerance:
        raise ConfigError(f"The last energies differ by {difference:.2g} eV: nothing is compared")
    for number in range(rounds):
        # Another one begins each round.
        order = list(ways.values())
        for way in order[number % 3 :] + order[: number % 3]:
            way.timed()
    return difference


def row_of(
    job: str, starts: Sequence[Atoms], steps: int, per_round: float, ways: dict[str, Way], d: float
) -> list[object]:
    """Return a row of the table; ``per_round`` is how much is done in one."""
    together, *loops = ways.values()
    speeds = [per_round / statistics.median(way.wall) for way in ways.values()]
    ratios = [
        statistics.median(
            a / b for a, b in zip(getattr(way, of), getattr(together, of), strict=True)
        )
        for of in ("wall", "processor")
        for way in loops
    ]
    sizes = sorted({len(atoms) for atoms in starts})
    atoms = str(sizes[0]) if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
    return [job, len(starts), atoms, steps, *speeds, *ratios, f"{d:.0e}"]


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser("python -m benchmarks.batched", description=__doc__)
    parser.add_argument("--model", default="default", help="name or path of a checkpoint")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--count", type=int, default=24, help="structures of each set")
    parser.add_argument("--steps", type=int, default=20, help="of dynamics, and of relaxation")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--record", type=Path, default=RESULTS, help="file to append to")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> None:
    """Measure, print and record."""
    options = parse(arguments)
    load = load_average()
    torch.set_num_threads(options.threads)
    unit = MLIPPredictUnit.load(options.model, device=options.device)
    rows: list[list[object]] = []
    for name in options.sets:
        task = SETS[name][1]
        starts = structures_of(name, options.count)
        for optimizer in OPTIMIZERS:
            ways = relaxations(starts, unit, task, optimizer, options.steps)
            # float32 networks: rounding grows a little along the path.
            found = measure(ways, options.rounds, 1e-3)
            title = f"{name}, {optimizer}"
            rows.append(row_of(title, starts, options.steps, len(starts), ways, found))
        ways = dynamics(starts, unit, task, options.steps)
        found = measure(ways, options.rounds, 1e-3)
        steps = len(starts) * options.steps
        rows.append(row_of(f"{name}, NVT", starts, options.steps, steps, ways, found))
    title = f"Many structures together, {options.model}, {options.threads} thread(s)"
    versions = {"adatom": __version__, "torch": torch.__version__}
    facts = circumstances("benchmarks.batched", versions, load, device=options.device)
    record(title, facts, COLUMNS, rows, notes=[NOTE], path=options.record)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except AdatomError as error:
        say(f"benchmarks.batched: {error}")
        raise SystemExit(2) from None
