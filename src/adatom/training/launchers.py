"""What started this process, and its place among the processes of a training.

torchrun, SLURM, OpenMPI, Intel MPI or MPICH (Hydra), and PALS (``mpiexec`` of Cray machines) each
say it with their own environment variables.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from adatom.core.errors import ConfigError

_FIRST_PORT, _NUM_PORTS = 20000, 20000


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessPlace:
    """The place of one process.

    Attributes:
        launcher: Name of what started it, for messages.
        rank: Number of the process, from 0.
        world_size: Number of all processes.
        local_rank: Number of the process on its machine, from 0.
        node_rank: Number of the machine, from 0.
        main_address: Of the machine of rank 0.
        main_port: A port there on which the processes find each other.
    """

    launcher: str
    rank: int
    world_size: int
    local_rank: int
    node_rank: int
    main_address: str
    main_port: int


@dataclass(frozen=True, slots=True)
class _Launcher:
    """Names of the variables of a launcher; None where it has none.

    ``local_size`` is the number of processes on this machine; ``job`` is the same text for all
    processes of a job; ``address`` finds the machine of rank 0 if it is not this one.
    """

    name: str
    rank: str
    world_size: str
    local_rank: str
    local_size: str | None
    node_rank: str | None
    job: str
    address: Callable[[Mapping[str, str]], str | None]


def detect_launcher(environment: Mapping[str, str]) -> ProcessPlace | None:
    """Read the place of this process from environment variables.

    What is nearest to the process decides: torchrun may run inside an ``srun`` or ``mpirun``, and
    these inside an allocation of SLURM. ``MASTER_ADDR`` and ``MASTER_PORT`` go before what a
    launcher says.

    Args:
        environment: Such as ``os.environ``.

    Returns:
        The place, or None if the process was started alone.

    Raises:
        ConfigError: If variables are missing, contradict each other, or do not tell where rank 0
            is.
    """
    found = [launcher for launcher in _LAUNCHERS if _is_used(launcher, environment)]
    if not found:
        return None
    first, *others = found
    place = _place(first, environment)
    for other in others:
        # torchrun multiplies processes; MPI and srun tell about the same ones.
        if first.name == "torchrun" or other.name == "SLURM":
            continue
        size = _integer(environment, other.world_size, other)
        if size != place.world_size:
            raise ConfigError(
                f"{first.world_size} is {place.world_size} ({first.name}), but "
                f"{other.world_size} is {size} ({other.name})",
                expected="one launcher",
                fix=f"Unset {other.rank} and {other.world_size}, or start with one launcher only.",
            )
    return place


def first_host(hosts: str) -> str:
    """Return the first machine of a SLURM list such as ``gpu[003-005,9],login1``."""
    match = re.match(r"([^,\[]*)(?:\[([^\],-]*)[^\]]*\])?", hosts.strip())
    prefix, number = match.groups() if match else (hosts, None)
    return f"{prefix}{number or ''}"


def _is_used(launcher: _Launcher, environment: Mapping[str, str]) -> bool:
    if launcher.rank not in environment:
        return False
    if launcher.rank == "SLURM_PROCID":
        # Without a step this is a batch script or a shell, and srun has not started anything yet.
        return "SLURM_STEP_ID" in environment
    if launcher.rank == "PMI_RANK":
        # srun sets this name too.
        return "SLURM_STEP_ID" not in environment or launcher.local_rank in environment
    # A lone RANK is nobody's.
    return launcher.rank != "RANK" or launcher.world_size in environment


def _place(launcher: _Launcher, environment: Mapping[str, str]) -> ProcessPlace:
    rank = _integer(environment, launcher.rank, launcher)
    world = _integer(environment, launcher.world_size, launcher)
    local = _integer(environment, launcher.local_rank, launcher)
    if not 0 <= rank < world or not 0 <= local <= rank:
        raise ConfigError(
            f"{launcher.name} says {launcher.rank}={rank}, {launcher.world_size}={world} and "
            f"{launcher.local_rank}={local}",
            expected="a rank below the number of processes, and a local rank not above it",
        )
    size = _optional(environment, launcher.local_size, launcher)
    if size is not None and not local < size <= world:
        raise ConfigError(
            f"{launcher.name} says {launcher.local_rank}={local} of {launcher.local_size}={size} "
            f"processes here and {launcher.world_size}={world} in all",
            expected="a local rank below the processes here, and not more of these than in all",
        )
    node = _optional(environment, launcher.node_rank, launcher)
    if node is None:
        # Machines are filled one after the other, unless the launcher says otherwise.
        node = rank // size if size else 0
    return ProcessPlace(
        launcher=launcher.name,
        rank=rank,
        world_size=world,
        local_rank=local,
        node_rank=node,
        main_address=_address(launcher, environment, alone=size == world),
        main_port=_port(launcher, environment),
    )


def _address(launcher: _Launcher, environment: Mapping[str, str], *, alone: bool) -> str:
    given = environment.get("MASTER_ADDR")
    found = given or ("127.0.0.1" if alone else launcher.address(environment))
    if not found:
        raise ConfigError(
            f"{launcher.name} started processes on several machines and does not tell which has "
            "rank 0",
            fix="Set MASTER_ADDR to the name of that machine.",
        )
    return found


def _port(launcher: _Launcher, environment: Mapping[str, str]) -> int:
    if "MASTER_PORT" in environment:
        return _integer(environment, "MASTER_PORT", launcher)
    # The same for all processes of a job, and hardly ever the same for two jobs on a machine.
    return _FIRST_PORT + zlib.crc32(environment.get(launcher.job, "").encode()) % _NUM_PORTS


def _optional(environment: Mapping[str, str], name: str | None, launcher: _Launcher) -> int | None:
    if name is None or name not in environment:
        return None
    return _integer(environment, name, launcher)


def _integer(environment: Mapping[str, str], name: str, launcher: _Launcher) -> int:
    text = environment.get(name)
    if text is None or not re.fullmatch(r"\s*\d+\s*", text):
        raise ConfigError(
            f"{launcher.name} started this process, but {name} is "
            f"{'not set' if text is None else repr(text)}",
            expected="a whole number",
            fix=f"Start with {launcher.name} again, or unset {launcher.rank} to run one process.",
        )
    return int(text)


def _nowhere(_: Mapping[str, str]) -> None:
    """Stand for a launcher that does not tell where rank 0 is."""


def _hydra_host(environment: Mapping[str, str]) -> str | None:
    return environment.get("HYDRA_BSTRAP_LOCALHOST")


def _slurm_host(environment: Mapping[str, str]) -> str | None:
    return first_host(environment.get("SLURM_JOB_NODELIST", ""))


#: What is nearest to the process comes first.
_LAUNCHERS = (
    _Launcher(
        "torchrun",
        rank="RANK",
        world_size="WORLD_SIZE",
        local_rank="LOCAL_RANK",
        local_size="LOCAL_WORLD_SIZE",
        node_rank="GROUP_RANK",
        job="TORCHELASTIC_RUN_ID",
        address=_nowhere,
    ),
    _Launcher(
        "OpenMPI",
        rank="OMPI_COMM_WORLD_RANK",
        world_size="OMPI_COMM_WORLD_SIZE",
        local_rank="OMPI_COMM_WORLD_LOCAL_RANK",
        local_size="OMPI_COMM_WORLD_LOCAL_SIZE",
        node_rank=None,
        job="PMIX_NAMESPACE",
        address=_nowhere,
    ),
    _Launcher(
        # The number of processes comes from Cray's PMI. srun sets these names there, too.
        "PALS",
        rank="PALS_RANKID",
        world_size="PMI_SIZE",
        local_rank="PALS_LOCAL_RANKID",
        local_size="PMI_LOCAL_SIZE",
        node_rank="PALS_NODEID",
        job="PALS_APID",
        address=_slurm_host,
    ),
    _Launcher(
        # Both start their processes with Hydra, whose first machine is where it was called.
        "Intel MPI or MPICH",
        rank="PMI_RANK",
        world_size="PMI_SIZE",
        local_rank="MPI_LOCALRANKID",
        local_size="MPI_LOCALNRANKS",
        node_rank=None,
        job="PMI_PORT",
        address=_hydra_host,
    ),
    _Launcher(
        "SLURM",
        rank="SLURM_PROCID",
        world_size="SLURM_NTASKS",
        local_rank="SLURM_LOCALID",
        local_size=None,
        node_rank="SLURM_NODEID",
        job="SLURM_JOB_ID",
        address=_slurm_host,
    ),
)
