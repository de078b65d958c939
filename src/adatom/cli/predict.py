"""``adatom predict in.xyz -o out.xyz``: energy, forces and stress of structures."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from adatom.cli.arguments import run_function
from adatom.cli.loading import Precision

if TYPE_CHECKING:
    from adatom.core.console import ProgressBar
    from adatom.data.atomic_data import AtomicData
    from adatom.data.structure_dataset import StructureDataset
    from adatom.inference.predict_unit import MLIPPredictUnit

#: What the files that are written have a place for.
WRITTEN = ("energy", "forces", "stress", "energies", "virials", "relaxed_energy")


def main(arguments: list[str]) -> None:
    """Run the verb."""
    run_function(predict_structures, arguments, "adatom predict")


def predict_structures(
    structures: str,
    *,
    output: str,
    model: str = "default",
    task: str | None = None,
    properties: list[str] | None = None,
    settings: str = "default",
    index: str | None = None,
    units: dict[str, str] | None = None,
    key_map: dict[str, str] | None = None,
    max_atoms: int | None = None,
    device: str = "cpu",
    dtype: Precision | None = None,
    workers: int = 1,
    explain: bool = False,
) -> None:
    """Predict energy, forces and stress of structures, in the memory of one batch.

    Args:
        structures: File of structures, in any format that adatom reads.
        output: Where the structures with predictions go (.xyz, .extxyz or .db); whole or not at
            all.
        model: Checkpoint file, or the name of a known potential.
        task: Dataset of the potential, the level of theory; needed if it has several.
        properties: Among energy, forces, stress, energies (per atom), virials (per atom) and
            relaxed_energy; default the first four, or relaxed_energy, as far as the structures
            have them.
        settings: How to compute: "default", "batch" (large batches), "turbo" (one composition),
            "high-precision" (float64) or "traineval" (as in training).
        index: Which structures, such as "0", ":100" or "::10"; default all.
        units: Units of the file if not eV and angstrom, such as {"length": "bohr"}.
        key_map: Where the file keeps charge and spin, such as {"charge": "total_charge"}.
        max_atoms: Atoms computed at once at most; default what fits into memory.
        device: Where to compute.
        dtype: Precision of the network; default that of the settings or the checkpoint.
        workers: Processes that compute each structure together, each with a GPU or its share of
            the cores; more than 1 needs Ray (pip install "adatom[ray]").
        explain: Say at the end what was chosen for this model and machine, and why.
    """
    from adatom.cli.loading import load_unit, require_structure_output, warnings_as_messages
    from adatom.core.console import progress, say
    from adatom.core.files import require_readable
    from adatom.data import open_dataset
    from adatom.data.writers import write_structures

    require_structure_output(output)
    require_readable(structures)
    _check_properties(properties)
    unit = load_unit(
        model, device=device, dtype=dtype, settings=settings, max_atoms=max_atoms, workers=workers
    )
    systems = open_dataset(
        structures,
        dataset=unit.resolve_task(task),
        label_keys={},
        units=units,
        key_map=key_map,
        index=index,
    )
    start = time.perf_counter()
    with unit:
        with progress("Predict", len(systems)) as bar, warnings_as_messages():
            infos: deque[dict[str, Any]] = deque()
            predicted = _predicted(unit, systems, properties, infos, bar)
            count = write_structures(output, predicted, info=_taken(infos))
        say(f"Wrote {count} structures to {output} ({time.perf_counter() - start:.1f} s).")
        if explain:
            say(unit.explain())


def _check_properties(properties: list[str] | None) -> None:
    from adatom.core.errors import unknown_name

    for name in properties or []:
        if name not in WRITTEN:
            raise unknown_name("property that a file of structures can hold", name, WRITTEN)


def _predicted(
    unit: MLIPPredictUnit,
    systems: StructureDataset,
    properties: list[str] | None,
    infos: deque[dict[str, Any]],
    bar: ProgressBar,
) -> Iterator[AtomicData]:
    """Yield structures with predictions as labels, and put their info into ``infos``."""
    from adatom.data.writers import with_predictions

    waiting: deque[tuple[AtomicData, dict[str, Any]]] = deque()

    def structures() -> Iterator[AtomicData]:
        for system, info in systems.with_info():
            waiting.append((system, info))
            yield system

    for prediction in unit.iter_predict(structures(), properties):
        system, info = waiting.popleft()
        if "virials" in prediction:
            # A column of a file is a list of numbers.
            prediction["virials"] = prediction["virials"].flatten(1)
        infos.append(info)
        bar.advance()
        yield with_predictions(system, prediction)


def _taken(infos: deque[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield what was put in, as long as there is something."""
    while infos:
        yield infos.popleft()
