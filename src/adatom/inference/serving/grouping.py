"""Which requests are computed together, and what each of them is given of the result."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from adatom.inference.batch_runner import BatchRunner
from adatom.inference.composition import Key
from adatom.inference.packing import Item
from adatom.inference.prediction import Prediction
from adatom.inference.serving.isolation import Outcome
from adatom.tasks.potential import DEFAULT_PROPERTIES, PROPERTIES

Names = tuple[str, ...] | None
_ENERGIES = frozenset({"energy", "energies"})


def group_of(names: Names) -> str | tuple[str, ...]:
    """Return what requests that may be computed together have in common.

    Forces and stress come from one backward pass, so those who ask for one or both go together;
    those who want energies only do not pay for it. Anything else goes with its like.

    Args:
        names: Checked properties, or None for the defaults.
    """
    if names is None:
        return "defaults"
    if _ENERGIES.issuperset(names):
        return "energies"
    return "derivatives" if set(DEFAULT_PROPERTIES).issuperset(names) else names


def union(asked: Iterable[Names]) -> Names:
    """Return what requests of one group ask for together."""
    listed = list(asked)
    if listed[0] is None:
        return None
    wanted = {name for names in listed for name in names or ()}
    known = tuple(name for name in PROPERTIES if name in wanted)
    return known if len(known) == len(wanted) else listed[0]


def ordered(items: Sequence[Item]) -> list[Item]:
    """Sort so that the oldest is first and those of one composition are next to each other."""
    oldest: dict[Key, int] = {}
    for item in items:
        oldest[item.key] = min(item.number, oldest.get(item.key, item.number))
    return sorted(items, key=lambda item: (oldest[item.key], item.number))


def asked(prediction: Prediction, names: Names) -> Prediction:
    """Return only the properties that were asked for.

    Args:
        prediction: Of one structure.
        names: Checked properties, or None for all.
    """
    if names is None or set(names).issuperset({*prediction, *prediction.absent}):
        return prediction
    return Prediction(
        {name: value for name, value in prediction.items() if name in names},
        prediction.sids,
        {name: reasons for name, reasons in prediction.absent.items() if name in names},
        prediction.natoms,
        prediction.per_system,
    )


def lone_atom(runner: BatchRunner, item: Item, names: Names) -> Outcome:
    """Answer an atom that the network must not be asked about, or return why not."""
    try:
        return runner.lone_atom(item.system, names)
    except Exception as error:  # noqa: BLE001 (it belongs to this structure alone)
        return error
