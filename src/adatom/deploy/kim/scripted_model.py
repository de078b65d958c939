"""Networks as TorchScript: the portable form that the driver runs everywhere."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from adatom.core.errors import ConfigError
from adatom.core.files import atomic_write


def save_torchscript(module: torch.nn.Module, path: str | os.PathLike[str]) -> Path:
    """Script a module and save it.

    Args:
        module: With a ``forward`` as :mod:`adatom.deploy.kim.inputs` describes, and all that
            TorchScript asks for: annotated arguments, no attributes of other types. Its
            parameters stay as they are.
        path: Ends in ``.pt``.

    Returns:
        The path.

    Raises:
        ConfigError: If TorchScript refuses the module; says why.
        FileAccessError: If the file cannot be written.
    """
    with quiet_torchscript():
        try:
            scripted = torch.jit.script(module.eval())
        except (RuntimeError, TypeError, NotImplementedError) as error:
            raise ConfigError(
                f"TorchScript refuses {type(module).__name__}: {error}",
                expected="a module that torch.jit.script accepts",
            ) from error
        with atomic_write(path) as part:
            torch.jit.save(scripted, part)
    return Path(path)


@contextmanager
def quiet_torchscript() -> Iterator[None]:
    """Keep PyTorch from warning that TorchScript is deprecated: KIM has no other portable form."""
    with warnings.catch_warnings():
        for name in ("script", "save", "load", "freeze", "trace"):
            warnings.filterwarnings("ignore", rf".*`torch\.jit\.{name}`", DeprecationWarning)
        yield
