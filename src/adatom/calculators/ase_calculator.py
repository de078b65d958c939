"""A potential as an ASE calculator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes

from adatom.calculators.task_rules import TaskRules
from adatom.calculators.unit_of import (
    neighbors_of,
    predict_unit_of,
    require_energies,
    with_edges,
)
from adatom.core.errors import DataError
from adatom.core.units import matrix_to_voigt
from adatom.data.ase_convert import from_ase
from adatom.data.atomic_data import AtomicData
from adatom.data.charge_spin import charge_and_spin
from adatom.inference.predict_unit import MLIPPredictUnit, Settings
from adatom.inference.prediction import Prediction
from adatom.tasks.potential import Potential

#: ASE's names of properties, and the predicted properties they are made of.
MADE_OF = {
    "energy": "energy",
    "free_energy": "energy",
    "energies": "energies",
    "forces": "forces",
    "stress": "stress",
    "stresses": "virials",
    "hessian": "hessian",
}
#: Computed at every call, because they come together; the others only when they are asked for.
_ALWAYS = ("energy", "free_energy", "energies", "forces", "stress")
_NEED_VOLUME = ("stress", "stresses")


class MLIPCalculator(Calculator):
    """ASE calculator with energies, forces, stresses and Hessian.

    ``energy`` and ``free_energy`` (the same) and ``energies`` per atom in eV, ``forces`` in
    eV/angstrom, ``stress`` in eV/angstrom^3 (Voigt order xx, yy, zz, yz, xz, xy; positive is
    tensile). ``stresses [N, 6]`` per atom sum up to the stress. ``hessian [3N, 3N]`` is in
    eV/angstrom^2. Stresses and the Hessian are computed only when they are asked for; there are
    no stresses where the cell has no volume. Directions may be periodic in any mixture.

    Total charge and spin multiplicity are read from ``atoms.info["charge"]`` and
    ``atoms.info["spin"]``, or given here for every structure; where both are given they have to
    agree. Changing them triggers a new calculation. ``atoms.info`` is never changed. What a task
    needs is checked, see :class:`adatom.calculators.task_rules.TaskRules`.

    Args:
        checkpoint_or_predict_unit: Name or path of a checkpoint, a potential, or a predict unit.
        task_name: The level of theory, needed only if the potential has several.
        charge: Total charge of every structure; None reads ``atoms.info``.
        spin: Multiplicity 2S+1 of every structure; None reads ``atoms.info``.
        inference_settings: How to compute: a preset's name or settings, also the number of
            threads (not for a predict unit, which has its own).
        device: Where to compute (not for a predict unit, which has its own).
        dtype: Floating dtype of the network; None keeps the potential's (not for a predict unit).
        skin: Verlet skin in angstrom: how far beyond the cutoff neighbors are kept, so that the
            search is repeated only after atoms moved by half of it. Results do not depend on it;
            0 searches at every call. Several workers have their own.
        workers: Processes that compute each structure together (not for a predict unit); more
            than 1 needs Ray.

    Raises:
        ConfigError: If there are several tasks and none was chosen, the potential has relaxed
            energies, or an argument is wrong.
        UnknownNameError: If the potential has no such task.
    """

    def __init__(
        self,
        checkpoint_or_predict_unit: str | Path | Potential | MLIPPredictUnit,
        task_name: str | None = None,
        *,
        charge: int | None = None,
        spin: int | None = None,
        inference_settings: Settings = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        skin: float = 0.5,
        workers: int = 1,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.predict_unit = predict_unit_of(
            checkpoint_or_predict_unit, inference_settings, device, dtype, workers=workers
        )
        self.task_name = self.predict_unit.resolve_task(task_name)
        require_energies(self.predict_unit, self.task_name)
        given = {"charge": charge, "spin": spin}
        self._given = {name: value for name, value in given.items() if value is not None}
        charge_and_spin(self._given, {}, "The calculator")
        potential = self.predict_unit.potential
        self.rules = TaskRules(self.task_name, potential.domains[self.task_name])
        possible = potential.properties(self.task_name)
        self.implemented_properties = [
            name for name, source in MADE_OF.items() if source in possible
        ]
        self.neighbors = neighbors_of(self.predict_unit, skin)
        self._last: tuple[_State, AtomicData] | None = None

    @classmethod
    def from_checkpoint(
        cls,
        name_or_path: str | Path,
        task_name: str | None = None,
        inference_settings: Settings = "default",
        *,
        overrides: Mapping[str, Any] | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
        charge: int | None = None,
        spin: int | None = None,
        skin: float = 0.5,
        workers: int = 1,
    ) -> MLIPCalculator:
        """Load a checkpoint as a calculator.

        Args:
            name_or_path: As for :func:`adatom.inference.pretrained_mlip.get_predict_unit`.
            task_name: The level of theory, needed only if the potential has several.
            inference_settings: How to compute.
            overrides: Settings of the model to change.
            device: Where to compute.
            dtype: Floating dtype of the network; None takes that of the settings.
            charge: As for the class.
            spin: As for the class.
            skin: As for the class.
            workers: As for the class.

        Raises:
            AdatomError: If there is no such file or name, or the file is damaged.
        """
        unit = predict_unit_of(name_or_path, inference_settings, device, dtype, overrides, workers)
        return cls(unit, task_name, charge=charge, spin=spin, skin=skin)

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """List what changed since the last calculation, of all that results depend on.

        Args:
            atoms: The structure now.
            tol: ASE's argument; any difference counts.
        """
        del tol
        known = self.atoms
        if known is None:
            return list(all_changes)
        changes = [
            name
            for name, before, now in (
                ("positions", known.positions, atoms.positions),
                ("numbers", known.numbers, atoms.numbers),
                ("cell", known.cell.array, atoms.cell.array),
                ("pbc", known.pbc, atoms.pbc),
            )
            if not np.array_equal(before, now)
        ]
        if _given(known) != _given(atoms):
            changes.append("info")
        return changes

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Compute what is asked for and all that comes with it; called by ASE.

        After an error the calculator is as it was before.

        Raises:
            DataError: If the structure is unusable, or contradicts the calculator's charge or spin.
            OutOfDomainError: If it has an element, charge or spin that was never seen.
            NonFiniteError: If the prediction is not finite.
            PropertyNotImplementedError: If the potential does not give a property, or stress is
                asked for without a volume.
        """
        atoms = self.atoms if atoms is None else atoms
        if atoms is None:
            raise DataError("The calculator has no structure", fix="Call it with atoms.")
        known = {} if system_changes else self.results
        volume = float(atoms.cell.volume)
        wanted = [
            name
            for name in self.implemented_properties
            if (name in _ALWAYS or name in properties)
            and name not in known
            and (volume > 0 or name not in _NEED_VOLUME)
        ]
        data = self._data(atoms)
        if wanted:
            sources = list(dict.fromkeys(MADE_OF[name] for name in wanted))
            known = known | _results(self._predict(data, sources), wanted, volume)
        super().calculate(  # type: ignore[no-untyped-call]
            atoms, list(properties), list(system_changes)
        )
        self.results = known
        self._require(properties, data.sid[0])

    def get_hessian(self, atoms: Atoms | None = None) -> npt.NDArray[np.float64]:
        """Return the second derivatives of the energy ``[3N, 3N]``, eV/angstrom^2.

        Rows and columns run over the atoms and then x, y, z.
        """
        hessian: npt.NDArray[np.float64] = self.get_property("hessian", atoms)  # type: ignore[no-untyped-call]
        return hessian

    def todict(self, skip_default: bool = True) -> dict[str, Any]:
        """Describe the calculator for trajectories and databases (plain JSON values)."""
        del skip_default
        return {
            "task_name": self.task_name,
            "potential": str(self.predict_unit.potential.metadata.get("name", "unnamed")),
            "dtype": str(self.predict_unit.dtype).removeprefix("torch."),
            **self._given,
        }

    def _predict(self, data: AtomicData, names: Sequence[str]) -> Prediction:
        return self.predict_unit.predict(with_edges(self.predict_unit, self.neighbors, data), names)

    def _data(self, atoms: Atoms) -> AtomicData:
        """Convert a structure, and of one that only moved no more than what moved."""
        device = self.predict_unit.device
        state = _State.of(atoms)
        if self._last is not None and self._last[0].equals(state):
            return replace(
                self._last[1],
                pos=torch.tensor(atoms.positions, dtype=torch.float64, device=device),
                cell=torch.tensor(atoms.cell.array, dtype=torch.float64, device=device)[None],
            )
        sid = str(atoms.info.get("sid") or atoms.get_chemical_formula())
        charge, spin = self._charge_and_spin(state, f"Structure {sid!r}")
        # Without info and arrays, whose units and labels are not the calculator's business.
        bare = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        data = from_ase(bare, dataset=self.task_name, sid=sid, label_keys={})
        data = replace(data, charge=torch.tensor([charge]), spin=torch.tensor([spin])).to(device)
        self._last = (state, data)
        return data

    def _charge_and_spin(self, state: _State, where: str) -> tuple[int, int]:
        for name, value in self._given.items():
            if state.given.get(name, value) != value:
                raise DataError(
                    f"{where} has {name} {state.given[name]} in atoms.info, but the calculator was "
                    f"made with {name}={value}",
                    fix="Give it in one place only.",
                )
        known = {**state.given, **self._given}
        return self.rules.charge_and_spin(
            state.numbers,
            periodic=bool(state.pbc.any()),
            charge=known.get("charge"),
            spin=known.get("spin"),
            where=where,
        )

    def _require(self, properties: Sequence[str], sid: str) -> None:
        for name in properties:
            if name in self.results:
                continue
            if name in self.implemented_properties and name in _NEED_VOLUME:
                raise PropertyNotImplementedError(
                    f"Structure {sid!r} has no cell, hence no volume and no {name}."
                )
            raise PropertyNotImplementedError(
                f"The potential gives no {name} for the task {self.task_name!r}. "
                f"It gives: {', '.join(self.implemented_properties)}."
            )


