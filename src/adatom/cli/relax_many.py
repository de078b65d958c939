"""``adatom relax`` for files with many structures, which relax together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adatom.cli.loading import exit_by_signal

if TYPE_CHECKING:
    from adatom.calculators.ase_calculator import MLIPCalculator
    from adatom.data.structure_dataset import StructureDataset
    from adatom.simulate.batched.journal import Outcome

_COLUMNS = ["structure", "converged", "steps", "energy before (eV)", "after (eV)", "fmax (eV/A)"]
#: Rows that are printed at most; the output has the others.
_ROWS = 50


def relax_together(
    systems: StructureDataset,
    calculator: MLIPCalculator,
    output: str,
    *,
    pressure_gpa: float | None,
    **limits: Any,
) -> None:
    """Relax many structures and say what became of them.

    Args:
        systems: What to relax.
        calculator: Of the potential.
        output: Where the relaxed structures go.
        pressure_gpa: At which the cells relax too; None keeps them.
        **limits: As for :class:`adatom.simulate.batched.relaxation.RelaxationSettings`.

    Raises:
        SystemExit: With code 1 if a structure failed or did not converge, or by a signal.
        AdatomError: As :func:`adatom.simulate.batched.relax_file.relax_to_file`.
    """
    from adatom.core.console import print_table, say
    from adatom.simulate.batched.cells import CellRelaxation
    from adatom.simulate.batched.relax_file import relax_to_file
    from adatom.simulate.batched.relaxation import RelaxationSettings

    cell = None if pressure_gpa is None else CellRelaxation(pressure_gpa=pressure_gpa)
    settings = RelaxationSettings(cell=cell, **limits)
    done = relax_to_file(
        systems,
        output,
        calculator.predict_unit,
        task_name=calculator.task_name,
        settings=settings,
        info=systems.info,
        show_progress=True,
    )
    if done.continued:
        say(f"Continued an interrupted run, which had finished {done.continued} structures.")
    outcomes = done.outcomes
    print_table("Relaxed structures", _COLUMNS, [_row(o) for o in outcomes[:_ROWS]])
    if len(outcomes) > _ROWS:
        say(f"... and {len(outcomes) - _ROWS} more.")
    if done.stopped_by is not None:
        say(
            f"Stopped by {done.stopped_by}; {len(outcomes)} of {len(systems)} structures are "
            f"finished, and kept in {done.journal}. Give the same command to continue."
        )
        exit_by_signal(done.stopped_by)
    failed = [o for o in outcomes if o.error is not None]
    for outcome in failed:
        say(f"Failed: {outcome.sid}: {outcome.error}")
    open_ends = [o.sid for o in outcomes if o.error is None and not o.converged]
    if open_ends:
        say(f"Not converged in {settings.steps} steps: {', '.join(open_ends)}")
    if failed or open_ends:
        raise SystemExit(1)


def _row(outcome: Outcome) -> list[Any]:
    state = "failed" if outcome.error is not None else "yes" if outcome.converged else "no"
    before, after = ("" if e is None else f"{e:.6f}" for e in (outcome.before, outcome.after))
    return [outcome.sid, state, outcome.steps, before, after, outcome.max_force]
