"""The files that all programs read: an official-format checkpoint, and structures."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from adatom.core.console import say
from adatom.core.errors import ConfigError, FileAccessError, did_you_mean
from benchmarks.shapes import SHAPES
from benchmarks.structures import carbon
from benchmarks.workers import ROOT, fairchem_python

#: Large files that are made again where they are missing.
FOLDER = ROOT / "build" / "benchmarks"


def shared_folder() -> Path:
    """Return the folder of reference data.

    Raises:
        FileAccessError: If it is not there.
    """
    folder = Path(os.environ.get("ADATOM_SHARED", ROOT.parent / "shared"))
    if not folder.is_dir():
        raise FileAccessError(
            f"There is no folder {str(folder)!r}",
            expected="the reference data of this project",
            fix="Set ADATOM_SHARED.",
        )
    return folder


def checkpoint_of(shape_or_path: str) -> Path:
    """Return the checkpoint of a shape, made on first use, or the given file.

    Raises:
        ConfigError: If it is neither a shape nor a file, or making it fails.
    """
    if shape_or_path not in SHAPES:
        path = Path(shape_or_path)
        if path.exists():
            return path.resolve()
        raise ConfigError(
            f"{shape_or_path!r} is neither a file nor a shape",
            expected=f"a checkpoint or one of {', '.join(SHAPES)}",
        )
    path = FOLDER / f"{shape_or_path}.pt"
    if path.exists():
        return path
    say(f"Making {path}")
    FOLDER.mkdir(parents=True, exist_ok=True)
    template = shared_folder() / "reference" / "uma_tiny" / "tiny_uma.pt"
    module = ["-m", "benchmarks.fairchem_checkpoint"]
    made = subprocess.run(
        [str(fairchem_python()), *module, shape_or_path, str(path), str(template)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        raise ConfigError(f"Making {path} failed: {made.stderr.strip()[-400:]}")
    return path


def structure_file(name: str | Path) -> Path:
    """Return a file of structures: given, in the shared folder, or made on first use.

    Args:
        name: A file, a name in ``shared/data/bench``, or ``cfccN`` (fcc carbon, N = 4 n^3 atoms).

    Raises:
        ConfigError: If there is none.
    """
    path = Path(name)
    known = shared_folder() / "data" / "bench" / f"{name}.extxyz"
    made = FOLDER / f"{name}.extxyz"
    for candidate in (path, known, made):
        if candidate.is_file():
            return candidate
    number = str(name).removeprefix("cfcc")
    repeats = round((int(number) / 4) ** (1 / 3)) if number.isdecimal() else 0
    if number != str(name) and repeats and 4 * repeats**3 == int(number):
        return carbon(made, repeats)
    names = sorted(file.stem for file in known.parent.glob("*.extxyz"))
    raise ConfigError(
        f"There is no structure {str(name)!r}{did_you_mean(str(name), names)}",
        expected=f"a file, one of {', '.join(names)}, or cfcc4000",
    )
