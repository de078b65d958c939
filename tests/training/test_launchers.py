"""Where a process stands, from the variables that each launcher really sets."""

from __future__ import annotations

import pytest

from adatom.core.errors import ConfigError
from adatom.training.environment import (
    LaunchedEnvironment,
    is_first_process,
    launched_environment,
)
from adatom.training.launchers import detect_launcher, first_host

TORCHRUN = {
    "RANK": "5",
    "WORLD_SIZE": "8",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "4",
    "GROUP_RANK": "1",
    "MASTER_ADDR": "node7",
    "MASTER_PORT": "29400",
    "TORCHELASTIC_RUN_ID": "none",
}
SLURM = {
    "SLURM_JOB_ID": "4711",
    "SLURM_STEP_ID": "0",
    "SLURM_NTASKS": "4",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1",
    "SLURM_JOB_NODELIST": "gpu[003-004]",
}
OPENMPI = {
    "OMPI_COMM_WORLD_RANK": "3",
    "OMPI_COMM_WORLD_SIZE": "4",
    "OMPI_COMM_WORLD_LOCAL_RANK": "3",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "4",
    "PMIX_NAMESPACE": "prterun-node1-1234@1",
}
HYDRA = {
    "PMI_RANK": "5",
    "PMI_SIZE": "6",
    "PMI_PORT": "node1:35353",
    "MPI_LOCALRANKID": "1",
    "MPI_LOCALNRANKS": "2",
    "HYDRA_BSTRAP_LOCALHOST": "node1",
}
# mpiexec of Cray machines, as on Polaris and Aurora.
PALS = {
    "PALS_RANKID": "5",
    "PALS_LOCAL_RANKID": "1",
    "PALS_NODEID": "1",
    "PALS_APID": "9f2e",
    "PMI_RANK": "5",
    "PMI_SIZE": "8",
    "PMI_LOCAL_RANK": "1",
    "PMI_LOCAL_SIZE": "4",
}


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        (TORCHRUN, ("torchrun", 5, 8, 1, 1, "node7", 29400)),
        (SLURM, ("SLURM", 3, 4, 1, 1, "gpu003", None)),
        (OPENMPI, ("OpenMPI", 3, 4, 3, 0, "127.0.0.1", None)),
        (HYDRA, ("Intel MPI or MPICH", 5, 6, 1, 2, "node1", None)),
        (SLURM | TORCHRUN, ("torchrun", 5, 8, 1, 1, "node7", 29400)),
        (SLURM | HYDRA, ("Intel MPI or MPICH", 5, 6, 1, 2, "node1", None)),
        # srun --mpi=pmi2 sets two of Hydra's names.
        (SLURM | {"PMI_RANK": "3", "PMI_SIZE": "4"}, ("SLURM", 3, 4, 1, 1, "gpu003", None)),
        (PALS | {"MASTER_ADDR": "x1"}, ("PALS", 5, 8, 1, 1, "x1", None)),
        # srun of SLURM's plugin for Cray machines sets the names of PALS, too.
        (SLURM | PALS, ("PALS", 5, 8, 1, 1, "gpu003", None)),
        (OPENMPI | {"MASTER_ADDR": "a", "MASTER_PORT": "1"}, ("OpenMPI", 3, 4, 3, 0, "a", 1)),
    ],
)
def test_each_launcher(
    variables: dict[str, str], expected: tuple[str, int, int, int, int, str, int | None]
) -> None:
    place = detect_launcher(variables)
    assert place is not None
    found = (place.launcher, place.rank, place.world_size, place.local_rank, place.node_rank)
    assert found == expected[:5]
    assert place.main_address == expected[5]
    assert expected[6] in (None, place.main_port)
    assert 1 <= place.main_port < 65536


@pytest.mark.parametrize(
    "variables",
    [
        {},
        # In a batch script of SLURM, before srun.
        {k: v for k, v in SLURM.items() if k != "SLURM_STEP_ID"},
        # What Lightning sets for the processes that it starts.
        {"MASTER_ADDR": "127.0.0.1", "NODE_RANK": "0", "LOCAL_RANK": "1", "WORLD_SIZE": "2"},
        {"RANK": "1"},
    ],
)
def test_started_alone(variables: dict[str, str]) -> None:
    assert detect_launcher(variables) is None


def test_all_ranks_of_a_job_agree_on_the_port_and_jobs_differ() -> None:
    def port(**more: str) -> int:
        place = detect_launcher(SLURM | more)
        assert place is not None
        return place.main_port

    assert port() == port(SLURM_PROCID="0", SLURM_LOCALID="0", SLURM_NODEID="0")
    assert port() != port(SLURM_JOB_ID="4712")


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        (TORCHRUN | {"LOCAL_RANK": ""}, "torchrun started this process, but LOCAL_RANK is ''."),
        (TORCHRUN | {"RANK": "8"}, "RANK=8, WORLD_SIZE=8"),
        (HYDRA | {"MPI_LOCALNRANKS": "9"}, "MPI_LOCALNRANKS=9 processes here and PMI_SIZE=6"),
        (
            {k: v for k, v in SLURM.items() if k != "SLURM_LOCALID"},
            "SLURM started this process, but SLURM_LOCALID is not set.",
        ),
        (
            OPENMPI | HYDRA,
            "OMPI_COMM_WORLD_SIZE is 4 (OpenMPI), but PMI_SIZE is 6 (Intel MPI or MPICH).",
        ),
        (OPENMPI | {"OMPI_COMM_WORLD_LOCAL_SIZE": "4", "OMPI_COMM_WORLD_SIZE": "8"}, "MASTER_ADDR"),
        (PALS, "PALS started processes on several machines and does not tell which has rank 0"),
        (
            {k: v for k, v in PALS.items() if k != "PMI_SIZE"},
            "PALS started this process, but PMI_SIZE is not set.",
        ),
    ],
)
def test_contradictions_are_one_sentence(variables: dict[str, str], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        detect_launcher(variables)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("hosts", "first"),
    [
        ("gpu[003-005,9],login1", "gpu003"),
        ("gpu[7,9]", "gpu7"),
        ("node1,node2", "node1"),
        ("a-b-01.cluster", "a-b-01.cluster"),
        ("", ""),
    ],
)
def test_first_host(hosts: str, first: str) -> None:
    assert first_host(hosts) == first


def test_the_trainer_must_agree_with_the_launcher() -> None:
    environment = launched_environment(SLURM)
    assert isinstance(environment, LaunchedEnvironment)
    assert (environment.global_rank(), environment.world_size()) == (3, 4)
    assert (environment.local_rank(), environment.node_rank()) == (1, 1)
    assert environment.creates_processes_externally
    environment.validate_settings(2, 2)
    with pytest.raises(ConfigError, match=r"SLURM started 4 processes, but trainer\.devices is 1"):
        environment.validate_settings(1, 1)
    assert launched_environment({}) is None


@pytest.mark.parametrize(
    ("variables", "is_first"),
    [
        ({}, True),
        (TORCHRUN, False),
        (TORCHRUN | {"RANK": "0", "LOCAL_RANK": "0"}, True),
        # Rank 4 of 8 is the first on its machine only.
        (TORCHRUN | {"RANK": "4", "LOCAL_RANK": "0"}, False),
        # What Lightning sets for the processes that it starts.
        ({"NODE_RANK": "0", "LOCAL_RANK": "1"}, False),
        ({"NODE_RANK": "1", "LOCAL_RANK": "0"}, False),
    ],
)
def test_the_first_process_is_known_before_all_are_connected(
    variables: dict[str, str], is_first: bool
) -> None:
    assert is_first_process(variables) == is_first
