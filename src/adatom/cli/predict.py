"""``adatom predict in.xyz -o out.xyz``: energy, forces and stress of structures."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from adatom.cli.arguments import run_function
from adatom.cli.loading import Precision

if TYPE_CHECKING:
    from adatom.core.console import ProgressBar
    from adatom.data.atomic_data import AtomicData
    from adatom.inference.predict_unit import MLIPPredictUnit


def main(arguments: list[str]) -> None:
    """Run the verb."""
    run_function(predict_structures, arguments, "adatom predict")


def predict_structures(
    structures: str,
    *,
    output: str,
    model: str = "default",
    task: str | None = None,
    index: str | None = None,
    units: dict[str, str] | None = None,
    key_map: dict[str, str] | None = None,
    max_atoms: int = 512,
    device: str = "cpu",
    dtype: Precision | None = None,
) -> None:
    """Predict energy, forces and stress of structures.

    Args:
        structures: File of structures, in any format that adatom reads.
        output: Where the structures with predictions go (.xyz, .extxyz or .db); whole or not at
            all.
        model: Checkpoint file, or the name of a known potential.
        task: Dataset of the potential, the level of theory; needed if it has several.
        index: Which structures, such as "0", ":100" or "::10"; default all.
        units: Units of the file if not eV and angstrom, such as {"length": "bohr"}.
        key_map: Where the file keeps charge and spin, such as {"charge": "total_charge"}.
        max_atoms: Atoms computed at once.
        device: Where to compute.
        dtype: Precision of the network; default that of the checkpoint.
    """
    from adatom.cli.loading import load_unit, require_structure_output
    from adatom.core.console import progress, say
    from adatom.core.files import require_readable
    from adatom.data import open_dataset
    from adatom.data.writers import write_structures

    require_structure_output(output)
    require_readable(structures)
    unit = load_unit(model, device=device, dtype=dtype, max_atoms=max_atoms)
    systems = open_dataset(
        structures,
        dataset=unit.resolve_task(task),
        label_keys={},
        units=units,
        key_map=key_map,
        index=index,
    )
    for system in systems:
        unit.potential.check_input(system)
    start = time.perf_counter()
    with progress("Predict", len(systems)) as bar:
        count = write_structures(
            output,
            _predicted(unit, systems, max_atoms, bar),
            info=(systems.info(i) for i in range(len(systems))),
        )
    say(f"Wrote {count} structures to {output} ({time.perf_counter() - start:.1f} s).")


def _predicted(
    unit: MLIPPredictUnit, systems: Sequence[AtomicData], max_atoms: int, bar: ProgressBar
) -> Iterator[AtomicData]:
    """Yield batches with predictions as labels, holding one batch at a time."""
    from adatom.data.atomic_data import collate
    from adatom.data.writers import with_predictions

    waiting: list[AtomicData] = []
    atoms = 0
    for i, system in enumerate(systems):
        waiting.append(system)
        atoms += system.num_atoms
        if atoms >= max_atoms or i == len(systems) - 1:
            batch = collate(waiting)
            yield with_predictions(batch, unit.predict(batch))
            bar.advance(len(waiting))
            waiting, atoms = [], 0
