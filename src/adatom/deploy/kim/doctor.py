"""What OpenKIM needs on this machine, and what of it is there."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass

from adatom.deploy.kim.driver_install import (
    installed_driver,
    torch_folder,
    torch_version_of,
    uses_this_torch,
)
from adatom.deploy.kim.libkim import KimError, load_library

_APT = "apt-get install"


@dataclass(frozen=True)
class Finding:
    """One thing that is looked for.

    Attributes:
        what: Its name.
        found: What is there, or None.
        fix: How to get it.
        needed: Whether portable models do not run without it.
    """

    what: str
    found: str | None
    fix: str
    needed: bool = True

    @property
    def blocks(self) -> bool:
        """Whether this is missing and needed."""
        return self.needed and self.found is None


def examine() -> list[Finding]:
    """Look for everything; nothing is changed."""
    return [
        Finding("KIM API", _try(lambda: load_library().version), f"{_APT} libkim-api2"),
        Finding(
            "KIM's tools",
            shutil.which("kim-api-collections-management"),
            f"{_APT} libkim-api-dev",
        ),
        Finding("CMake", _version("cmake"), f"{_APT} cmake"),
        Finding("make", shutil.which("make"), f"{_APT} make"),
        Finding("C++ compiler (C++20)", _version("c++"), f"{_APT} g++"),
        Finding("PyTorch headers", _try(lambda: str(torch_folder())), "pip install torch"),
        Finding("model driver", _try(_driver), "adatom kim install-driver"),
        Finding("LAMMPS with KIM", _lammps(), f"{_APT} lammps", needed=False),
        Finding("MPI", shutil.which("mpirun"), f"{_APT} openmpi-bin", needed=False),
    ]


def _try(look: Callable[[], str | None]) -> str | None:
    try:
        return look()
    except KimError:
        return None


def _driver() -> str | None:
    driver = installed_driver()
    if driver is None:
        return None
    if not uses_this_torch(driver):
        return None
    return f"{driver.collection} collection, PyTorch {torch_version_of(driver)}"


def _version(program: str) -> str | None:
    """Return the first line of ``program --version``."""
    return _first_line([program, "--version"])


def _lammps() -> str | None:
    found = shutil.which("lmp")
    if found is None:
        return None
    packages = _output([found, "-h"])
    return found if packages is not None and " KIM " in f" {' '.join(packages.split())} " else None


def _first_line(command: list[str]) -> str | None:
    text = _output(command)
    return text.splitlines()[0].strip() if text else None


def _output(command: list[str]) -> str | None:
    try:
        done = subprocess.run(  # noqa: S603 - fixed names, no shell
            command, capture_output=True, text=True, timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
