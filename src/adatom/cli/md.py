"""``adatom md in.xyz -o md.traj``: molecular dynamics."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from adatom.cli.arguments import run_function
from adatom.cli.loading import Precision

if TYPE_CHECKING:
    from ase import Atoms

    from adatom.simulate.ensembles import Ensemble
    from adatom.simulate.md import MDResult


def main(arguments: list[str]) -> None:
    """Run the verb."""
    run_function(run_dynamics, arguments, "adatom md")


def run_dynamics(
    structure: str,
    *,
    output: str = "md.traj",
    model: str = "default",
    task: str | None = None,
    index: int | str = 0,
    ensemble: Literal["nve", "nvt", "npt"] = "nvt",
    temperature: float = 300.0,
    pressure_gpa: float = 0.0,
    friction: float = 0.01,
    barostat_time: float = 1000.0,
    timestep: float = 1.0,
    steps: int = 1000,
    interval: int = 10,
    seed: int = 0,
    log: str | None = None,
    restart: bool = False,
    overwrite: bool = False,
    device: str = "cpu",
    dtype: Precision | None = None,
    workers: int = 1,
) -> None:
    """Run molecular dynamics; Ctrl-C and SIGTERM finish the step and save it.

    Args:
        structure: File with the start, in any format that adatom reads; momenta are taken from a
            .traj file and drawn otherwise.
        output: Trajectory (ASE .traj).
        model: Checkpoint file, or the name of a known potential.
        task: Dataset of the potential, the level of theory; needed if it has several.
        index: Which structure of the file, counted from 0; -1 is the last. Several, such as ":" or
            "::10", are simulated together, with seeds that count up from --seed, into md_0.traj,
            md_1.traj, ... for -o md.traj.
        ensemble: Constant energy, constant volume and temperature (Langevin), or constant pressure
            and temperature (isotropic Langevin-Hoover).
        temperature: In K; for nve that of the first momenta.
        pressure_gpa: In GPa, for npt.
        friction: Of the thermostat in 1/fs, for nvt and npt.
        barostat_time: In fs, for npt.
        timestep: In fs.
        steps: Number of steps from the start of the trajectory, also after a restart.
        interval: Steps between frames and between log rows.
        seed: Of momenta and thermostat.
        log: CSV file; default the trajectory's name with .csv.
        restart: Continue the trajectory, exactly as if it had not been interrupted.
        overwrite: Replace an existing trajectory and log.
        device: Where to compute.
        dtype: Precision of the network; default that of the checkpoint.
        workers: Processes that compute each structure together, each with a GPU or its share of
            the cores; more than 1 needs Ray (pip install "adatom[ray]").
    """
    from adatom.cli.loading import exit_by_signal, load_calculator
    from adatom.cli.md_many import numbered_runs, read_starts, run_together
    from adatom.core.console import say
    from adatom.core.errors import ConfigError
    from adatom.core.files import require_readable
    from adatom.simulate.md import check_outputs, run_md

    log = str(Path(output).with_suffix(".csv")) if log is None else log
    if isinstance(index, int):
        check_outputs(output, log, restart=restart, overwrite=overwrite)
    elif workers != 1:
        raise ConfigError(
            "Several structures are simulated together, which one process does",
            fix="Leave --workers out, or choose one structure with --index.",
        )
    require_readable(structure)
    chosen = _ensemble(ensemble, temperature, pressure_gpa, friction, barostat_time)
    calculator = load_calculator(model, task, device=device, dtype=dtype, workers=workers)
    with calculator.predict_unit:
        if isinstance(index, str):
            starts = read_starts(structure, index, calculator.task_name)
            settings = {"ensemble": chosen, "timestep": timestep, "interval": interval}
            runs = numbered_runs(starts, output, log, seed=seed, steps=steps, **settings)
            run_together(runs, calculator, restart=restart, overwrite=overwrite)
            return
        result = run_md(
            _start(structure, index, calculator.task_name),
            calculator,
            ensemble=chosen,
            steps=steps,
            timestep=timestep,
            seed=seed,
            trajectory=output,
            log=log,
            interval=interval,
            restart=restart,
            overwrite=overwrite,
            show_progress=True,
        )
    _summarize(result, output, log)
    if result.stopped_by is not None:
        say(f"Stopped by {result.stopped_by} after step {result.steps}; continue with --restart.")
        exit_by_signal(result.stopped_by)


def _ensemble(
    name: str, temperature: float, pressure_gpa: float, friction: float, barostat_time: float
) -> Ensemble:
    from adatom.simulate.ensembles import NPT, NVE, NVT

    if name == "nve":
        return NVE(temperature=temperature)
    if name == "nvt":
        return NVT(temperature=temperature, friction=friction)
    return NPT(
        temperature=temperature,
        pressure_gpa=pressure_gpa,
        friction=friction,
        barostat_time=barostat_time,
    )


def _start(structure: str, index: int, task: str) -> Atoms:
    """Read and check one structure, with the momenta of an ASE trajectory."""
    from adatom.data import open_dataset
    from adatom.data.ase_convert import to_ase

    system = open_dataset(
        structure, dataset=task, label_keys={}, index=index, refuse_constraints=True
    )[0]
    atoms = to_ase(system)[0]
    if Path(structure).suffix == ".traj":
        from ase.io.trajectory import TrajectoryReader

        reader = TrajectoryReader(structure)
        atoms.set_momenta(reader[index].get_momenta(), apply_constraint=False)
        reader.close()
    return atoms


def _summarize(result: MDResult, output: str, log: str) -> None:
    """Print what the run did."""
    from adatom.core.console import print_table, say

    rows = result.log
    count = len(result.atoms)
    mean = sum(row.temperature_K for row in rows) / len(rows)
    change = (rows[-1].total_energy_eV - rows[0].total_energy_eV) / count
    print_table(
        None,
        ["steps", "mean T (K)", "total energy change (meV/atom)", "steps/s", "ns/day"],
        [[result.steps, mean, 1000 * change, result.steps_per_second, result.ns_per_day]],
    )
    say(f"Frames are in {output}, the log is in {log}.")
