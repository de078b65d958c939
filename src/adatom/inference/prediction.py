"""What a predict unit returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from adatom.core.errors import DataError, MissingLabelError

#: Properties with one row per system; the Hessian belongs to one system as a whole, and all others
#: have one row per atom.
SYSTEM_PROPERTIES = frozenset({"energy", "stress", "relaxed_energy"})
_UNASKED = "it is not among the default properties of its dataset"


class Prediction(dict[str, torch.Tensor]):
    """Detached tensors by property name, one row per system or atom in input order.

    ``energy [B]`` and ``energies [N]`` in eV, float64; ``forces [N, 3]`` in eV/angstrom, in the
    potential's dtype; ``stress [B, 3, 3]`` in eV/angstrom^3, float64; ``virials [N, 3, 3]`` in eV,
    float64; ``hessian [3N, 3N]`` in eV/angstrom^2, of one system; ``embeddings [N, ...]``;
    ``relaxed_energy [B]`` in eV, float64. A property that none of the systems has is not a key,
    and asking for it says why. Where only some systems have it, the rows of the others are NaN and
    named in :attr:`absent`.

    Args:
        values: The tensors.
        sids: One identifier per system.
        absent: Reasons, by property and index of the system.
        natoms: Atoms per system.
        per_system: Names of further properties that have one row per system.
    """

    def __init__(
        self,
        values: Mapping[str, torch.Tensor],
        sids: list[str],
        absent: dict[str, dict[int, str]],
        natoms: list[int],
        per_system: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__(values)
        self.sids = sids
        self.absent = absent
        self.natoms = natoms
        self.per_system = per_system

    def __missing__(self, name: str) -> torch.Tensor:
        """Say why a property is not there.

        Raises:
            MissingLabelError: Always.
        """
        reasons = self.absent.get(name)
        if not reasons:
            raise MissingLabelError(
                f"The property {name!r} was not predicted",
                expected=f"one of: {', '.join(self)}",
                fix="Name it in the argument 'properties'.",
            )
        first, reason = next(iter(reasons.items()))
        others = f" (and {len(reasons) - 1} others)" if len(reasons) > 1 else ""
        raise MissingLabelError(f"Structure {self.sids[first]!r}{others} has no {name}: {reason}")

    def split(self) -> list[Prediction]:
        """Return one prediction per system, without rows of what a system does not have."""
        count = len(self.sids)
        if count == 1:
            return [self]
        pieces = {
            name: torch.split(value, 1 if self._of_system(name) else self.natoms)
            for name, value in self.items()
        }
        parts = []
        for i in range(count):
            reasons = {name: {0: of[i]} for name, of in self.absent.items() if i in of}
            values = {name: piece[i] for name, piece in pieces.items() if name not in reasons}
            parts.append(
                Prediction(values, [self.sids[i]], reasons, [self.natoms[i]], self.per_system)
            )
        return parts

    def _of_system(self, name: str) -> bool:
        return name in SYSTEM_PROPERTIES or name in self.per_system


def join(parts: Sequence[Prediction], names: Sequence[str]) -> Prediction:
    """Join predictions in order.

    Args:
        parts: At least one.
        names: Order of the properties.

    Raises:
        DataError: If a Hessian is among several systems.
    """
    if len(parts) == 1:
        return parts[0]
    if any("hessian" in part for part in parts):
        raise DataError(
            "A Hessian belongs to one structure, and several are predicted together",
            fix="Predict one structure at a time, or use iter_predict.",
        )
    natoms = [n for part in parts for n in part.natoms]
    present = {name for part in parts for name in part}
    absent: dict[str, dict[int, str]] = {}
    first = 0
    for part in parts:
        systems = range(len(part.sids))
        unasked = {name: dict.fromkeys(systems, _UNASKED) for name in present - set(part)}
        for name, reasons in (unasked | part.absent).items():
            own = {first + i: reason for i, reason in reasons.items()}
            absent.setdefault(name, {}).update(own)
        first += len(systems)
    ordered = [name for name in names if name in present] + sorted(present - set(names))
    values = {name: torch.cat(_rows(parts, name)) for name in ordered}
    sids = [sid for part in parts for sid in part.sids]
    return Prediction(values, sids, absent, natoms, parts[0].per_system)


def _rows(parts: Sequence[Prediction], name: str) -> list[torch.Tensor]:
    """Return a property of each part, NaN where it has none."""
    example = next(part[name] for part in parts if name in part)
    return [
        part[name]
        if name in part
        else example.new_full((_count(part, name), *example.shape[1:]), float("nan"))
        for part in parts
    ]


def _count(part: Prediction, name: str) -> int:
    own = name in SYSTEM_PROPERTIES or name in part.per_system
    return len(part.sids) if own else sum(part.natoms)
