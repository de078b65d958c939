"""Build the model driver against the PyTorch of this interpreter, and install it."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from adatom.deploy.kim.description import DRIVER_NAME
from adatom.deploy.kim.items import CollectionName, Item, find_item, install_item
from adatom.deploy.kim.libkim import KimError

SOURCES = Path(__file__).with_name("driver")
_BUILT_WITH = re.compile(rb"adatom-kim-driver built with PyTorch ([0-9.]+)")


def torch_folder() -> Path:
    """Return the folder of PyTorch that has ``include`` and ``lib``, without importing it.

    Raises:
        KimError: If PyTorch comes without its C++ headers.
    """
    found = importlib.util.find_spec("torch")
    folder = Path(found.origin).parent if found is not None and found.origin else None
    if folder is None or not (folder / "include" / "torch" / "script.h").is_file():
        raise KimError(
            f"PyTorch in {folder} has no C++ headers",
            fix="Install a PyTorch wheel: pip install torch",
        )
    return folder


def install_driver(
    collection: CollectionName = "user", *, mpi: bool = False, force: bool = False
) -> Item:
    """Build and install the driver; takes a minute or two.

    Args:
        collection: Where to.
        mpi: Whether to ask MPI for the rank on a node, instead of the launcher's environment
            variables. The driver then works with that MPI only.
        force: Whether an installed driver is replaced.

    Returns:
        The installed driver.

    Raises:
        KimError: If something is missing, the name is taken, or the build fails.
    """
    environment = {"TORCH_ROOT": str(torch_folder())}
    if mpi:
        environment["KIM_MODEL_MPI_AWARE"] = "yes"
    return install_item(SOURCES, DRIVER_NAME, collection, force=force, environment=environment)


def installed_driver() -> Item | None:
    """Return the installed driver, or None.

    Raises:
        KimError: If the KIM API is not installed.
    """
    return find_item(DRIVER_NAME)


def torch_version_of(driver: Item) -> str | None:
    """Return the version of PyTorch that a driver was built with, as its file says."""
    match = _BUILT_WITH.search(driver.library.read_bytes())
    return match.group(1).decode() if match else None


def uses_this_torch(driver: Item) -> bool:
    """Tell whether a driver loads the PyTorch of this interpreter."""
    return str(torch_folder() / "lib").encode() in driver.library.read_bytes()
