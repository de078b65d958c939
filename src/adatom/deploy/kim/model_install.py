"""Install portable models, compiling those that are shipped as exported programs."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path

from adatom.core.errors import DataError
from adatom.core.files import require_readable
from adatom.deploy.kim.driver_install import installed_driver
from adatom.deploy.kim.export_check import SELF_TEST, ExportError
from adatom.deploy.kim.items import CollectionName, Item, install_item, remove_item
from adatom.deploy.kim.libkim import KimError
from adatom.deploy.kim.model_json import FILE_NAME, read_model_json

_PROJECT = re.compile(r"^\s*project\s*\(\s*([A-Za-z_][A-Za-z0-9_]*)", re.MULTILINE)


def install_model(
    folder: str | os.PathLike[str], collection: CollectionName = "user", *, force: bool = False
) -> Item:
    """Install the portable model in a folder.

    A model shipped as an exported program is compiled for this machine first, which takes a
    minute. If the folder has a self-test, it runs at the end.

    Args:
        folder: As :func:`adatom.deploy.kim.portable_model.write_portable_model` makes it, or any
            other with KIM's CMakeLists.txt.
        collection: Where to.
        force: Whether an installed model of this name is replaced.

    Raises:
        FileAccessError: If the folder has no CMakeLists.txt.
        DataError: If CMakeLists.txt names no project.
        KimError: If the driver is missing, the name is taken, or the build fails.
        ExportError: If the self-test gives other numbers; the model is removed again.
    """
    source = Path(folder).expanduser().absolute()
    name = _name_of(source)
    if not (source / FILE_NAME).is_file():
        return install_item(source, name, collection, force=force)
    description, _ = read_model_json(source)
    if installed_driver() is None:
        raise KimError(
            "The model driver is not installed", fix="Install it: adatom kim install-driver"
        )
    if description.backend == "torchscript":
        item = install_item(source, name, collection, force=force)
    else:
        item = _compiled(source, name, collection, force=force)
    if (source / SELF_TEST).is_file():
        _test_or_remove(source, name)
    return item


def _compiled(source: Path, name: str, collection: CollectionName, *, force: bool) -> Item:
    from adatom.deploy.kim.compiled_model import compile_in_folder

    with tempfile.TemporaryDirectory(prefix="adatom-kim-") as temporary:
        copy = Path(temporary) / name
        shutil.copytree(source, copy)
        compile_in_folder(copy)
        return install_item(copy, name, collection, force=force)


def _test_or_remove(source: Path, name: str) -> None:
    """Run the self-test of a model that was just installed; one that fails does not stay."""
    from adatom.deploy.kim.self_test import run_self_test

    try:
        run_self_test(source, name)
    except (ExportError, KimError):
        remove_item(name)
        raise


def _name_of(folder: Path) -> str:
    text = require_readable(folder / "CMakeLists.txt").read_text(encoding="utf-8")
    match = _PROJECT.search(text)
    if match is None:
        raise DataError(
            f"{str(folder / 'CMakeLists.txt')!r} names no project", expected="a portable model"
        )
    return match.group(1)
