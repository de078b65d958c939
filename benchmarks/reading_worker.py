"""Passes over one .aselmdb file in one process; runs in the environment of either program."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

#: What a line with results begins with.
MARK = "reading-result "


def open_adatom(path: str) -> Any:
    """Return our dataset."""
    from adatom.data.open_dataset import open_dataset

    return open_dataset(path)


def open_fairchem(path: str) -> Any:
    """Return fairchem-core's dataset with the labels that the file has."""
    from fairchem.core.datasets.ase_datasets import AseDBDataset

    return AseDBDataset({"src": path, "a2g_args": {"r_energy": True, "r_forces": True}})


OPENERS: dict[str, Callable[[str], Any]] = {"adatom": open_adatom, "fairchem": open_fairchem}
PACKAGES = {"adatom": ("adatom", "torch", "orjson"), "fairchem": ("fairchem-core", "torch")}


def installed(package: str) -> str:
    """Return the version of a package, or that there is none."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def main(program: str, path: str, passes: int) -> None:
    """Read every structure ``passes`` times and print seconds of the processor for each pass."""
    data = OPENERS[program](path)
    seconds = []
    for _ in range(passes):
        start = time.process_time()
        for i in range(len(data)):
            data[i]
        seconds.append(time.process_time() - start)
    found = {package: installed(package) for package in PACKAGES[program]}
    print(MARK + json.dumps({"seconds": seconds, "count": len(data), "versions": found}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
