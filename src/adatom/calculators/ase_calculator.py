"""A potential as an ASE calculator."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes

from adatom.core.errors import ConfigError, DataError
from adatom.core.precision import torch_threads
from adatom.core.units import matrix_to_voigt
from adatom.data.ase_convert import from_ase
from adatom.data.atomic_data import AtomicData
from adatom.data.charge_spin import charge_and_spin
from adatom.graph.verlet import VerletList
from adatom.inference.predict_unit import MLIPPredictUnit
from adatom.tasks.potential import Potential


class MLIPCalculator(Calculator):
    """ASE calculator with energy, free_energy, forces, stress and energies.

    Energies are in eV, forces in eV/angstrom, stress in eV/angstrom^3 (Voigt order xx, yy, zz, yz,
    xz, xy; positive is tensile), absent where the cell has no volume. Total charge and spin
    multiplicity are read from ``atoms.info["charge"]`` and ``atoms.info["spin"]``; changing them
    triggers a new calculation. ``atoms.info`` is never changed.

    Args:
        checkpoint_or_predict_unit: Name or path of a checkpoint, a potential, or a predict unit.
        task_name: The level of theory, needed only if the potential has several.
        device: Where to compute (not for a predict unit, which has its own).
        dtype: Floating dtype of the network; None keeps the potential's (not for a predict unit).
        skin: Verlet skin in angstrom: how far beyond the cutoff neighbors are kept, so that the
            search is repeated only after atoms moved by half of it. Results do not depend on it;
            0 searches at every call.
        threads: CPU threads of torch during a calculation; None leaves the setting alone.

    Raises:
        ConfigError: If there are several tasks and none was chosen, or an argument is wrong.
        UnknownNameError: If the potential has no such task.
    """

    implemented_properties: list[str] = [  # noqa: RUF012 (so declared by ASE)
        "energy",
        "free_energy",
        "forces",
        "stress",
        "energies",
    ]

    def __init__(
        self,
        checkpoint_or_predict_unit: str | Path | Potential | MLIPPredictUnit,
        task_name: str | None = None,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        skin: float = 0.5,
        threads: int | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.predict_unit = _predict_unit(checkpoint_or_predict_unit, device, dtype)
        self.task_name = self.predict_unit.resolve_task(task_name)
        self.threads = threads
        potential = self.predict_unit.potential
        self.neighbors = VerletList(
            potential.cutoff, skin=skin, max_neighbors=potential.max_neighbors
        )

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """List what changed since the last calculation, charge and spin included."""
        changes: list[str] = super().check_state(atoms, tol)  # type: ignore[no-untyped-call]
        if not changes and self.atoms is not None:
            before, now = (
                charge_and_spin(a.info, {}, "The structure") for a in (self.atoms, atoms)
            )
            if before != now:
                changes.append("info")
        return changes

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Compute everything the structure has; called by ASE.

        Raises:
            DataError: If the structure is unusable.
            OutOfDomainError: If it has an element, charge or spin that was never seen.
            NonFiniteError: If the prediction is not finite.
            PropertyNotImplementedError: If stress is asked for without a volume.
        """
        super().calculate(  # type: ignore[no-untyped-call]
            atoms, list(properties), list(system_changes)
        )
        if self.atoms is None:
            raise DataError("The calculator has no structure", fix="Call it with atoms.")
        # A copy without a calculator, made by the base class.
        data = from_ase(self.atoms, dataset=self.task_name, label_keys={})
        with torch_threads(self.threads) if self.threads else nullcontext():
            prediction = self.predict_unit.predict(self._with_edges(data))
        energy = float(prediction["energy"][0])
        self.results = {
            "energy": energy,
            "free_energy": energy,
            "forces": prediction["forces"].double().cpu().numpy(),
            "energies": prediction["energies"].cpu().numpy(),
        }
        if "stress" in prediction:
            self.results["stress"] = matrix_to_voigt(prediction["stress"][0].cpu().numpy())
        elif "stress" in properties:
            raise PropertyNotImplementedError(
                f"Structure {data.sid[0]!r} has no cell, hence no volume and no stress."
            )

    def todict(self, skip_default: bool = True) -> dict[str, Any]:
        """Describe the calculator for trajectories and databases (plain JSON values)."""
        del skip_default
        return {
            "task_name": self.task_name,
            "potential": str(self.predict_unit.potential.metadata.get("name", "unnamed")),
            "dtype": str(self.predict_unit.dtype).removeprefix("torch."),
        }

    def _with_edges(self, data: AtomicData) -> AtomicData:
        data = data.to(self.predict_unit.device)
        edges = self.neighbors.edges(data.pos, data.cell, data.pbc, data.natoms)
        return replace(data, edges=edges)


def _predict_unit(
    source: str | Path | Potential | MLIPPredictUnit,
    device: torch.device | str | None,
    dtype: torch.dtype | None,
) -> MLIPPredictUnit:
    if isinstance(source, MLIPPredictUnit):
        if device is not None or dtype is not None:
            raise ConfigError(
                "device and dtype were given beside a predict unit, which has its own",
                fix="Give them to the predict unit.",
            )
        return source
    if isinstance(source, Potential):
        return MLIPPredictUnit(source, device=device or "cpu", dtype=dtype)
    return MLIPPredictUnit.load(source, device=device or "cpu", dtype=dtype)
