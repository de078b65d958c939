"""Isolated atoms of potentials that were not made for them: answered from a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from ase.data import chemical_symbols

from adatom.core.errors import OutOfDomainError
from adatom.data.atomic_data import AtomicData
from adatom.tasks.potential import Potential


class SingleAtoms:
    """Energies of isolated atoms.

    A checkpoint whose metadata say ``supports_single_atoms: false`` was not trained on atoms
    without neighbors. Its metadata may hold their energies, ``atom_refs``: from dataset to atomic
    number to eV, or to eV by charge. The spin is that of the table.

    Args:
        potential: Its metadata are read.
    """

    def __init__(self, potential: Potential) -> None:
        self._metadata = potential.metadata

    def concerns(self, system: AtomicData) -> bool:
        """Tell whether a system is a lone atom that the network must not be asked about."""
        if system.num_atoms != 1 or self._metadata.get("supports_single_atoms", True):
            return False
        return not bool(system.pbc.any())

    def some(self, batch: AtomicData) -> bool:
        """Tell whether any system of a batch is such a lone atom."""
        if self._metadata.get("supports_single_atoms", True):
            return False
        return bool(((batch.natoms == 1) & ~batch.pbc.any(1)).any())

    def predict(
        self, system: AtomicData, properties: list[str], dtype: torch.dtype
    ) -> dict[str, torch.Tensor]:
        """Return energies from the table, and zero for their derivatives.

        Args:
            system: One lone atom.
            properties: What is wanted; embeddings cannot be had.
            dtype: Floating dtype of the network.

        Raises:
            OutOfDomainError: If the table does not have this atom.
        """
        energy = self._energy(system)
        # Only the shapes and dtypes are those of the network's own predictions.
        one = torch.full((1,), energy, dtype=torch.float64, device=system.pos.device)
        tensor = one.new_zeros(1, 3, 3)
        values = {
            "energy": one,
            "energies": one.clone(),
            "forces": tensor[0, :1].to(dtype),
            "stress": tensor,
            "virials": tensor.clone(),
            "hessian": tensor[0].to(dtype, copy=True),
        }
        return {name: values[name] for name in properties if name in values}

    def _energy(self, system: AtomicData) -> float:
        number, charge = int(system.atomic_numbers[0]), int(system.charge[0])
        table = self._metadata.get("atom_refs") or {}
        entry = _entry(_entry(table, system.dataset[0]), number)
        value = _entry(entry, charge) if isinstance(entry, Mapping) else entry
        if isinstance(value, (int, float)):
            return float(value)
        symbol = chemical_symbols[number] if number < len(chemical_symbols) else f"Z={number}"
        what = "no table of isolated atoms"
        if table:
            what = f"no energy of {symbol} with charge {charge} for {system.dataset[0]!r}"
        raise OutOfDomainError(
            f"Structure {system.sid[0]!r} is a single atom without neighbors, which this potential "
            f"was not trained on, and its checkpoint has {what}",
            fix="Use a structure with at least two atoms, or a potential made for single atoms.",
        )


def _entry(table: Any, key: str | int) -> Any:
    """Look a key up as it is and as text, since JSON has no numbers as keys."""
    if not isinstance(table, Mapping):
        return None
    return table.get(key, table.get(str(key)))
