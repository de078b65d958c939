"""A predict unit whose structures are spread over workers."""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import torch
from ase import Atoms

from adatom.core.errors import ConfigError
from adatom.data.atomic_data import AtomicData
from adatom.inference.engine import release_mapped
from adatom.inference.extra_outputs import ExtraOutput
from adatom.inference.parallel.parallel_runner import ParallelRunner
from adatom.inference.parallel.worker import Place, Plan
from adatom.inference.parallel.worker_group import Placement, Resources, WorkerGroup
from adatom.inference.predict_unit import MLIPPredictUnit, Settings, override
from adatom.inference.settings import inference_settings as settings_of
from adatom.models.base import Configurable
from adatom.models.registry import class_path_of
from adatom.tasks.potential import Potential


class ParallelMLIPPredictUnit(MLIPPredictUnit):
    """Computes each structure in several processes, one per device or group of processor cores.

    Every worker holds a part of the atoms and finds the edges of that part only, so that a
    structure may be larger than one device. Workers run on a Ray cluster: on the one that this
    process is connected to, else the one at ``RAY_ADDRESS``, else the one that ``ray start``
    started on this machine, else one that is started here for the life of the unit. All results
    are on the processor, and are those of one process up to rounding.

    The workers end with :meth:`close`, at the end of a ``with`` block, when the unit is collected,
    and with this process, however it ends. Threads may share a unit.

    Args:
        potential: The potential. It is written to a temporary file for the workers.
        inference_settings: As for :class:`MLIPPredictUnit`.
        workers: How many; at least 1.
        device: ``"cpu"``, or ``"cuda"`` for one GPU per worker.
        dtype: As for :class:`MLIPPredictUnit`.
        max_atoms: As for :class:`MLIPPredictUnit`.
        cpus_per_worker: Processor cores and threads of each. None takes a fair share of torch's
            threads on a cluster that is started here, and 1 on any other.
        placement: ``"PACK"`` on as few nodes as possible, ``"SPREAD"`` over as many as possible,
            or Ray's ``"STRICT_PACK"`` and ``"STRICT_SPREAD"``.
        address: Of the Ray cluster; ``"local"`` starts one in any case.
        skin: Verlet skin in angstrom: how far atoms may move, twice, before workers share them out
            and search their neighbors anew. Results do not depend on it.
        start_timeout: Seconds that each stage of starting may take.
        max_silence: Seconds after which a worker that answers nothing during a call, not even
            pings, counts as dead; 1 or more. A busy machine may keep a process from answering for
            long.

    Raises:
        MissingExtraError: If Ray is not installed.
        ConfigError: If an argument cannot be used, or the cluster has not what is needed.
        AdatomError: If the workers cannot load the potential.
    """

    def __init__(
        self,
        potential: Potential,
        inference_settings: Settings = "default",
        *,
        workers: int,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
        max_atoms: int | None = None,
        cpus_per_worker: int | None = None,
        placement: Placement = "PACK",
        address: str | None = None,
        skin: float = 0.5,
        start_timeout: float = 300.0,
        max_silence: float = 60.0,
        _path: Path | None = None,
    ) -> None:
        kind = _kind(device)
        check_workers(workers)
        _check_silence(max_silence)
        settings = settings_of(inference_settings)
        dtype = dtype or settings.dtype or potential.dtype
        # The weights here compute nothing. They stay as they are, in their file where they can.
        plain = replace(settings, base_precision_dtype=None)
        super().__init__(potential, plain, max_atoms=max_atoms)
        release_mapped(self.potential)
        self.settings = replace(settings, base_precision_dtype=dtype)
        self._dtype = dtype
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        path = self._written(potential) if _path is None else _path
        plan = Plan(
            path=str(path.absolute()),
            suffix=path.suffix,
            allow=tuple(_classes(potential)),
            max_neighbors=potential.max_neighbors,
            settings=self.settings,
            dtype=str(dtype).removeprefix("torch."),
            device=kind,
            threads=1,
            skin=skin,
        )
        resources = Resources(
            workers,
            cpus_per_worker,
            kind == "cuda",
            placement,
            address,
            start_timeout,
            max_silence,
        )
        self._workers = WorkerGroup(resources, plan)
        self._runner: ParallelRunner = ParallelRunner(
            self.potential, self.settings, dtype, max_atoms, self._workers, workers
        )

    @classmethod
    def load(  # type: ignore[override]
        cls,
        name_or_path: str | Path,
        inference_settings: Settings = "default",
        *,
        workers: int,
        overrides: Mapping[str, Any] | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
        **options: Any,
    ) -> Self:
        """Load a checkpoint by name or path.

        Args:
            name_or_path: As for :meth:`MLIPPredictUnit.load`. The file is sent to the nodes of a
                cluster; workers on this machine read it themselves.
            inference_settings: As for the constructor.
            workers: As for the constructor.
            overrides: As for :meth:`MLIPPredictUnit.load`.
            device: As for the constructor.
            dtype: As for the constructor.
            **options: Further arguments of the constructor.

        Raises:
            AdatomError: As :meth:`MLIPPredictUnit.load` and the constructor.
        """
        from adatom.checkpoint.format import load_potential
        from adatom.checkpoint.names import resolve_checkpoint

        check_workers(workers)
        potential = load_potential(name_or_path)
        override(potential, overrides or {})
        potential.eval().requires_grad_(False)
        return cls(
            potential,
            inference_settings,
            workers=workers,
            device=device,
            dtype=dtype,
            _path=resolve_checkpoint(name_or_path),
            **options,
        )

    @property
    def dtype(self) -> torch.dtype:
        """Floating dtype of the network in the workers."""
        return self._dtype

    @property
    def workers(self) -> list[Place]:
        """Where the workers are, by rank; empty while there are none."""
        return [self._workers.places[rank] for rank in sorted(self._workers.places)]

    def statistics(self) -> list[dict[str, Any]]:
        """Return what each worker counted, by rank.

        Raises:
            WorkerDiedError: If a worker is gone.
        """
        return self._workers.statistics()

    def restart(self) -> None:
        """Start all workers again, after one died or hung.

        Raises:
            ConfigError: If the unit was closed, or the cluster has not what is needed.
        """
        self._workers.restart()

    def close(self) -> None:
        """End the workers, and the Ray cluster if it was started for them."""
        self._workers.close()
        if self._folder is not None:
            self._folder.cleanup()

    def add_output(self, name: str, output: ExtraOutput) -> None:
        """Refuse: a further output needs the whole structure in one process.

        Raises:
            ConfigError: Always.
        """
        del output
        raise ConfigError(
            f"The output {name!r} cannot be computed by several workers",
            fix="Use MLIPPredictUnit for it.",
        )

    def explain(self, structure: AtomicData | Atoms | None = None) -> str:
        """Say who computes, and what was chosen.

        Args:
            structure: As for :meth:`MLIPPredictUnit.explain`.
        """
        if structure is not None:
            self.predict(structure)
        lines = [f"Settings: {self.settings.describe()}."]
        lines += [f"{topic.capitalize()}: {text}" for topic, text in self._workers.notes().items()]
        for rank, counted in enumerate(self.statistics()):
            place = self.workers[rank]
            where = f"node {place.node} ({place.host}), process {place.pid}, {place.device}"
            facts = ", ".join(f"{k} {v}" for k, v in counted.items() if k not in _KNOWN)
            lines.append(f"Worker {rank} of {len(self.workers)}: {where}. {facts}")
        return "\n".join(lines)

    def _written(self, potential: Potential) -> Path:
        from adatom.checkpoint.format import save_potential

        folder = tempfile.TemporaryDirectory(prefix="adatom-", ignore_cleanup_errors=True)
        self._folder = folder
        # Collected without a warning, whether the unit was closed or not.
        weakref.finalize(self, folder.cleanup)
        path = Path(folder.name, "potential.safetensors")
        save_potential(potential, path)
        return path


#: What is said of a worker already.
_KNOWN = ("rank", "workers", "mode")


def check_workers(workers: Any) -> None:
    """Refuse what is no number of workers.

    Args:
        workers: What was given.

    Raises:
        ConfigError: If it is none.
    """
    if not isinstance(workers, int) or isinstance(workers, bool) or workers < 1:
        raise ConfigError(f"workers is {workers!r}", expected="a whole number of at least 1")


def _check_silence(seconds: float) -> None:
    if not seconds >= 1:
        raise ConfigError(f"max_silence is {seconds!r}", expected="seconds, at least 1")


def _kind(device: torch.device | str) -> str:
    """Return the type of device of all workers."""
    if str(device) not in ("cpu", "cuda"):
        raise ConfigError(
            f"The device of workers is {str(device)!r}", expected="'cpu', or 'cuda' for a GPU each"
        )
    return str(device)


def _classes(potential: Potential) -> set[str]:
    """Return the import paths of all configurable parts: who has the object trusts them."""
    return {class_path_of(m) for m in potential.modules() if isinstance(m, Configurable)}
