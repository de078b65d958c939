"""A potential behind a batching service, as an ASE calculator."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import torch
from ase.calculators.calculator import Calculator

from adatom.calculators.ase_calculator import MADE_OF, MLIPCalculator
from adatom.calculators.task_rules import TaskRules
from adatom.core.errors import ConfigError, unknown_name
from adatom.data.atomic_data import AtomicData
from adatom.data.charge_spin import charge_and_spin
from adatom.inference.prediction import Prediction
from adatom.inference.serving.client import ServiceClient
from adatom.tasks.domain import Domain


class RemoteCalculator(MLIPCalculator):
    """ASE calculator that asks a batching service (``adatom serve``).

    Properties, units, charge, spin and errors are those of
    :class:`adatom.calculators.ase_calculator.MLIPCalculator`; the numbers are those that it gives
    with the same potential, up to rounding. Each thread needs its own calculator; they may share
    a client.

    Args:
        url: Such as ``"http://127.0.0.1:8000"``, or a client.
        task_name: The level of theory, needed only if the potential has several.
        model: Name of the potential, needed only if the service has several.
        token: What the service wants to know; None takes the environment's ``ADATOM_TOKEN``
            (not for a client, which has its own).
        charge: Total charge of every structure; None reads ``atoms.info``.
        spin: Multiplicity 2S+1 of every structure; None reads ``atoms.info``.
        timeout: Seconds to wait for one answer (not for a client).
        patience: Seconds to try again, in all, while the service is full or cannot be reached
            (not for a client).
        any_version: Go on if the service replaces the potential by another of the same name;
            else that is an error, because a run would mix two potentials.

    Raises:
        ServiceError: If the service cannot be reached, or wants another token.
        ConfigError: If there are several tasks or models and none was chosen, or the potential
            has relaxed energies.
        UnknownNameError: If there is no such task or model.
    """

    def __init__(
        self,
        url: str | ServiceClient,
        task_name: str | None = None,
        *,
        model: str | None = None,
        token: str | None = None,
        charge: int | None = None,
        spin: int | None = None,
        timeout: float = 600.0,
        patience: float = 120.0,
        any_version: bool = False,
    ) -> None:
        # The base class would load a potential.
        Calculator.__init__(self)
        if isinstance(url, str):
            url = ServiceClient(url, token=token, timeout=timeout, patience=patience)
        self.client = url
        self.model = url.model(model)
        self.predict_unit = _RemoteUnit(url, self.model, any_version)  # type: ignore[assignment]
        self.task_name = _task(self.model, task_name)
        told = self.model["tasks"][self.task_name]
        given = {"charge": charge, "spin": spin}
        self._given = {name: value for name, value in given.items() if value is not None}
        charge_and_spin(self._given, {}, "The calculator")
        domain = Domain(tuple(told["elements"]), tuple(told["charges"]), tuple(told["spins"]))
        self.rules = TaskRules(self.task_name, domain)
        self.implemented_properties = [
            name for name, source in MADE_OF.items() if source in told["properties"]
        ]
        self._last = None

    def todict(self, skip_default: bool = True) -> dict[str, Any]:
        """Describe the calculator for trajectories and databases (plain JSON values)."""
        del skip_default
        return {
            "task_name": self.task_name,
            "url": self.client.url,
            "model": self.model["name"],
            "version": self.model["version"],
            "dtype": self.model["dtype"],
            **self._given,
        }

    def _predict(self, data: AtomicData, names: Sequence[str]) -> Prediction:
        # The service finds the neighbors.
        return self.predict_unit.predict(data, names)


class _RemoteUnit:
    """What the calculator asks, in place of a predict unit."""

    device = torch.device("cpu")

    def __init__(self, client: ServiceClient, model: dict[str, Any], any_version: bool) -> None:
        self._client = client
        self._model = model
        self._any_version = any_version

    def predict(self, data: AtomicData, properties: Collection[str]) -> Prediction:
        """Ask for one structure, and raise its error if it has one."""
        found = self._client.predict(
            [data], properties, self._model, any_version=self._any_version
        )[0]
        if isinstance(found, Prediction):
            return found
        raise found


def _task(model: dict[str, Any], name: str | None) -> str:
    tasks: dict[str, Any] = model["tasks"]
    if name is None:
        if len(tasks) > 1:
            raise ConfigError(
                "This potential has several tasks and none was chosen",
                expected=f"a task name among: {', '.join(tasks)}",
            )
        name = next(iter(tasks))
    if name not in tasks:
        raise unknown_name("task", name, tasks)
    if tasks[name]["relaxed"]:
        raise ConfigError(
            f"This potential predicts relaxed energies for the task {name!r}, which have no forces",
            fix="Use 'adatom predict', or a potential that was trained on energies and forces.",
        )
    return name
