"""What a batch is made of, found once while it stays the same."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from adatom.core.errors import DataError
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

        Raises:
            UnknownNameError: If a dataset is not known.
            OutOfDomainError: If an element, charge or spin was never seen.
            DataError: If a tensor has the wrong type.
        """
        _check_types(data)
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


def _check_types(data: AtomicData) -> None:
    where = f"Structure {data.sid[0]!r}" if data.sid else "The batch"
    for name in ("atomic_numbers", "natoms", "batch", "charge", "spin"):
        dtype = getattr(data, name).dtype
        if dtype != torch.int64:
            raise DataError(f"{where} has {name} of type {dtype}", expected="torch.int64")


def check_geometry(data: AtomicData) -> None:
    """Refuse positions or cells that are not finite floating numbers.

    Raises:
        DataError: Naming the structure.
    """
    for name, word in (("pos", "positions"), ("cell", "cell")):
        value: torch.Tensor = getattr(data, name)
        if not value.dtype.is_floating_point:
            raise DataError(
                f"Structure {data.sid[0]!r} has {name} of type {value.dtype}",
                expected="a floating type such as torch.float64",
            )
        # The sum is finite only if every number is, up to overflow, which the slow way decides.
        if not math.isfinite(float(value.detach().sum())):
            rows = torch.isfinite(value.flatten(1)).all(1)
            if bool(rows.all()):
                continue
            row = int(torch.nonzero(~rows)[0])
            system = int(data.batch[row]) if name == "pos" else row
            raise DataError(
                f"Structure {data.sid[system]!r} has NaN or infinite numbers in its {word}",
                expected="finite numbers",
            )
