"""How much the KIM driver adds to a network's evaluation, and what ranks gain.

    python -m benchmarks.kim                          512 and 4096 Si atoms, 1 and 2 ranks
    python -m benchmarks.kim --atoms 64 --steps 5     a quick look

A potential is exported as TorchScript and as a compiled program, installed into collections of
its own, and run in Debian's LAMMPS. Beside it: the predict unit in Python on the same crystal,
and ``adatom lammps`` (fix external). The driver times itself (ADATOM_KIM_TIMES): what it adds is
everything between KIM's call and its return but the network and its derivative.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ase import Atoms
from ase.build import bulk

from adatom.calculators.ase_calculator import MLIPCalculator
from adatom.checkpoint.format import load_potential
from adatom.core.console import say
from adatom.core.errors import AdatomError, ConfigError
from adatom.deploy.kim.description import Backend
from adatom.deploy.kim.driver_install import install_driver, installed_driver
from adatom.deploy.kim.export import ExportOptions, export_potential
from adatom.deploy.kim.model_install import install_model
from adatom.evaluate.speed import count_edges, measure_speed
from adatom.inference.predict_unit import MLIPPredictUnit
from benchmarks.kim_run import Measured, run_external, run_kim
from benchmarks.records import RESULTS, circumstances, load_average, record

_BACKENDS: dict[str, Backend] = {"script": "torchscript", "aoti": "aotinductor"}
_COLUMNS = (
    "atoms", "edges", "program", "ranks", "ms/step", "of it driver ms", "of it network ms",
    "driver adds %", "times 1 rank", "start-up s", "peak GB per rank",
)  # fmt: skip
_NOTE = (
    "ms/step is LAMMPS's loop time; for the predict unit it is one call with energy, forces and "
    "stress, neighbors included, at positions that move. Edges are directed pairs within the "
    "cutoff of the periodic crystal; a rank computes more, those of its ghosts. Driver ms is the "
    "time between KIM's call and its return, mean over ranks; the driver adds that less the time "
    "in the network and its derivative. Start-up is the time of the program that is in no step. "
    "LAMMPS ran with MALLOC_MMAP_MAX_=0 and MALLOC_TRIM_THRESHOLD_=100000000000."
)


def main() -> None:
    """Measure and record."""
    options = _options()
    before = load_average()
    rows: list[list[object]] = []
    with (
        tempfile.TemporaryDirectory(prefix="adatom-kim-") as folder,
        _collections(Path(folder), options.drivers),
    ):
        if installed_driver() is None:
            say("Building the driver ...")
            install_driver("environment")
        names = _install(options, Path(folder))
        for repeat in options.repeats:
            atoms = silicon(repeat)
            rows += _rows(options, atoms, names, Path(folder))
    import torch

    facts = circumstances(
        "benchmarks.kim",
        {"torch": torch.__version__},
        before,
        potential=f"{options.model}, task {options.task}, float32"
        if options.dtype is None
        else f"{options.model}, task {options.task}, {options.dtype}",
    )
    record("LAMMPS through KIM", facts, _COLUMNS, rows, notes=[_NOTE], path=Path(options.record))


def silicon(repeat: int) -> Atoms:
    """Return a rattled crystal of ``8 repeat^3`` atoms."""
    atoms: Atoms = bulk("Si", cubic=True) * (repeat, repeat, repeat)
    atoms.rattle(0.05, seed=1)
    return atoms


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--model", default="default")
    parser.add_argument("--task", default="zuo2020")
    parser.add_argument("--atoms", type=int, nargs="+", default=[512, 4096])
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--backends", nargs="+", choices=list(_BACKENDS), default=list(_BACKENDS))
    parser.add_argument("--dtype", choices=["float32", "float64"], default=None)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=1, help="the fastest of so many counts")
    parser.add_argument("--drivers", type=Path, help="folder that keeps the driver for later runs")
    parser.add_argument("--no-python", action="store_true", help="KIM only")
    parser.add_argument("--record", default=str(RESULTS))
    found = parser.parse_args()
    found.repeats = [round((count / 8) ** (1 / 3)) for count in found.atoms]
    if any(
        8 * repeat**3 != count for repeat, count in zip(found.repeats, found.atoms, strict=True)
    ):
        raise ConfigError(f"--atoms is {found.atoms}", expected="8 n^3: 64, 216, 512, 4096 ...")
    return found


@contextmanager
def _collections(folder: Path, drivers: Path | None) -> Iterator[None]:
    """Let KIM install into folders of this run alone, and see nothing else of the user's."""
    variables = {
        "KIM_API_MODEL_DRIVERS_DIR": drivers or folder / "drivers",
        "KIM_API_PORTABLE_MODELS_DIR": folder / "models",
        "KIM_API_SIMULATOR_MODELS_DIR": folder / "simulators",
    }
    for path in variables.values():
        path.mkdir(exist_ok=True)
    variables["KIM_API_CONFIGURATION_FILE"] = folder / "configuration"
    kept = {name: os.environ.get(name) for name in variables}
    os.environ |= {name: str(path) for name, path in variables.items()}
    try:
        yield
    finally:
        for name, value in kept.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _install(options: argparse.Namespace, folder: Path) -> dict[str, str]:
    """Export and install every backend; return the models' names."""
    import torch

    potential, names = load_potential(options.model), {}
    # Experts are merged for what they run on.
    merged = getattr(potential.backbone, "composition_embedding", None) is not None
    for number, backend in enumerate(options.backends):
        name = f"Benchmark__MO_{number:012d}_000"
        say(f"Exporting and installing {backend} ...")
        made = export_potential(
            potential,
            ExportOptions(
                name=name,
                backend=_BACKENDS[backend],
                dataset=options.task,
                species=("Si",),
                composition="Si" if merged else None,
                dtype=None if options.dtype is None else getattr(torch, options.dtype),
            ),
            folder / name,
            provenance={"benchmark": options.model},
        )
        install_model(made.folder, "environment")
        names[backend] = name
    return names


