"""The official-format checkpoint that both programs read."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from adatom.core.console import say
from adatom.core.errors import ConfigError, FileAccessError
from benchmarks.shapes import SHAPES
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
