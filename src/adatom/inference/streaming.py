"""Structures in, predictions out in the same order, in the memory of one batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from adatom.inference.batch_runner import BatchRunner
from adatom.inference.packing import Item, packed, windows, with_edges
from adatom.inference.prediction import Prediction


def stream(
    runner: BatchRunner, items: Iterable[Item], names: tuple[str, ...] | None
) -> Iterator[Prediction]:
    """Predict structures in batches.

    Within a window of structures, those that share expert weights are computed together.

    Args:
        runner: Computes batches.
        items: In input order.
        names: Checked properties, or None for the defaults.

    Yields:
        One prediction per structure, in input order.
    """
    for window in windows(items, runner.window_atoms):
        done: dict[int, Prediction] = {}
        network = []
        for item in window:
            if runner.single_atoms.concerns(item.system):
                done[item.number] = runner.lone_atom(item.system, names)
            else:
                network.append(item)
        for batch in packed(with_edges(network, runner.with_edges), runner.fits(names)):
            for item, prediction in zip(batch, runner.run(batch, names), strict=True):
                done[item.number] = prediction
        for number in sorted(done):
            yield done.pop(number)
