"""DGL, as far as it can be imported.

The last release for Linux on PyPI, DGL 2.1.0 (2024), was built for PyTorch up to 2.2. Its part
``dgl.graphbolt`` (sampling of huge graphs) has a library for each PyTorch and needs
``torchdata.datapipes``, which torchdata no longer has: ``import dgl`` fails with today's PyTorch.
Everything else, from graphs and message passing to second derivatives, works without that part.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import torch

from adatom.core.console import say
from adatom.core.errors import ConfigError, MissingExtraError

#: Modules that are replaced by empty ones.
_LEFT_OUT = ("dgl.graphbolt", "dgl.graphbolt.base", "dgl.graphbolt.internal")


def import_dgl(*, without_graphbolt: bool = False) -> ModuleType:
    """Return ``dgl``, importing it if nobody has yet.

    Args:
        without_graphbolt: Where DGL does not import, leave out its part ``dgl.graphbolt``, and say
            so. From then on ``import dgl`` works everywhere in this process.

    Raises:
        MissingExtraError: If DGL is not installed.
        ConfigError: If it is installed and does not import.
    """
    found = sys.modules.get("dgl")
    if found is not None:
        return found
    reason: Exception
    try:
        return _imported()
    except ModuleNotFoundError as error:
        if error.name == "dgl":
            raise MissingExtraError("dgl", "dgl") from error
        reason = error
    # A library that does not fit the PyTorch that is there fails in any way.
    except Exception as error:  # noqa: BLE001
        reason = error
    failure = f"DGL does not import with PyTorch {torch.__version__} ({reason})"
    if not without_graphbolt:
        raise ConfigError(
            failure,
            fix="Networks do not need the part that fails: before anything imports dgl, call "
            "import_dgl(without_graphbolt=True) of adatom.data.frameworks.import_dgl.",
        ) from reason
    _forget()
    for name in _LEFT_OUT:
        sys.modules[name] = ModuleType(name, "Left out by adatom: it does not import.")
    try:
        module = _imported()
    except Exception as error:
        _forget()
        raise ConfigError(
            f"DGL does not import with PyTorch {torch.__version__}, without dgl.graphbolt either "
            f"({error})"
        ) from error
    say(f"{failure}; as asked for, it is used without its part dgl.graphbolt.")
    return module


def _imported() -> ModuleType:
    with _backend():
        return importlib.import_module("dgl")


def _forget() -> None:
    """Remove what a failed import leaves behind."""
    for name in [n for n in sys.modules if n == "dgl" or n.startswith("dgl.")]:
        del sys.modules[name]


@contextmanager
def _backend() -> Iterator[None]:
    """Name PyTorch as the backend; else DGL writes a file into the home directory to note it."""
    before = os.environ.get("DGLBACKEND")
    os.environ["DGLBACKEND"] = "pytorch"
    try:
        yield
    finally:
        if before is None:
            del os.environ["DGLBACKEND"]
        else:
            os.environ["DGLBACKEND"] = before
