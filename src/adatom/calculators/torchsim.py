"""A potential as a model of TorchSim, which simulates batches of systems on one device."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from adatom.calculators.task_rules import TaskRules
from adatom.calculators.unit_of import neighbors_of, predict_unit_of, require_energies, with_edges
from adatom.core.errors import DataError, MissingExtraError
from adatom.data.atomic_data import AtomicData
from adatom.inference.predict_unit import MLIPPredictUnit, Settings
from adatom.tasks.potential import Potential

try:
    from torch_sim.models.interface import ModelInterface
    from torch_sim.state import SimState
except ImportError as error:
    raise MissingExtraError("torch-sim-atomistic", "torchsim") from error


class TorchSimModel(ModelInterface):  # type: ignore[misc]
    """TorchSim model with energy, forces and stress of every system in a state.

    Results are ``energy [B]`` in eV, ``forces [N, 3]`` in eV/angstrom and ``stress [B, 3, 3]`` in
    eV/angstrom^3 (positive is tensile; NaN for a system whose cell has no volume). Total charge
    and spin multiplicity ``[B]`` are taken from the state where it has them (``state.charge``,
    ``state.spin``), and completed as :class:`adatom.calculators.task_rules.TaskRules` says.
    Neighbors are kept within a Verlet skin from step to step.

    Args:
        model: Name or path of a checkpoint, a potential, or a predict unit.
        task_name: The level of theory, needed only if the potential has several.
        inference_settings: How to compute: a preset's name or settings (not for a predict unit).
        device: Where to compute (not for a predict unit). Default CPU.
        dtype: Dtype of states and results. That of the network belongs to the settings.
        compute_forces: Whether forces are computed.
        compute_stress: Whether stress is computed.
        skin: Verlet skin in angstrom.

    Raises:
        ConfigError: If there are several tasks and none was chosen, or an argument is wrong.
        UnknownNameError: If the potential has no such task.
    """

    def __init__(
        self,
        model: str | Path | Potential | MLIPPredictUnit,
        task_name: str | None = None,
        *,
        inference_settings: Settings = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float64,
        compute_forces: bool = True,
        compute_stress: bool = True,
        skin: float = 0.5,
    ) -> None:
        super().__init__()
        self.predict_unit = predict_unit_of(model, inference_settings, device)
        self.task_name = self.predict_unit.resolve_task(task_name)
        require_energies(self.predict_unit, self.task_name)
        potential = self.predict_unit.potential
        self.rules = TaskRules(self.task_name, potential.domains[self.task_name])
        self.neighbors = neighbors_of(self.predict_unit, skin)
        self._device = self.predict_unit.device
        self._dtype = dtype
        self._compute_forces = compute_forces
        self._compute_stress = compute_stress
        # The number of edges grows with both.
        self._memory_scales_with = "n_atoms_x_density"
        self._last: tuple[dict[str, torch.Tensor | None], AtomicData] | None = None

    @property
    def compute_forces(self) -> bool:
        """Whether forces are computed; can be set."""
        return self._compute_forces

    @compute_forces.setter
    def compute_forces(self, value: bool) -> None:
        self._compute_forces = value

    @property
    def compute_stress(self) -> bool:
        """Whether stress is computed; can be set."""
        return self._compute_stress

    @compute_stress.setter
    def compute_stress(self, value: bool) -> None:
        self._compute_stress = value

    def forward(
        self, state: SimState | dict[str, torch.Tensor], **options: Any
    ) -> dict[str, torch.Tensor]:
        """Compute the results of one state, which is not changed.

        Args:
            state: The systems, or a dictionary with their tensors.
            **options: Ignored; TorchSim's interface has it.

        Raises:
            DataError: If the state is unusable.
            OutOfDomainError: If it has an element, charge or spin that was never seen.
            NonFiniteError: If the prediction is not finite.
        """
        del options
        if isinstance(state, dict):
            state = SimState(**state)
        data = with_edges(self.predict_unit, self.neighbors, self._data(state))
        names = ["energy"]
        names += ["forces"] if self._compute_forces else []
        names += ["stress"] if self._compute_stress else []
        prediction = self.predict_unit.predict(data, names)
        results = {}
        for name in names:
            if name in prediction:
                value = prediction[name]
            else:  # no system has a volume
                value = data.pos.new_full((data.num_systems, 3, 3), torch.nan)
            results[name] = value.to(device=state.device, dtype=self._dtype)
        return results

    def _data(self, state: SimState) -> AtomicData:
        """Convert a state, and of one that only moved no more than what moved."""
        fixed = {
            "numbers": state.atomic_numbers,
            "system": state.system_idx,
            "pbc": torch.as_tensor(state.pbc),
            "charge": _of_systems(state, "charge"),
            "spin": _of_systems(state, "spin"),
        }
        if self._last is None or not _equal(self._last[0], fixed):
            copies = {k: None if v is None else v.clone() for k, v in fixed.items()}
            self._last = (copies, self._converted(state, fixed))
        return replace(
            self._last[1],
            pos=state.positions.detach().to(self._device, torch.float64),
            cell=state.row_vector_cell.detach().to(self._device, torch.float64),
        )

    def _converted(self, state: SimState, fixed: dict[str, torch.Tensor | None]) -> AtomicData:
        count = int(state.n_systems)
        natoms = torch.bincount(state.system_idx, minlength=count).cpu()
        numbers = state.atomic_numbers.to(torch.int64)
        # One flag for all, one per direction, or one per system and direction.
        pbc = torch.as_tensor(state.pbc).to(torch.bool).cpu().expand(count, 3).contiguous()
        states = []
        for i, some in enumerate(torch.split(numbers.cpu(), natoms.tolist())):
            given = {
                name: None if (values := fixed[name]) is None else int(values[i])
                for name in ("charge", "spin")
            }
            states.append(
                self.rules.charge_and_spin(
                    some.numpy(), periodic=bool(pbc[i].any()), where=f"System {i}", **given
                )
            )
        charge, spin = torch.tensor(states, dtype=torch.int64).T
        return AtomicData(
            pos=state.positions,
            atomic_numbers=numbers,
            cell=state.row_vector_cell,
            pbc=pbc,
            natoms=natoms,
            batch=state.system_idx.to(torch.int64),
            charge=charge,
            spin=spin,
            dataset=[self.task_name] * count,
            tags=torch.zeros_like(numbers),
            fixed=torch.zeros_like(numbers, dtype=torch.bool),
            sid=[str(i) for i in range(count)],
        ).to(self._device)


def _of_systems(state: SimState, name: str) -> torch.Tensor | None:
    """Return charge or spin ``[B]`` of a state, or None where it has none."""
    extras = getattr(state, "has_extras", None)
    if extras is not None and not extras(name):
        return None
    value = getattr(state, name, None)
    if value is None:
        return None
    value = torch.as_tensor(value)
    if value.numel() != state.n_systems or bool((value != value.round()).any()):
        raise DataError(
            f"The {name} of the state is {value.tolist()}",
            expected=f"one whole number for each of the {state.n_systems} system(s)",
        )
    return value.reshape(-1).to(torch.int64)


def _equal(one: dict[str, torch.Tensor | None], other: dict[str, torch.Tensor | None]) -> bool:
    for name, value in one.items():
        new = other[name]
        if value is None or new is None:
            if value is not new:
                return False
        elif value.device != new.device or not torch.equal(value, new):
            return False
    return True
