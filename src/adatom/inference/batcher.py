"""Many relaxations or dynamics at once in one process, their predictions computed together."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self, TypeVar

import torch
from ase import Atoms

from adatom.core.errors import ConfigError
from adatom.data.atomic_data import AtomicData
from adatom.inference.predict_unit import MLIPPredictUnit, Settings, Structures
from adatom.inference.prediction import Prediction, join
from adatom.inference.pretrained_mlip import get_predict_unit
from adatom.inference.serving.batcher import MAX_WAITING, Batcher
from adatom.tasks.potential import PROPERTIES, Potential

Given = TypeVar("Given")
Found = TypeVar("Found")
#: Threads of the pool: enough to fill batches of small molecules.
_THREADS = 32


class BatchedPredictUnit(MLIPPredictUnit):
    """A predict unit whose calls from different threads are computed together.

    It is used like the unit it was made of, and gives the same numbers.

    Args:
        unit: Computes.
        batcher: Packs.
    """

    def __init__(self, unit: MLIPPredictUnit, batcher: Batcher) -> None:
        # Everything is the other unit's; nothing is prepared anew.
        self.settings = unit.settings
        self.device = unit.device
        self.potential = unit.potential
        self._runner = unit.runner
        self._batcher = batcher

    def predict(
        self,
        data: Structures,
        properties: Collection[str] | None = None,
        *,
        task_name: str | None = None,
    ) -> Prediction:
        """Predict, together with what other threads ask for at this time; see the base class."""
        if isinstance(data, AtomicData | Atoms):
            items = list(self._items(data, task_name))
            if len(items) == 1:
                return self._batcher.predict(items[0], properties)
        parts = list(self.iter_predict(data, properties, task_name=task_name))
        if not parts:
            return super().predict([], properties)
        return join(parts, (*PROPERTIES, *self._runner.extras))

    def iter_predict(
        self,
        structures: Structures,
        properties: Collection[str] | None = None,
        *,
        task_name: str | None = None,
    ) -> Iterator[Prediction]:
        """Predict one structure after the other, in the memory of one batch; see the base class."""
        waiting: list[Future[Prediction]] = []
        for item in self._items(structures, task_name):
            waiting.append(self._batcher.submit_checked(item, properties))
            if len(waiting) >= MAX_WAITING // 2:
                yield waiting.pop(0).result()
        for future in waiting:
            yield future.result()


class InferenceBatcher:
    """Computes together what threads of this process ask a potential for.

    Give :attr:`unit` to the calculators of your threads, each thread its own calculator::

        with InferenceBatcher("default") as batcher:
            relaxed = batcher.map(relax_one, structures)

    where ``relax_one(atoms)`` makes ``MLIPCalculator(batcher.unit, task)`` and runs any ASE
    optimizer or dynamics. Threads may begin and end when they like, and an error in one of them
    stays there.

    Args:
        source: Name or path of a checkpoint, a potential, or a predict unit.
        settings: How to compute (not for a predict unit, which has its own); ``"batch"`` lets
            batches take half of the free memory.
        device: Where to compute (not for a predict unit); None takes a GPU where there is one.
        threads: Threads of :attr:`executor` and :meth:`map`.

    Attributes:
        unit: The predict unit for the threads.

    Raises:
        ConfigError: If there is no thread, or settings or device are given with a unit.
        AdatomError: If a checkpoint cannot be loaded.
    """

    def __init__(
        self,
        source: str | os.PathLike[str] | Potential | MLIPPredictUnit,
        *,
        settings: Settings = None,
        device: torch.device | str | None = None,
        threads: int = _THREADS,
    ) -> None:
        if threads < 1:
            raise ConfigError(f"threads is {threads}", expected="at least 1")
        unit = _unit(source, settings, device)
        self._batcher = Batcher(unit)
        self.unit = BatchedPredictUnit(unit, self._batcher)
        self.executor = ThreadPoolExecutor(threads, thread_name_prefix="adatom")

    def map(self, function: Callable[[Given], Found], items: Iterable[Given]) -> Iterator[Found]:
        """Call a function for every item, many at a time.

        Args:
            function: Called in one of the threads.
            items: All are taken at once; a structure that runs is not shared between threads.

        Yields:
            What the function returns, in order; its error is raised when its turn comes, after
            which the others can still be had from :attr:`executor` only.
        """
        return self.executor.map(function, items)

    def close(self) -> None:
        """Wait for the threads, and stop."""
        self.executor.shutdown(wait=True)
        self._batcher.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *details: object) -> None:
        if kind is not None:
            self.executor.shutdown(wait=False, cancel_futures=True)
        self.close()


def _unit(
    source: str | os.PathLike[str] | Potential | MLIPPredictUnit,
    settings: Settings,
    device: torch.device | str | None,
) -> MLIPPredictUnit:
    if isinstance(source, MLIPPredictUnit):
        if settings is not None or device is not None:
            raise ConfigError(
                "Settings or device were given together with a predict unit",
                fix="Give them to the predict unit.",
            )
        return source
    if isinstance(source, Potential):
        return MLIPPredictUnit(source, settings, device=device or "cpu")
    return get_predict_unit(source, settings, device=device)
