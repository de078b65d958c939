"""``adatom is2re relax``: relaxed energies through relaxation with a potential for forces."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from adatom.cli.loading import Precision

if TYPE_CHECKING:
    from adatom.simulate.relax import RelaxationResult

_COLUMNS = ["structure", "converged", "steps", "predicted (eV)", "label (eV)", "error (eV)"]


def relaxed_energies(
    potential: str,
    data: str,
    *,
    output: str | None = None,
    task: str | None = None,
    label_keys: dict[str, str] | None = None,
    units: dict[str, str] | None = None,
    index: str | None = None,
    optimizer: Literal["FIRE", "LBFGS", "BFGS"] = "LBFGS",
    fmax: float = 0.03,
    steps: int = 200,
    device: str = "cpu",
    dtype: Precision | None = None,
) -> None:
    """Relax initial structures with a potential and compare their energies with the labels.

    Positions of atoms that are not fixed are relaxed. The defaults end a relaxation as those of
    OC20 were ended. Labels and potential must mean the same energy (total or adsorption).

    Args:
        potential: Checkpoint file, or the name of a known potential, for energies and forces.
        data: Initial structures, in any format that adatom reads; their label relaxed_energy is
            compared, if they have one.
        output: Where the relaxed structures go (.xyz, .extxyz or .db); default nowhere.
        task: Dataset of the potential, the level of theory; needed if it has several.
        label_keys: Where the label is, such as {"relaxed_energy": "energy_relaxed"}.
        units: Units of the file if not eV and angstrom, such as {"energy": "hartree"}.
        index: Which structures, such as "0", ":100" or "::10"; default all.
        optimizer: Which minimizer.
        fmax: Largest force at the end, in eV/angstrom.
        steps: At most this many steps per structure.
        device: Where to compute.
        dtype: Precision of the network; default that of the checkpoint.
    """
    from adatom.cli.loading import exit_by_signal, load_calculator, require_structure_output
    from adatom.core.console import print_table, say
    from adatom.core.files import require_readable
    from adatom.data import open_dataset
    from adatom.data.ase_convert import from_ase, to_ase
    from adatom.data.writers import write_structures
    from adatom.simulate.relax import relax

    if output is not None:
        require_structure_output(output)
    require_readable(data)
    calculator = load_calculator(potential, task, device=device, dtype=dtype)
    name = calculator.task_name
    systems = open_dataset(
        data, dataset=name, label_keys=label_keys, units=units, index=index, refuse_constraints=True
    )
    for system in systems:
        calculator.predict_unit.potential.check_input(system)
    rows, relaxed, infos = [], [], []
    stopped_by = None
    for i, system in enumerate(systems):
        label = _label(system.labels.get("relaxed_energy"))
        result = relax(
            to_ase(system)[0],
            calculator,
            optimizer=optimizer,
            fmax=fmax,
            steps=steps,
            show_progress=True,
        )
        rows.append(_row(system.sid[0], result, label))
        relaxed.append(from_ase(result.atoms, dataset=name, sid=system.sid[0]))
        infos.append(systems.info(i) | {"converged": result.converged, "steps": result.steps})
        stopped_by = result.stopped_by
        if stopped_by is not None:
            break
    print_table("Relaxed energies", _COLUMNS, [_text(row) for row in rows])
    say(_summary(rows))
    if output is not None:
        write_structures(output, relaxed, info=infos)
        say(f"Relaxed structures: {output}")
    if stopped_by is not None:
        say(f"Stopped by {stopped_by} after {len(rows)} of {len(systems)} structures.")
        exit_by_signal(stopped_by)


def _label(value: Any) -> float | None:
    """Return a label that is there and is a number."""
    import math

    return None if value is None or not math.isfinite(float(value[0])) else float(value[0])


def _row(sid: str, result: RelaxationResult, label: float | None) -> list[Any]:
    energy = result.energies[-1]
    error = None if label is None else energy - label
    return [sid, result.converged, result.steps, energy, label, error]


def _text(row: list[Any]) -> list[str]:
    sid, converged, steps, *energies = row
    written = ["-" if energy is None else f"{energy:.4f}" for energy in energies]
    return [sid, "yes" if converged else "no", str(steps), *written]


def _summary(rows: list[list[Any]]) -> str:
    from adatom.tasks.metrics import ENERGY_THRESHOLD

    errors = [abs(row[-1]) for row in rows if row[-1] is not None]
    converged = sum(row[1] for row in rows)
    text = f"{converged} of {len(rows)} relaxations converged."
    if not errors:
        return f"{text} No structure has the label relaxed_energy."
    right = sum(error < ENERGY_THRESHOLD for error in errors) / len(errors)
    return (
        f"{text} Energy MAE {sum(errors) / len(errors):.4f} eV and EwT {right:.1%} (within "
        f"{ENERGY_THRESHOLD:g} eV) over {len(errors)} labels."
    )
