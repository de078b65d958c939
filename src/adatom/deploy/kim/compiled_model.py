"""Models that are compiled ahead of time: shipped as exported programs, compiled where they run.

Compiled code is bound to the processor and to the version of PyTorch, so a portable model holds
the exported program ``<model>.ep`` (``torch.export.save``) beside the name ``<model>.pt2`` that its
files mention.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path

from adatom.core.errors import DataError
from adatom.core.files import require_readable, sha256_of
from adatom.deploy.kim.model_json import FILE_NAME, read_model_json


def exported_name(model_file: str) -> str:
    """Return the name of the exported program that ``model_file`` is compiled from."""
    return str(Path(model_file).with_suffix(".ep"))


def compile_in_folder(folder: Path) -> Path:
    """Compile the exported program of a portable model for this machine.

    adatom.json gets the checksum of the compiled file and the version of PyTorch.

    Args:
        folder: A copy that may be changed.

    Returns:
        The compiled file.

    Raises:
        FileAccessError: If the exported program is missing.
        DataError: If it is damaged (its checksum), or cannot be compiled.
    """
    import torch
    from torch._inductor import aoti_compile_and_package

    description, record = read_model_json(folder)
    program = require_readable(folder / exported_name(description.model_file))
    if sha256_of(program) != record["model_sha256"]:
        raise DataError(
            f"{program.name} is damaged: its SHA-256 is not the one in {FILE_NAME}",
            fix="Copy the portable model again.",
        )
    compiled = folder / description.model_file
    try:
        with warnings.catch_warnings():
            # Inductor warns about its own parts.
            warnings.simplefilter("ignore")
            with program.open("rb") as stream:
                exported = torch.export.load(stream)
            aoti_compile_and_package(exported, package_path=str(compiled))
    # The compiler fails in any way: a missing g++, an operation it does not know.
    except Exception as error:
        raise DataError(f"{program.name} cannot be compiled here: {error}") from error
    record |= {"model_sha256": sha256_of(compiled), "torch_version": torch.__version__}
    (folder / FILE_NAME).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    program.unlink()
    return compiled
