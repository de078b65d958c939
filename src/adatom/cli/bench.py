"""``adatom bench [MODEL] [STRUCTURE]``: how fast the presets are on this machine."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adatom.cli.arguments import run_function

if TYPE_CHECKING:
    from ase import Atoms

    from adatom.core.errors import AdatomError
    from adatom.evaluate.speed import Speed
    from adatom.tasks.potential import Potential

#: Presets that are measured unless some are chosen.
_PRESETS = ("default", "turbo", "batch", "high-precision")
_CHECKPOINTS = (".safetensors", ".pt", ".pth", ".ckpt")
_COLUMNS = (
    "structure",
    "atoms",
    "edges",
    "preset",
    "calls",
    "ms",
    "atoms/s",
    "ns/day",
    "first call (s)",
    "peak memory (MB)",
)


def main(arguments: list[str]) -> None:
    """Run the verb."""
    run_function(measure_presets, named(arguments), "adatom bench")


def measure_presets(
    *,
    model: str = "default",
    structure: str | None = None,
    index: int = 0,
    task: str | None = None,
    presets: list[str] | None = None,
    threads: int | None = None,
    seconds: float = 10.0,
    repeats: int = 50,
    timestep_fs: float = 1.0,
    json: str | None = None,
    device: str = "cpu",
) -> None:
    """Measure the presets of a potential on your own system: adatom bench [MODEL] [STRUCTURE].

    Each call computes energy, forces and, in a periodic cell, stress. Times are medians per
    structure; 'batch' computes many structures at once. Peak memory is that of a call beyond the
    loaded model.

    Args:
        model: Checkpoint file, or the name of a known potential; may be given without --model.
        structure: File that ASE reads; may be given without --structure. Without it, boxes of
            copper and water are measured.
        index: Which structure of the file; -1 is the last.
        task: Dataset of the potential; default the first one that knows the elements.
        presets: Inference settings such as [default, turbo]; default all but traineval.
        threads: CPU threads at most.
        seconds: Time limit per structure and preset, after the first call.
        repeats: Timed calls at most.
        timestep_fs: Time of one step of dynamics, for ns/day.
        json: File for the numbers.
        device: Where to compute.
    """
    from adatom.cli.loading import load_unit, warnings_as_messages
    from adatom.core.console import print_table, say, show
    from adatom.core.errors import OutOfMemoryError
    from adatom.core.files import require_writable
    from adatom.evaluate.speed import measure_speed, recommend

    limits = {"seconds": seconds, "repeats": repeats, "timestep_fs": timestep_fs}
    names = _checked(presets, {**limits, "threads": threads})
    if json is not None:
        require_writable(json)
    systems = _systems(structure, index)
    potential = load_unit(model, device=device, dtype=None).potential
    chosen = _with_tasks(systems, potential, task, given=structure is not None)
    del potential
    speeds: dict[str, list[Speed]] = {name: [] for name in chosen}
    with _threads(threads), warnings_as_messages():
        for name, (atoms, dataset) in chosen.items():
            for preset in names:
                say(f"{name} (task {dataset!r}), {preset} ...")
                unit = load_unit(model, device=device, dtype=None, settings=preset)
                try:
                    found = measure_speed(
                        unit, atoms, preset, task_name=dataset, seconds=seconds, repeats=repeats
                    )
                except OutOfMemoryError as error:
                    say(f"Left out: {error}")
                else:
                    speeds[name].append(found)
        count = _number_of_threads()
    rows = [_row(name, speed, timestep_fs) for name in speeds for speed in speeds[name]]
    title = f"{Path(model).name} on {device}, up to {count} threads, {timestep_fs:g} fs per step"
    print_table(title, _COLUMNS, rows)
    advice = {name: recommend(found, timestep_fs) for name, found in speeds.items() if found}
    for name, sentence in advice.items():
        show(f"{name}: {sentence}")
    if json is not None:
        about = {"model": model, "device": device, "threads": count, "timestep_fs": timestep_fs}
        tasks = {name: dataset for name, (_, dataset) in chosen.items()}
        _write(Path(json), about, speeds, tasks, advice)


def named(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with names for those that have none: MODEL, then STRUCTURE.

    A single one is the structure if it is a file that does not look like a checkpoint.

    Raises:
        ConfigError: If there are more than two.
    """
    from adatom.core.errors import ConfigError

    options: list[str] = []
    bare: list[str] = []
    waiting = False
    for argument in arguments:
        if argument.startswith("--") or argument == "-h":
            # Every option but these takes a value.
            flag = argument in ("-h", "--help") or argument.startswith("--print_config")
            waiting = not flag and "=" not in argument
            options.append(argument)
        elif waiting:
            waiting = False
            options.append(argument)
        else:
            bare.append(argument)
    if len(bare) > 2:
        raise ConfigError(
            f"Unexpected argument {bare[2]!r}",
            expected="a model and a structure at most",
            fix="See: adatom bench --help",
        )
    if len(bare) == 1 and Path(bare[0]).is_file() and Path(bare[0]).suffix not in _CHECKPOINTS:
        return [*options, "--structure", bare[0]]
    given = zip(("--model", "--structure"), bare, strict=False)
    return [*options, *(part for pair in given for part in pair)]