def _rows(
    options: argparse.Namespace, atoms: Atoms, names: dict[str, str], folder: Path
) -> list[list[object]]:
    edges = count_edges(load_potential(options.model), atoms)
    rows: list[list[object]] = []

    def add(program: str, ranks: int, found: Measured, one: Measured | None) -> None:
        gain = None if one is None or ranks == 1 else one.step / found.step
        rows.append(
            [
                len(atoms), edges, program, ranks, found.step * 1e3,
                None if found.driver is None else found.driver * 1e3,
                None if found.network is None else found.network * 1e3,
                found.overhead, gain, found.startup, found.peak_gb,
            ]
        )  # fmt: skip

    for backend, name in names.items():
        one = None
        for ranks in options.ranks:
            say(f"{len(atoms)} atoms, KIM {backend}, {ranks} rank(s) ...")
            runs = [
                run_kim(folder / "run", name, atoms, ranks=ranks, steps=options.steps)
                for _ in range(options.rounds)
            ]
            best = min(runs, key=lambda run: run.step)
            one = best if ranks == 1 else one
            add(f"KIM {backend}", ranks, best, one)
    if not options.no_python:
        rows += _python_rows(options, atoms, edges, folder)
    return rows


def _python_rows(
    options: argparse.Namespace, atoms: Atoms, edges: int, folder: Path
) -> list[list[object]]:
    """Measure the predict unit alone, and in fix external."""
    rows: list[list[object]] = []
    for preset in ("default", "turbo"):
        say(f"{len(atoms)} atoms, predict unit, {preset} ...")
        unit = MLIPPredictUnit.load(options.model, preset)
        MLIPCalculator(unit, options.task)
        found = measure_speed(
            unit, atoms, preset, task_name=options.task, repeats=options.steps, seconds=120
        )
        rows.append(
            [len(atoms), edges, f"predict unit, {preset}", 1, found.seconds * 1e3, *[None] * 6]
        )
        del unit
        try:
            run = run_external(
                folder / "run", options.model, options.task, atoms,
                preset=preset, steps=options.steps,
            )  # fmt: skip
        except AdatomError as error:
            say(f"Left out, fix external: {error}")
            continue
        rows.append(
            [
                len(atoms), edges, f"fix external, {preset}", 1, run.step * 1e3,
                None, None, None, None, run.startup, run.peak_gb,
            ]
        )  # fmt: skip
    return rows


if __name__ == "__main__":
    main()
