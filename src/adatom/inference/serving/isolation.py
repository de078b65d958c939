"""Errors that stay with the structure they belong to, whatever it was computed together with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from adatom.inference.batch_runner import BatchRunner
from adatom.inference.packing import Item, halves, with_edges
from adatom.inference.prediction import Prediction

Outcome = Prediction | Exception


def outcomes(
    runner: BatchRunner, batch: Sequence[Item], names: tuple[str, ...] | None
) -> Iterator[tuple[Item, Outcome]]:
    """Compute structures together; where that fails, in halves, until the culprits are alone.

    One bad structure among n costs about 2 log2(n) further batches, each smaller.

    Args:
        runner: Computes batches.
        batch: Structures with edges, at least one.
        names: Checked properties, or None for the defaults.

    Yields:
        Each structure with its prediction, or the error that it alone caused.
    """
    try:
        found = runner.run(batch, names)
    except Exception as error:  # noqa: BLE001 (whatever it is, it belongs to one structure)
        if len(batch) == 1:
            yield batch[0], error
            return
        # What the attempt allocated hangs on the error, which ends with this block.
    else:
        yield from zip(batch, found, strict=True)
        return
    for half in halves(batch):
        yield from outcomes(runner, half, names)


def neighbors(
    runner: BatchRunner, items: Sequence[Item]
) -> tuple[list[Item], list[tuple[Item, Exception]]]:
    """Give structures edges with one search, or one search each where that fails.

    Args:
        runner: Knows the cutoff and the device.
        items: With or without edges.

    Returns:
        Those that have edges now, and the others with what is wrong.
    """
    try:
        return with_edges(items, runner.with_edges), []
    except Exception as error:  # noqa: BLE001 (as above)
        if len(items) == 1:
            return [], [(items[0], error)]
    good: list[Item] = []
    bad: list[tuple[Item, Exception]] = []
    for item in items:
        found, failed = neighbors(runner, [item])
        good += found
        bad += failed
    return good, bad
