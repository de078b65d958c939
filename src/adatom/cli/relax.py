"""``adatom relax in.xyz -o relaxed.xyz``: positions, or positions and cell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from adatom.cli.arguments import run_function
from adatom.cli.loading import Precision

if TYPE_CHECKING:
    from adatom.data.structure_dataset import StructureDataset
    from adatom.simulate.relax import RelaxationResult

#: Exit code when a structure is written but has not converged.
NOT_CONVERGED = 1


def main(arguments: list[str]) -> None:
    """Run the verb."""
    run_function(relax_structures, arguments, "adatom relax")


def relax_structures(
    structures: str,
    *,
    output: str,
    model: str = "default",
    task: str | None = None,
    index: str | None = None,
    cell: bool = False,
    optimizer: Literal["FIRE", "LBFGS", "BFGS"] = "LBFGS",
    fmax: float = 0.02,
    steps: int = 500,
    pressure_gpa: float = 0.0,
    trajectory: str | None = None,
    device: str = "cpu",
    dtype: Precision | None = None,
    workers: int = 1,
) -> None:
    """Relax structures; many of them together.

    The exit code is 1 if one of them has not converged; it is written all the same, with
    converged=F. Of many structures, one that fails does not stop the others; it is written as it
    was last, with its error. The same command continues a run of many that was interrupted.

    Args:
        structures: File of structures, in any format that adatom reads.
        output: Where the relaxed structures go (.xyz, .extxyz or .db); whole or not at all.
        model: Checkpoint file, or the name of a known potential.
        task: Dataset of the potential, the level of theory; needed if it has several.
        index: Which structures, such as "0", ":100" or "::10"; default all.
        cell: Relax the cell too.
        optimizer: Which minimizer; BFGS relaxes one structure after another.
        fmax: Largest force at the end, in eV/angstrom.
        steps: At most this many steps per structure.
        pressure_gpa: External pressure in GPa, used with --cell.
        trajectory: ASE .traj file for the steps; for one structure only.
        device: Where to compute.
        dtype: Precision of the network; default that of the checkpoint.
        workers: Processes that compute each structure together, each with a GPU or its share of
            the cores; more than 1 needs Ray (pip install "adatom[ray]").
    """
    from adatom.cli.loading import exit_by_signal, load_calculator, require_structure_output
    from adatom.cli.relax_many import relax_together
    from adatom.core.console import print_table, say
    from adatom.core.files import require_readable, require_writable
    from adatom.data.ase_convert import from_ase, to_ase
    from adatom.data.writers import write_structures
    from adatom.simulate.relax import relax

    require_structure_output(output)
    require_readable(structures)
    if trajectory is not None:
        require_writable(trajectory)
    calculator = load_calculator(model, task, device=device, dtype=dtype, workers=workers)
    name = calculator.task_name
    systems = _read(structures, name, index, single=trajectory is not None)
    if len(systems) > 1 and optimizer != "BFGS" and workers == 1:
        pressure = pressure_gpa if cell else None
        limits = {"optimizer": optimizer, "fmax": fmax, "steps": steps}
        relax_together(systems, calculator, output, pressure_gpa=pressure, **limits)
        return
    for system in systems:
        calculator.predict_unit.potential.check_input(system)
    rows, relaxed, infos = [], [], []
    stopped_by = None
    with calculator.predict_unit:
        for i, system in enumerate(systems):
            result = relax(
                to_ase(system)[0],
                calculator,
                cell=cell,
                optimizer=optimizer,
                fmax=fmax,
                steps=steps,
                pressure_gpa=pressure_gpa,
                trajectory=trajectory,
                show_progress=True,
            )
            relaxed.append(from_ase(result.atoms, dataset=name, sid=system.sid[0]))
            infos.append(systems.info(i) | {"converged": result.converged, "steps": result.steps})
            rows.append(_row(system.sid[0], result))
            stopped_by = result.stopped_by
            if stopped_by is not None:
                break
    write_structures(output, relaxed, info=infos)
    print_table("Relaxed structures", _COLUMNS, rows)
    if stopped_by is not None:
        say(f"Stopped by {stopped_by}; {len(relaxed)} of {len(systems)} structures are in {output}")
        exit_by_signal(stopped_by)
    open_ends = [row[0] for row in rows if row[1] == "no"]
    if open_ends:
        say(f"Not converged in {steps} steps: {', '.join(open_ends)}")
        raise SystemExit(NOT_CONVERGED)


def _read(structures: str, task: str, index: str | None, *, single: bool) -> StructureDataset:
    from adatom.core.errors import ConfigError
    from adatom.data import open_dataset

    systems = open_dataset(
        structures,
        dataset=task,
        label_keys={},
        index=index,
        lazy=True,
        refuse_constraints=True,
    )
    if single and len(systems) > 1:
        raise ConfigError(
            f"A trajectory was asked for, but {structures!r} has {len(systems)} structures",
            fix="Choose one with --index.",
        )
    return systems


_COLUMNS = ["structure", "converged", "steps", "energy before (eV)", "after (eV)", "fmax (eV/A)"]


def _row(sid: str, result: RelaxationResult) -> list[Any]:
    return [
        sid,
        "yes" if result.converged else "no",
        result.steps,
        f"{result.energies[0]:.6f}",
        f"{result.energies[-1]:.6f}",
        result.max_force,
    ]
