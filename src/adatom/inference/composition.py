"""What a batch is made of, found once while it stays the same."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from adatom.data.atomic_data import AtomicData
from adatom.tasks.potential import Potential

#: What the merged weights of a system depend on: charge, spin, dataset, and pairs of an atomic
#: number and its count in the reduced formula.
Key = tuple[int, int, str, tuple[tuple[int, int], ...]]


@dataclass(frozen=True)
class _Seen:
    """Copies of what was looked at last, because the caller may change theirs in place."""

    atomic_numbers: torch.Tensor
    natoms: torch.Tensor
    charge: torch.Tensor
    spin: torch.Tensor
    dataset: list[str]
    keys: list[Key]

    def same(self, data: AtomicData) -> bool:
        return (
            self.dataset == data.dataset
            and _equal(self.atomic_numbers, data.atomic_numbers)
            and _equal(self.natoms, data.natoms)
            and _equal(self.charge, data.charge)
            and _equal(self.spin, data.spin)
        )


class Compositions:
    """Checks that a potential knows what a batch is made of, and names it.

    Args:
        potential: Refuses what it never saw.

    Attributes:
        exact: Whether counts matter and not only their ratios: so in the one published model whose
            router divides by the number of atoms plus one.
    """

    def __init__(self, potential: Potential) -> None:
        self._potential = potential
        self.exact = bool(getattr(potential.backbone, "composition_mean_counts_zero", False))
        self._last: _Seen | None = None

    def keys(self, data: AtomicData) -> list[Key]:
        """Return one key per system.

        Args:
            data: Well formed (see :func:`adatom.inference.well_formed.check_well_formed`).

        Raises:
            UnknownNameError: If a dataset is not known.
            OutOfDomainError: If an element, charge or spin was never seen.
        """
        last = self._last
        if last is not None and last.same(data):
            return last.keys
        self._potential.check_input(data)
        numbers = data.atomic_numbers.tolist()
        systems = zip(
            data.natoms.tolist(),
            data.charge.tolist(),
            data.spin.tolist(),
            data.dataset,
            strict=True,
        )
        keys: list[Key] = []
        start = 0
        for natoms, charge, spin, dataset in systems:
            formula = self._formula(numbers[start : start + natoms])
            keys.append((charge, spin, dataset, formula))
            start += natoms
        self._last = _Seen(
            data.atomic_numbers.clone(),
            data.natoms.clone(),
            data.charge.clone(),
            data.spin.clone(),
            list(data.dataset),
            keys,
        )
        return keys

    def _formula(self, numbers: list[int]) -> tuple[tuple[int, int], ...]:
        counts: dict[int, int] = {}
        for number in sorted(numbers):
            counts[number] = counts.get(number, 0) + 1
        divisor = 1 if self.exact else math.gcd(*counts.values())
        return tuple((number, count // divisor) for number, count in counts.items())


def _equal(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.dtype == b.dtype and a.device == b.device and torch.equal(a, b)
