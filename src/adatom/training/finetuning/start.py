"""Check that a fine-tuning begins where its base is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from adatom.core.console import say
from adatom.core.errors import AdatomError
from adatom.data.atomic_data import AtomicData
from adatom.data.element_references import MAX_ATOMIC_NUMBER
from adatom.tasks.potential import Potential
from adatom.training.finetuning.predictions import batches
from adatom.training.finetuning.references import ReferenceRefit

#: Rounding of float32 networks: eV/atom and eV/angstrom, relative to predictions above 1.
_TOLERANCE = 2e-5


class StartError(AdatomError, RuntimeError):
    """A prepared potential does not predict what its base predicts."""


@dataclass(frozen=True, slots=True)
class Start:
    """How far the first predictions are from those of the base.

    Attributes:
        energy: Largest deviation in eV per atom, after the change of the element references.
        forces: Largest deviation in eV/angstrom.
        num_systems: Structures that were compared.
    """

    energy: float
    forces: float
    num_systems: int

    def show(self) -> None:
        """Say it in one message."""
        say(
            f"Step 0 on {self.num_systems} structures: forces are those of the base to "
            f"{self.forces:.1g} eV/A; energies too, but for the change of references, to "
            f"{self.energy:.1g} eV/atom."
        )


def check_start(
    base: Potential,
    prepared: Potential,
    likes: Mapping[str, str],
    systems: Sequence[AtomicData],
    refits: Sequence[ReferenceRefit] = (),
) -> Start:
    """Compare the predictions of a prepared potential with those of its base.

    Args:
        base: As it was loaded.
        prepared: What will be trained.
        likes: From each dataset of ``systems`` to that of the base which it began as.
        systems: A few single systems without edges.
        refits: Changes of element references, which the energies of ``prepared`` may have.

    Raises:
        StartError: If they differ by more than rounding and element references.
    """
    energy = forces = 0.0
    count = 0
    for dataset in sorted({system.dataset[0] for system in systems}):
        change = torch.zeros(MAX_ATOMIC_NUMBER + 1, dtype=torch.float64)
        for refit in refits:
            change += refit.after - refit.before if refit.dataset == dataset else 0.0
        chosen = [system for system in systems if system.dataset[0] == dataset]
        pairs = zip(
            batches(base, chosen, dataset=likes[dataset]),
            batches(prepared, chosen, dataset=dataset),
            strict=True,
        )
        for before, after in pairs:
            old, new = _predictions(base, before), _predictions(prepared, after)
            moved = new["energy"] - _sum_of(change, after)
            deviation = (old["energy"] - moved).abs() / before.natoms
            bare = old["energy"] - _sum_of_references(base, before)
            size = (bare.abs() / before.natoms).clamp(min=1.0)
            energy = max(energy, float((deviation / size).max()))
            scale = max(1.0, float(old["forces"].abs().max()))
            forces = max(forces, float((old["forces"] - new["forces"]).abs().max()) / scale)
        count += len(chosen)
    if not (energy <= _TOLERANCE and forces <= _TOLERANCE):
        raise StartError(
            f"Before any training the energies differ from those of the base by {energy:.3g} "
            f"eV/atom and the forces by {forces:.3g} eV/A",
            expected=f"the predictions of the base, to {_TOLERANCE}",
            fix="Please report this with the checkpoint's name.",
        )
    return Start(energy, forces, count)


def _predictions(potential: Potential, data: AtomicData) -> dict[str, torch.Tensor]:
    raw = potential(data, ("energy", "forces"))
    return potential.denormalize({name: value.detach() for name, value in raw.items()}, data)


def _sum_of_references(potential: Potential, data: AtomicData) -> torch.Tensor:
    per_atom = potential.reference_energies(data)
    return per_atom.new_zeros(data.num_systems).index_add(0, data.batch, per_atom)


def _sum_of(table: torch.Tensor, data: AtomicData) -> torch.Tensor:
    """Return the sum over the atoms of each system of a table by element."""
    per_atom = table[data.atomic_numbers]
    return per_atom.new_zeros(data.num_systems).index_add(0, data.batch, per_atom)
