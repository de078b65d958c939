"""Which properties a structure is given, and why not the others."""

from __future__ import annotations

from collections.abc import Collection

from adatom.core.errors import ConfigError, unknown_name
from adatom.inference.settings import InferenceSettings
from adatom.tasks.potential import DEFAULT_PROPERTIES, PROPERTIES, Potential

_UNTRAINED = ("forces", "stress", "hessian")


class AvailableProperties:
    """What the datasets of a potential can be given under some settings.

    Args:
        potential: The potential.
        settings: Decide what is predicted when nothing is named.

    Raises:
        UnknownNameError: If the settings name a dataset that the potential does not have.
    """

    def __init__(self, potential: Potential, settings: InferenceSettings) -> None:
        self._potential = potential
        self._settings = settings
        self._defaults: dict[str, tuple[str, ...]] = {}
        self._reasons: dict[str, dict[str, str]] = {}
        for prop in _UNTRAINED:
            for dataset in self._added(prop):
                if dataset not in potential.datasets:
                    where = f"dataset in predict_untrained_{prop}"
                    raise unknown_name(where, dataset, potential.datasets)

    def wanted(self, properties: Collection[str] | None, dataset: str) -> tuple[str, ...]:
        """Return what a structure of ``dataset`` is asked for, in the order of PROPERTIES.

        Args:
            properties: Checked names (see :func:`checked_properties`), or None for the defaults.
            dataset: A dataset of the potential.
        """
        if properties is not None:
            return tuple(properties)
        if dataset not in self._defaults:
            self._defaults[dataset] = tuple(self._default(dataset))
        return self._defaults[dataset]

    def reasons(self, dataset: str) -> dict[str, str]:
        """Return why ``dataset`` cannot be given some properties, by property."""
        if dataset not in self._reasons:
            given = self._potential.properties(dataset)
            direct = ", ".join(self._potential.direct_properties)
            why = (
                f"the potential predicts {direct} directly, and dataset {dataset!r} has no such "
                "task"
                if direct
                else f"dataset {dataset!r} has no such task"
            )
            if self._potential.is_relaxed(dataset):
                why = f"dataset {dataset!r} has relaxed energies, whose derivatives are not forces"
            self._reasons[dataset] = {name: why for name in PROPERTIES if name not in given}
        return self._reasons[dataset]

    def _added(self, prop: str) -> Collection[str]:
        added: Collection[str] = getattr(self._settings, f"predict_untrained_{prop}")
        return added

    def _default(self, dataset: str) -> list[str]:
        trained = {
            task.property
            for task in self._potential.tasks
            if dataset in task.datasets and not task.inference_only
        }
        if self._potential.is_relaxed(dataset):
            return ["relaxed_energy", *(n for n in ("forces", "stress") if n in trained)]
        names = set(DEFAULT_PROPERTIES)
        if not self._settings.auto_add_default_untrained_tasks:
            names -= {"forces", "stress"} - trained
        names |= {prop for prop in _UNTRAINED if dataset in self._added(prop)}
        return [name for name in PROPERTIES if name in names]


def checked_properties(
    properties: Collection[str] | None, extra: Collection[str] = ()
) -> tuple[str, ...] | None:
    """Return the names in the order of PROPERTIES, extra ones last, or None for None.

    Raises:
        UnknownNameError: If a name is not known.
        ConfigError: If there is none.
    """
    if properties is None:
        return None
    known = (*PROPERTIES, *extra)
    if isinstance(properties, str):
        properties = [properties]
    for name in properties:
        if name not in known:
            raise unknown_name("property", name, known)
    if not properties:
        raise ConfigError("No property was asked for", expected=", ".join(known))
    return tuple(name for name in known if name in properties)