def _checked(presets: list[str] | None, limits: dict[str, float | None]) -> list[str]:
    """Return the presets, after all that can be wrong with numbers and names was looked at."""
    from adatom.core.errors import ConfigError
    from adatom.inference.settings import inference_settings

    for name, value in limits.items():
        if value is not None and not value > 0:
            raise ConfigError(f"{name} is {value:g}", expected="more than 0")
    names = list(dict.fromkeys(_PRESETS if presets is None else presets))
    for name in names:
        inference_settings(name)
    if not names:
        raise ConfigError("presets is empty", expected=f"some of: {', '.join(_PRESETS)}")
    return names


def _systems(structure: str | None, index: int) -> dict[str, Atoms]:
    """Return the structure of the file, or those that are measured without one."""
    from adatom.core.errors import DataError
    from adatom.core.files import require_readable
    from adatom.evaluate.sample_structures import SAMPLES

    if structure is None:
        return {name: make() for name, make in SAMPLES.items()}
    require_readable(structure)
    import ase.io

    try:
        found: Any = ase.io.read(structure, index=index)
    # ASE's readers fail in any way on a foreign file.
    except Exception as error:
        raise DataError(
            f"Structure {index} of {structure!r} cannot be read: {str(error) or type(error)}",
            expected="a structure file that ASE reads",
        ) from error
    return {Path(structure).name: found}


def _with_tasks(
    systems: dict[str, Atoms], potential: Potential, task: str | None, *, given: bool
) -> dict[str, tuple[Atoms, str]]:
    """Return the structures that the potential knows, with the dataset to use."""
    from adatom.core.console import say
    from adatom.core.errors import ConfigError, unknown_name

    if task is not None and task not in potential.datasets:
        raise unknown_name("task", task, potential.datasets)
    found: dict[str, tuple[Atoms, str]] = {}
    for name, atoms in systems.items():
        candidates = [task] if task is not None else list(potential.datasets)
        fitting = [each for each in candidates if _knows(potential, each, atoms)]
        if fitting:
            found[name] = (atoms, fitting[0])
        elif given:
            raise _unknown(name, atoms, potential, candidates)
        else:
            say(f"{name}: left out, it has elements that this potential does not know.")
    if not found:
        raise ConfigError(
            f"This potential knows none of the built-in structures ({', '.join(systems)})",
            fix="Give a structure: adatom bench MODEL STRUCTURE.",
        )
    return found


def _unknown(
    name: str, atoms: Atoms, potential: Potential, candidates: Sequence[str]
) -> AdatomError:
    """Return the error about a structure that no dataset fits."""
    import torch

    from adatom.core.errors import AdatomError, OutOfDomainError

    numbers = torch.tensor(atoms.numbers)
    charge, spin = (int(atoms.info.get(key, 0)) for key in ("charge", "spin"))
    try:
        potential.domains[candidates[0]].check(numbers, charge, spin, name)
    except AdatomError as error:
        if len(candidates) == 1:
            return error
    return OutOfDomainError(
        f"No task of this potential knows all elements of {name!r}",
        expected=f"what one of its tasks knows: {', '.join(candidates)}",
        fix="See: adatom models info.",
    )


def _knows(potential: Potential, dataset: str, atoms: Atoms) -> bool:
    domain = potential.domains[dataset]
    numbers = atoms.numbers.tolist()
    if domain.composition is not None and not domain.composition.matches(numbers):
        return False
    return set(numbers) <= set(domain.elements)


def _threads(count: int | None) -> contextlib.AbstractContextManager[None]:
    from adatom.core.precision import torch_threads

    return contextlib.nullcontext() if count is None else torch_threads(count)


def _number_of_threads() -> int:
    import torch

    return torch.get_num_threads()


def _row(name: str, speed: Speed, timestep_fs: float) -> list[object]:
    per_day = speed.ns_per_day(timestep_fs)
    peak = None if speed.peak_bytes is None else speed.peak_bytes / 1e6
    preset = speed.preset
    return [
        name,
        speed.atoms,
        speed.edges,
        f"{preset} ({speed.structures} at once)" if speed.structures > 1 else preset,
        speed.calls,
        _short(1e3 * speed.seconds),
        _short(speed.atoms_per_second),
        _short(per_day),
        _short(speed.first_seconds),
        "-" if peak is None else _short(peak),
    ]


def _short(value: float | None) -> float | None:
    """Return three digits of a number: more are noise."""
    return None if value is None else float(f"{value:.3g}")


def _write(
    path: Path,
    about: dict[str, Any],
    speeds: dict[str, list[Speed]],
    tasks: dict[str, str],
    advice: dict[str, str],
) -> None:
    import torch

    from adatom import __version__
    from adatom.core.console import say
    from adatom.core.files import atomic_write

    results = [
        {"structure": name, "task": tasks[name], **asdict(speed)}
        | {
            "atoms_per_second": speed.atoms_per_second,
            "ns_per_day": speed.ns_per_day(about["timestep_fs"]),
        }
        for name, found in speeds.items()
        for speed in found
    ]
    versions = {"adatom": __version__, "torch": torch.__version__}
    numbers = {**about, "versions": versions, "results": results, "recommendations": advice}
    with atomic_write(path) as part:
        part.write_text(json.dumps(numbers, indent=2) + "\n", encoding="utf-8")
    say(f"Wrote {path}.")
