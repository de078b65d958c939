"""``adatom md --index :`` for several structures, which are simulated together."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from adatom.cli.loading import exit_by_signal

if TYPE_CHECKING:
    from ase import Atoms

    from adatom.calculators.ase_calculator import MLIPCalculator
    from adatom.simulate.batched.dynamics import DynamicsRecord
    from adatom.simulate.batched.flight import Dynamics

_COLUMNS = ["structure", "steps", "mean T (K)", "total energy change (meV/atom)", "trajectory"]


def read_starts(structures: str, index: str, task: str) -> list[Atoms]:
    """Read several starts, with the momenta of an ASE trajectory.

    Args:
        structures: The file.
        index: Such as ``":"`` or ``"::10"``.
        task: Dataset of the potential.

    Raises:
        AdatomError: If the file cannot be read.
    """
    from adatom.data import open_dataset
    from adatom.data.ase_convert import to_ase

    systems = open_dataset(
        structures, dataset=task, label_keys={}, index=index, refuse_constraints=True
    )
    starts = [to_ase(system)[0] for system in systems]
    if Path(structures).suffix == ".traj":
        from ase.io import iread

        for atoms, frame in zip(starts, iread(structures, index), strict=True):
            atoms.set_momenta(frame.get_momenta(), apply_constraint=False)
    return starts


def numbered_runs(
    starts: list[Atoms], output: str, log: str, *, seed: int, **settings: Any
) -> list[Dynamics]:
    """Return one run per start, each with its own files and seed.

    Args:
        starts: The structures.
        output: Trajectory, whose name gets numbers.
        log: CSV file, whose name gets numbers.
        seed: Of the first run; the others count up.
        **settings: What the runs have in common.

    Raises:
        ConfigError: If they cannot be run together.
    """
    from adatom.simulate.batched.flight import Dynamics

    return [
        Dynamics(
            structure=start,
            seed=seed + i,
            trajectory=_numbered(output, i, len(starts)),
            log=_numbered(log, i, len(starts)),
            **settings,
        )
        for i, start in enumerate(starts)
    ]


def _numbered(path: str, number: int, count: int) -> str:
    """Return ``path`` with a number before its ending, such as ``md_07.traj`` of 12 runs."""
    file = Path(path)
    digits = len(str(count - 1))
    return str(file.with_name(f"{file.stem}_{number:0{digits}d}{file.suffix}"))


def run_together(
    runs: list[Dynamics], calculator: MLIPCalculator, *, restart: bool, overwrite: bool
) -> None:
    """Simulate several structures and say what became of them.

    Args:
        runs: What to run, each with a trajectory.
        calculator: Of the potential.
        restart: Continue those that have a trajectory.
        overwrite: Replace existing trajectories and logs.

    Raises:
        SystemExit: With code 1 if a run failed, or by a signal.
        AdatomError: As :func:`adatom.simulate.batched.dynamics.run_many_md`.
    """
    from adatom.core.console import print_table, progress, say
    from adatom.simulate.batched.dynamics import run_many_md
    from adatom.simulate.stopping import stop_on_signals

    with stop_on_signals() as stop, progress("MD", sum(run.steps for run in runs)) as bar:
        records = run_many_md(
            runs,
            calculator.predict_unit,
            task_name=calculator.task_name,
            restart=restart,
            overwrite=overwrite,
            stop=stop,
            bar=bar,
        )
    print_table(None, _COLUMNS, [_row(record, runs[record.number]) for record in records])
    if stop.signal is not None:
        say(f"Stopped by {stop.signal}; continue with --restart.")
        exit_by_signal(stop.signal)
    failed = [record for record in records if record.error is not None]
    for record in failed:
        say(f"Failed: {record.sid}: {record.error}")
    if failed:
        raise SystemExit(1)


def _row(record: DynamicsRecord, run: Dynamics) -> list[object]:
    rows, where = record.log, str(run.trajectory)
    if not rows or record.atoms is None:
        return [record.sid, record.steps, None, None, where]
    mean = sum(row.temperature_K for row in rows) / len(rows)
    change = (rows[-1].total_energy_eV - rows[0].total_energy_eV) / len(record.atoms)
    return [record.sid, record.steps, mean, 1000 * change, where]
