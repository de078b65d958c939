"""What a potential has seen, so that anything else is refused instead of extrapolated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from ase.data import chemical_symbols

from adatom.core.errors import OutOfDomainError
from adatom.tasks.composition import Composition


@dataclass(slots=True, frozen=True)
class Domain:
    """Elements, charges and spin multiplicities of one dataset's training data.

    Attributes:
        elements: Atomic numbers, ascending.
        charges: Total charges, ascending; empty means any.
        spins: Multiplicities (0 = not given), ascending; empty means any.
        composition: The only one that the weights are for, where experts were merged; else None.
    """

    elements: tuple[int, ...]
    charges: tuple[int, ...] = ()
    spins: tuple[int, ...] = ()
    composition: Composition | None = None

    def check(self, numbers: torch.Tensor, charge: int, spin: int, sid: str) -> None:
        """Raise :class:`OutOfDomainError` if a system has something that was never seen.

        Args:
            numbers: ``[n]`` atomic numbers of one system.
            charge: Total charge.
            spin: Multiplicity.
            sid: Named in the message.
        """
        if self.composition is not None:
            self._check_merged(self.composition, numbers, charge, spin, sid)
        unseen = sorted(set(numbers.tolist()) - set(self.elements))
        if unseen:
            raise OutOfDomainError(
                f"Structure {sid!r} has {_symbols(unseen)}, which this potential never saw",
                expected=f"only elements among {_symbols(self.elements)}",
            )
        for kind, value, known in (("charge", charge, self.charges), ("spin", spin, self.spins)):
            if known and value not in known:
                raise OutOfDomainError(
                    f"Structure {sid!r} has {kind} {value}, which this potential never saw",
                    expected=f"{kind} among {as_ranges(known)}",
                    fix=f"Leave atoms.info['{kind}'] out, or use a task that was trained with it."
                    if known == (0,)
                    else f"Set atoms.info['{kind}'] or use a potential trained for it.",
                )

    def _check_merged(
        self, merged: Composition, numbers: torch.Tensor, charge: int, spin: int, sid: str
    ) -> None:
        if merged.matches(numbers.tolist()) and charge in self.charges and spin in self.spins:
            return
        found = Composition.of(numbers.tolist(), multiples=merged.multiples)
        raise OutOfDomainError(
            f"Structure {sid!r} is {found} with charge {charge} and spin {spin}, but the experts "
            f"of this potential were merged for {merged} with charge {self.charges[0]} and spin "
            f"{self.spins[0]}",
            expected=f"{merged}, any number of formula units" if merged.multiples else str(merged),
            fix="Use the checkpoint that this one was merged from.",
        )


def as_ranges(values: Sequence[int], name: Callable[[int], str] = str) -> str:
    """Return ascending integers as text, runs of three or more shortened: ``"0, 2 to 5"``.

    Args:
        values: Ascending.
        name: How one value is written, such as an element's symbol.
    """
    runs: list[list[int]] = []
    for value in values:
        if runs and value == runs[-1][-1] + 1:
            runs[-1].append(value)
        else:
            runs.append([value])
    return ", ".join(
        f"{name(run[0])} to {name(run[-1])}" if len(run) > 2 else ", ".join(map(name, run))
        for run in runs
    )


def _symbols(numbers: tuple[int, ...] | list[int]) -> str:
    return ", ".join(
        chemical_symbols[z] if 0 < z < len(chemical_symbols) else f"Z={z}" for z in numbers
    )
