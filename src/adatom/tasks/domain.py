"""What a potential has seen, so that anything else is refused instead of extrapolated."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from ase.data import chemical_symbols

from adatom.core.errors import OutOfDomainError


@dataclass(slots=True, frozen=True)
class Domain:
    """Elements, charges and spin multiplicities of one dataset's training data.

    Attributes:
        elements: Atomic numbers, ascending.
        charges: Total charges, ascending; empty means any.
        spins: Multiplicities (0 = not given), ascending; empty means any.
    """

    elements: tuple[int, ...]
    charges: tuple[int, ...] = ()
    spins: tuple[int, ...] = ()

    def check(self, numbers: torch.Tensor, charge: int, spin: int, sid: str) -> None:
        """Raise :class:`OutOfDomainError` if a system has something that was never seen.

        Args:
            numbers: ``[n]`` atomic numbers of one system.
            charge: Total charge.
            spin: Multiplicity.
            sid: Named in the message.
        """
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
                    expected=f"{kind} among {', '.join(map(str, known))}",
                    fix=f"Set atoms.info['{kind}'] or use a potential trained for it.",
                )


def _symbols(numbers: tuple[int, ...] | list[int]) -> str:
    return ", ".join(
        chemical_symbols[z] if 0 < z < len(chemical_symbols) else f"Z={z}" for z in numbers
    )
