"""KIM's collections of installed items: list them, install into them, remove from them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from ctypes import byref, c_char_p, c_int, c_void_p
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from adatom.core.errors import unknown_name
from adatom.deploy.kim.libkim import KimError, KimLibrary, load_library

CollectionName = Literal["user", "environment", "system"]
ItemType = Literal["modelDriver", "portableModel"]

_TOOL = "kim-api-collections-management"
#: What KIM's tool calls a collection, and its library; in the order in which KIM looks there.
_COLLECTIONS = {
    "CWD": "currentWorkingDirectory",
    "environment": "environmentVariable",
    "user": "user",
    "system": "system",
}
_LAST_LINES = 12


@dataclass(frozen=True)
class Item:
    """One installed item: a driver or a portable model, and where it lies."""

    name: str
    type: ItemType
    collection: str
    library: Path


def installed_items(library: KimLibrary | None = None) -> list[Item]:
    """List drivers and portable models, those first that KIM would find first.

    Raises:
        KimError: If the KIM API is not installed.
    """
    kim = library or load_library()
    handle = c_void_p()
    items = []
    with kim.messages():
        if kim.function("Collections_Create")(byref(handle)):
            raise KimError("KIM cannot list its collections")
        try:
            for short, name in _COLLECTIONS.items():
                for kind in get_args(ItemType):
                    items += _items_of(kim, handle, short, name, kind)
        finally:
            kim.function("Collections_Destroy")(byref(handle))
    return items


def find_item(name: str, library: KimLibrary | None = None) -> Item | None:
    """Return the item of this name that KIM would use, or None.

    Raises:
        KimError: If the KIM API is not installed.
    """
    return next((item for item in installed_items(library) if item.name == name), None)


def install_item(
    folder: Path,
    name: str,
    collection: CollectionName,
    *,
    force: bool = False,
    environment: Mapping[str, str] | None = None,
) -> Item:
    """Build a folder and install it.

    Args:
        folder: With KIM's CMakeLists.txt.
        name: Of the item in it.
        collection: Where to.
        force: Whether an item of this name in the same collection is replaced.
        environment: Variables for the build.

    Returns:
        The installed item.

    Raises:
        UnknownNameError: If there is no such collection.
        KimError: If the name is taken, a tool is missing, or the build fails (with its last lines).
    """
    if collection not in get_args(CollectionName):
        raise unknown_name("collection", collection, get_args(CollectionName))
    there = find_item(name)
    if there is not None and there.collection != collection:
        # KIM's own --force would remove that other copy without a word.
        raise KimError(
            f"{name} is installed already, in the collection {there.collection!r}",
            fix=f"Remove it first: adatom kim remove {name}",
        )
    if there is not None and not force:
        raise KimError(f"{name} is installed already", fix="Replace it with --force.")
    _check_place(collection)
    options = ["install", *(["--force"] if there else []), collection, str(folder)]
    _run(options, environment or {})
    found = find_item(name)
    if found is None:
        raise KimError(f"{name} was built, but KIM does not find it", fix="See: adatom kim doctor")
    return found


def remove_item(name: str) -> Item:
    """Remove an item from its collection.

    Returns:
        What was removed.

    Raises:
        UnknownNameError: If no such item is installed.
        KimError: If it cannot be removed.
    """
    items = installed_items()
    there = next((item for item in items if item.name == name), None)
    if there is None:
        # The system brings hundreds, which nobody means here.
        ours = {item.name for item in items if item.collection != "system"}
        raise unknown_name("item of KIM", name, ours)
    _run(["remove", "--force", name], {})
    return there


def _items_of(
    kim: KimLibrary, handle: c_void_p, short: str, collection: str, kind: ItemType
) -> list[Item]:
    place = kim.constant("COLLECTION", collection)
    item_type = kim.constant("COLLECTION_ITEM_TYPE", kind)
    count = c_int()
    kim.function("Collections_CacheListOfItemNamesByCollectionAndType")(
        handle, place, item_type, byref(count)
    )
    names = []
    for index in range(count.value):
        text = c_char_p()
        kim.function("Collections_GetItemNameByCollectionAndType")(handle, index, byref(text))
        names.append(text.value or b"")
    items = []
    for name in names:
        path = c_char_p()
        failed = kim.function("Collections_GetItemLibraryFileNameByCollectionAndType")(
            handle, place, item_type, name, byref(path)
        )
        if not failed and path.value:
            items.append(Item(name.decode(), kind, short, Path(path.value.decode())))
    return items


def _check_place(collection: CollectionName) -> None:
    variables = ("KIM_API_MODEL_DRIVERS_DIR", "KIM_API_PORTABLE_MODELS_DIR")
    if collection != "environment":
        return
    for variable in variables:
        # KIM wants a list here; it installs into the first folder.
        first = os.environ.get(variable, "").split(os.pathsep)[0]
        if not first or not Path(first).is_dir():
            raise KimError(
                f"The collection 'environment' needs {variable}, which is {first!r}",
                expected="an existing folder",
                fix=f"Make one and export {variable}, or use --collection user.",
            )


def _run(options: Sequence[str], environment: Mapping[str, str]) -> None:
    """Run KIM's own tool, in a folder where it cannot take anything for a local item."""
    tool = shutil.which(_TOOL)
    if tool is None:
        raise KimError(
            f"{_TOOL} is not installed",
            fix="On Debian or Ubuntu: apt-get install libkim-api-dev. See: adatom kim doctor",
        )
    jobs = {"MAKEFLAGS": f"-j{os.cpu_count() or 1}"}
    done = subprocess.run(  # noqa: S603 - KIM's own tool, no shell
        [tool, *options],
        env={**jobs, **os.environ, **environment},
        cwd="/",
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode != 0:
        lines = [line for line in done.stdout.splitlines() if line.strip()]
        errors = [line for line in lines if "error" in line.lower()]
        told = "\n".join([*errors[:_LAST_LINES], *lines[-_LAST_LINES:]])
        raise KimError(f"{_TOOL} {options[0]} failed:\n{told}")
