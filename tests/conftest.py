"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Before torch is imported, here and in what tests start: most tests are small, and threads of
# tests that run beside each other fight for the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

REPOSITORY = Path(__file__).resolve().parent.parent
#: Reference data that is too large for the repository.
SHARED = Path(os.environ.get("ADATOM_SHARED", REPOSITORY.parent / "shared"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep tests that share fixtures in one process, where several processes run the tests."""
    for item in items:
        shared = "kim" if "kim_driver" in getattr(item, "fixturenames", ()) else item.path.name
        item.add_marker(pytest.mark.xdist_group(shared))


@pytest.fixture(scope="session")
def repository() -> Path:
    """Return the root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder of reference data, or skip."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the reference data in {SHARED} (set ADATOM_SHARED to another folder)")
    return SHARED