class _State(NamedTuple):
    """What the numbers depend on besides positions and cell; copied.

    Attributes:
        numbers: ``[N]`` atomic numbers.
        pbc: ``[3]`` bool.
        given: Those of ``charge`` and ``spin`` that ``atoms.info`` has.
    """

    numbers: npt.NDArray[np.int64]
    pbc: npt.NDArray[np.bool_]
    given: dict[str, int]

    @classmethod
    def of(cls, atoms: Atoms) -> _State:
        return cls(
            np.array(atoms.numbers, dtype=np.int64),
            np.array(atoms.pbc, dtype=bool),
            _given(atoms),
        )

    def equals(self, other: _State) -> bool:
        return (
            self.given == other.given
            and np.array_equal(self.numbers, other.numbers)
            and np.array_equal(self.pbc, other.pbc)
        )


def _given(atoms: Atoms) -> dict[str, int]:
    """Return those of charge and spin that ``atoms.info`` has."""
    charge, spin = charge_and_spin(atoms.info, {}, "The structure")
    found = {"charge": charge, "spin": spin}
    return {name: value for name, value in found.items() if name in atoms.info}


def _results(prediction: Prediction, names: Sequence[str], volume: float) -> dict[str, Any]:
    """Convert the predictions for one structure to ASE's units and shapes."""
    results: dict[str, Any] = {}
    for name in names:
        value = prediction[MADE_OF[name]].double().cpu().numpy()
        if name in ("energy", "free_energy"):
            results[name] = float(value[0])
        elif name == "stress":
            results[name] = matrix_to_voigt(value[0])
        elif name == "stresses":
            results[name] = matrix_to_voigt(value) / volume
        else:
            results[name] = value
    return results
