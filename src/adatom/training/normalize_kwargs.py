"""The normalizers of the Open Catalyst code: two means and two standard deviations."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from adatom.core.errors import ConfigError
from adatom.tasks.task import Normalizer, Task


@dataclass(slots=True, kw_only=True)
class NormalizeKwargs:
    """Normalizers given as numbers, instead of scales and element references from the data.

    The network is asked for ``(E - target_mean) / target_std`` of a whole structure (energy or
    relaxed energy), as in the Open Catalyst code, and there are no element references: these are
    zero. Forces and stress are divided by ``grad_target_std``. Where they are derivatives of the
    energy, they scale as it does, so that the two standard deviations have to agree and
    ``grad_target_mean`` is 0.

    Attributes:
        target_mean: eV.
        target_std: eV.
        grad_target_mean: eV/angstrom.
        grad_target_std: eV/angstrom; null takes ``target_std``. (Not used for relaxed energies,
            which have no forces.)
    """

    target_mean: float = 0.0
    target_std: float = 1.0
    grad_target_mean: float = 0.0
    grad_target_std: float | None = None

    def __post_init__(self) -> None:
        """Refuse numbers that cannot be scales."""
        for name in ("target_std", "grad_target_std"):
            value = getattr(self, name)
            if value is not None and not value > 0.0:
                raise ConfigError(
                    f"normalize_kwargs.{name} is {value}", expected="a number above 0"
                )

    @property
    def of_forces(self) -> Normalizer:
        """Of forces and stress."""
        std = self.target_std if self.grad_target_std is None else self.grad_target_std
        return Normalizer(self.grad_target_mean, std)


def with_normalizers(
    tasks: Sequence[Task], given: NormalizeKwargs, direct: Collection[str]
) -> list[Task]:
    """Return the tasks with these normalizers and without element references.

    Args:
        tasks: Of a new potential.
        given: The numbers.
        direct: Properties that have a head of their own, and so any scale.

    Raises:
        ConfigError: If forces that are derivatives would scale unlike the energy.
    """
    derived = {task.property for task in tasks} & {"forces", "stress"} - set(direct)
    if derived and given.of_forces != Normalizer(0.0, given.target_std):
        raise ConfigError(
            f"normalize_kwargs has target_std {given.target_std}, grad_target_std "
            f"{given.of_forces.rmsd} and grad_target_mean {given.grad_target_mean}, but forces are "
            "derivatives of the energy here and scale as it does",
            expected="two equal standard deviations, and grad_target_mean 0",
        )
    energy = Normalizer(given.target_mean, given.target_std)
    return [
        replace(
            task,
            normalizer=energy if "energy" in task.property else given.of_forces,
            element_references=None,
        )
        for task in tasks
    ]
