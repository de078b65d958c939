"""Write the folder of a portable model, from which KIM builds and installs it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adatom.core.errors import ConfigError, FileAccessError
from adatom.core.files import require_readable, sha256_of
from adatom.deploy.kim.compiled_model import exported_name
from adatom.deploy.kim.description import ModelDescription
from adatom.deploy.kim.folder_texts import cmake_text, embed_script, kimspec_text, lammps_text
from adatom.deploy.kim.model_json import FILE_NAME, model_json_text
from adatom.deploy.kim.parameter_file import parameter_file_text

PARAMETER_FILE = "adatom.param"
DESCRIPTOR_FILE = "descriptor.dat"


def write_portable_model(
    folder: str | os.PathLike[str],
    description: ModelDescription,
    model_file: str | os.PathLike[str],
    *,
    provenance: Mapping[str, Any],
    descriptor_file: str | os.PathLike[str] | None = None,
    title: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Write everything that ``kim-api-collections-management install`` needs.

    Args:
        folder: Made if missing; its name is free, but KIM's users expect the model's name.
        description: What the network takes and gives.
        model_file: The network, copied as ``description.model_file``; for AOTInductor the
            exported program, copied under its name with the suffix ``.ep``, to be compiled by
            ``adatom kim install``.
        provenance: Where the weights come from: plain JSON values.
        descriptor_file: For the pattern ``"descriptor"``: copied as ``descriptor.dat``.
        title: One line about the model for kimspec.edn.
        overwrite: Whether files of an earlier model in the folder may be replaced.

    Returns:
        The folder.

    Raises:
        FileAccessError: If a file cannot be read, or the folder has files and ``overwrite`` is
            False.
        ConfigError: If a descriptor file is missing or superfluous.
        DataError: If the provenance is not made of JSON values.
    """
    network = require_readable(model_file)
    if (descriptor_file is None) == (description.pattern == "descriptor"):
        raise ConfigError(
            f"A {description.pattern} model was given the descriptor file {descriptor_file}",
            expected="a descriptor file for the pattern 'descriptor' only",
        )
    record = model_json_text(description, sha256_of(network), provenance)
    target = _empty_folder(Path(folder), overwrite=overwrite)
    compiled = description.backend == "aotinductor"
    stored = exported_name(description.model_file) if compiled else description.model_file
    shutil.copyfile(network, target / stored)
    files = [PARAMETER_FILE, description.model_file, FILE_NAME]
    if descriptor_file is not None:
        shutil.copyfile(require_readable(descriptor_file), target / DESCRIPTOR_FILE)
        files.append(DESCRIPTOR_FILE)
    texts = {
        PARAMETER_FILE: parameter_file_text(description),
        FILE_NAME: record,
        "CMakeLists.txt": cmake_text(description, files),
        "embed.sh": embed_script(),
        "kimspec.edn": kimspec_text(description, title or description.name),
        "in.lammps": lammps_text(description),
    }
    for name, text in texts.items():
        (target / name).write_text(text, encoding="utf-8")
    return target


def require_free(folder: str | os.PathLike[str], *, overwrite: bool) -> None:
    """Refuse a folder that a portable model cannot be written to.

    Args:
        folder: May be missing.
        overwrite: Whether an earlier portable model may be replaced.

    Raises:
        FileAccessError: If the folder has other files, or any and ``overwrite`` is False.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise FileAccessError(f"{str(folder)!r} is a file", expected="a folder to write to")
    if folder.is_dir() and any(folder.iterdir()):
        if not overwrite:
            raise FileAccessError(
                f"The folder {str(folder)!r} is not empty", fix="Choose another, or overwrite it."
            )
        # Nothing is deleted that was not written here once.
        if not (folder / FILE_NAME).is_file():
            raise FileAccessError(
                f"The folder {str(folder)!r} holds no portable model of adatom",
                fix="Choose another; only such folders are overwritten.",
            )


def _empty_folder(folder: Path, *, overwrite: bool) -> Path:
    """Return the folder, made or emptied of an earlier portable model."""
    require_free(folder, overwrite=overwrite)
    if folder.is_dir() and any(folder.iterdir()):
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
