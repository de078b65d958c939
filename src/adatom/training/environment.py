"""The processes that a launcher has started, as Lightning wants to know them."""

from __future__ import annotations

import os
from collections.abc import Mapping

from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment

from adatom.core.errors import ConfigError
from adatom.training.launchers import ProcessPlace, detect_launcher


class LaunchedEnvironment(ClusterEnvironment):
    """Processes that torchrun, SLURM or mpirun has started.

    Args:
        place: Of this process.
    """

    def __init__(self, place: ProcessPlace) -> None:
        super().__init__()
        self.place = place

    @property
    def creates_processes_externally(self) -> bool:
        """The launcher has done it."""
        return True

    @property
    def main_address(self) -> str:
        """Name of the machine of rank 0."""
        return self.place.main_address

    @property
    def main_port(self) -> int:
        """Port on which the processes find each other."""
        return self.place.main_port

    @staticmethod
    def detect() -> bool:
        """Whether this process was started by a launcher."""
        return detect_launcher(os.environ) is not None

    def world_size(self) -> int:
        """Return the number of all processes."""
        return self.place.world_size

    def set_world_size(self, size: int) -> None:
        """Do nothing: the launcher has decided it; see :meth:`validate_settings`."""

    def global_rank(self) -> int:
        """Return the number of this process."""
        return self.place.rank

    def set_global_rank(self, rank: int) -> None:
        """Do nothing: the launcher has decided it."""

    def local_rank(self) -> int:
        """Return the number of this process on its machine."""
        return self.place.local_rank

    def node_rank(self) -> int:
        """Return the number of this machine."""
        return self.place.node_rank

    def validate_settings(self, num_devices: int, num_nodes: int) -> None:
        """Compare the trainer's settings with what was started.

        Raises:
            ConfigError: If the numbers of processes differ.
        """
        if num_devices * num_nodes != self.place.world_size:
            raise ConfigError(
                f"{self.place.launcher} started {self.place.world_size} processes, but "
                f"trainer.devices is {num_devices} and trainer.num_nodes is {num_nodes}",
                expected="devices times num_nodes processes",
                fix="Set both to what was started, or start that many processes.",
            )


def launched_environment(
    environment: Mapping[str, str] | None = None,
) -> LaunchedEnvironment | None:
    """Return what a launcher has started, or None if this process was started alone.

    Args:
        environment: None reads that of the process.

    Raises:
        ConfigError: If its variables contradict each other.
    """
    place = detect_launcher(os.environ if environment is None else environment)
    return None if place is None else LaunchedEnvironment(place)


def is_first_process(environment: Mapping[str, str] | None = None) -> bool:
    """Return whether this process is alone or the first of several, before these are connected.

    Args:
        environment: None reads that of the process.

    Raises:
        ConfigError: If its variables contradict each other.
    """
    given = os.environ if environment is None else environment
    place = detect_launcher(given)
    if place is not None:
        return place.rank == 0
    # Lightning tells these to the processes that it starts.
    return all(given.get(name, "0") == "0" for name in ("LOCAL_RANK", "NODE_RANK"))
