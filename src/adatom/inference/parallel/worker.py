"""One worker: a process on some node with one device, or some processor cores."""

from __future__ import annotations

import os
import platform
import socket
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from adatom.inference.parallel.failures import Failure
from adatom.inference.parallel.transport import Arrays, Metadata, Receiver, arrays_of
from adatom.inference.settings import InferenceSettings

#: The concurrency group of Ray, which has its own thread, for answers to pings.
HEALTH = "health"


@dataclass(frozen=True)
class Place:
    """Where a worker is.

    Attributes:
        node: Address of its node.
        host: Name of its node.
        pid: Its process.
        device: What it computes on, in words; empty until it is prepared.
        versions: Of what has to be the same everywhere.
    """

    node: str
    host: str
    pid: int
    device: str
    versions: dict[str, str]


@dataclass(frozen=True)
class Plan:
    """What every worker prepares.

    Attributes:
        path: The checkpoint file, if all nodes have it; None where its contents are sent.
        suffix: Ending of the file.
        allow: Import paths of the user's own model classes in it.
        max_neighbors: Limit of the neighbor list.
        settings: How to compute.
        dtype: Name of the floating dtype of the network.
        device: Type of the device.
        threads: On a processor.
        skin: Verlet skin in angstrom.
        folders: Where the user's own model classes may be, on the caller's machine.
    """

    path: str | None
    suffix: str
    allow: tuple[str, ...]
    max_neighbors: int | None
    settings: InferenceSettings
    dtype: str
    device: str
    threads: int
    skin: float
    folders: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reply:
    """What a worker answers: a value or a failure.

    Attributes:
        value: The value.
        failure: Why there is none.
        warnings: Messages of warnings of adatom's own.
    """

    value: Any = None
    failure: Failure | None = None
    warnings: tuple[str, ...] = ()


class Worker:
    """What Ray makes an actor of.

    Args:
        rank: Its number.
        size: How many there are.
        node: Address under which the others reach it; None takes the one that Ray knows.
    """

    def __init__(self, rank: int, size: int, node: str | None = None) -> None:
        self._rank = rank
        self._node = node
        self._size = size
        self._group: Any = None
        self._store: Any = None
        self._engine: Any = None
        self._device: Any = None
        self._receiver = Receiver()

    def answer(self) -> None:
        """Answer a ping, in a thread of its own (:data:`HEALTH`), while another call computes."""

    def where(self) -> Reply:
        """Return its :class:`Place`."""
        return _answered(self._where)

    def open_store(self) -> Reply:
        """Return host and port where the workers meet (rank 0)."""
        return _answered(self._open_store)

    def prepare(
        self, plan: Plan, contents: npt.NDArray[np.uint8] | None, address: tuple[str, int]
    ) -> Reply:
        """Load the potential, meet the others and return the :class:`Place`.

        Args:
            plan: What to prepare.
            contents: Bytes of the checkpoint, where the plan has no path.
            address: From :meth:`open_store`.
        """
        return _answered(lambda: self._prepare(plan, contents, address))

    def predict(
        self,
        fingerprint: str,
        metadata: Metadata,
        geometry: Arrays,
        properties: tuple[str, ...],
    ) -> Reply:
        """Take part in a prediction; return the fingerprint used and, from rank 0, the arrays."""
        return _answered(lambda: self._predict(fingerprint, metadata, geometry, properties))

    def statistics(self) -> Reply:
        """Return what the engine counted in the last call; nothing before the first."""
        return _answered(self._statistics)

    def notes(self) -> Reply:
        """Return what the engine chose and why, by topic."""
        return _answered(lambda: dict(self._engine.notes))

    def _statistics(self) -> dict[str, Any]:
        counted = self._engine.statistics()
        return {} if counted is None else asdict(counted)

    def _where(self) -> Place:
        import ray
        import torch

        from adatom import __version__

        versions = {
            "adatom": __version__,
            "torch": torch.__version__,
            "Python": ".".join(platform.python_version_tuple()[:2]),
        }
        device = "" if self._device is None else self._named_device()
        node = self._node or ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
        return Place(node, socket.gethostname(), os.getpid(), device, versions)

    def _named_device(self) -> str:
        import torch

        if self._device.type == "cuda":
            return f"GPU {torch.cuda.get_device_name(self._device)}"
        count = torch.get_num_threads()
        return f"{count} thread{'s' if count > 1 else ''}"

    def _open_store(self) -> tuple[str, int]:
        from adatom.inference.parallel.process_group import Rendezvous

        self._store = Rendezvous(self._where().node)
        address: tuple[str, int] = self._store.address
        return address

    def _prepare(
        self, plan: Plan, contents: npt.NDArray[np.uint8] | None, address: tuple[str, int]
    ) -> Place:
        import torch

        from adatom.inference.parallel.process_group import join
        from adatom.inference.parallel.rank_engine import RankEngine
        from adatom.inference.private_copy import prepared

        sys.path.extend(folder for folder in plan.folders if folder not in sys.path)
        torch.set_num_threads(plan.threads)
        # Ray shows a worker only the GPU that it was given.
        self._device = torch.device("cuda", 0) if plan.device == "cuda" else torch.device("cpu")
        if self._device.type == "cuda":
            torch.cuda.set_device(self._device)
        dtype = getattr(torch, plan.dtype)
        potential = prepared(_loaded(plan, contents, dtype, self._device), self._device, dtype)
        self._group = join(self._rank, self._size, address, self._device, self._where().node)
        self._engine = RankEngine(
            potential, plan.settings, self._device, self._group, skin=plan.skin
        )
        return self._where()

    def _predict(
        self, fingerprint: str, metadata: Metadata, geometry: Arrays, properties: tuple[str, ...]
    ) -> tuple[str, Arrays]:
        data = self._receiver.receive(fingerprint, metadata, geometry)
        values = self._engine.predict(data.to(self._device), properties)
        return fingerprint, arrays_of(values) if self._rank == 0 else {}


def _loaded(plan: Plan, contents: npt.NDArray[np.uint8] | None, dtype: Any, device: Any) -> Any:
    from adatom.checkpoint.format import load_potential

    if plan.path is not None:
        potential = load_potential(plan.path, dtype=dtype, device=device, allow=plan.allow)
    else:
        with tempfile.TemporaryDirectory(prefix="adatom-") as folder:
            path = Path(folder, f"potential{plan.suffix}")
            with path.open("wb") as stream:
                if contents is not None:
                    contents.tofile(stream)
            # Weights that lie in the mapped file stay when its name goes.
            potential = load_potential(path, dtype=dtype, device=device, allow=plan.allow)
    potential.backbone.max_neighbors = plan.max_neighbors
    return potential.eval().requires_grad_(requires_grad=False)


def _answered(compute: Callable[[], Any]) -> Reply:
    """Return what was computed or why not, with warnings of adatom's own."""
    from adatom.inference.engine import InferenceWarning

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        warnings.simplefilter("default", InferenceWarning)
        try:
            value, failure = compute(), None
        # Whatever it is, the caller has to know.
        except Exception as error:  # noqa: BLE001
            value, failure = None, Failure.of(_understood(error))
    return Reply(value, failure, tuple(str(warning.message) for warning in caught))


def _understood(error: Exception) -> Exception:
    """Return memory that ran out as adatom's error."""
    from adatom.core.errors import OutOfMemoryError
    from adatom.inference.out_of_memory import is_out_of_memory

    if isinstance(error, OutOfMemoryError) or not is_out_of_memory(error):
        return error
    found = OutOfMemoryError("The memory of a worker does not suffice")
    found.__cause__ = error
    return found
