"""The tensors of a training, by name, whole or with each process holding a part of them.

They are saved and loaded by ``torch.distributed.checkpoint``, in safetensors files: its own format
has a pickle in it, which could run any code when loaded.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import distributed, nn
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.optim import Optimizer

from adatom.core.errors import CheckpointError, did_you_mean

#: Dtype and whole shape of every tensor of a checkpoint.
Stored: TypeAlias = dict[str, tuple[torch.dtype, tuple[int, ...]]]

#: Beginning of the names of each part.
MODEL, EMA, OPTIM = "unit_state.model.", "unit_state.ema.", "unit_state.optim."


def module_tensors(module: nn.Module, prefix: str) -> dict[str, torch.Tensor]:
    """Return parameters and persistent buffers, sharing memory with the module."""
    return {
        prefix + name: value
        for name, value in module.state_dict().items()
        if isinstance(value, torch.Tensor)
    }


def optimizer_tensors(optimizer: Optimizer, names: Mapping[int, str]) -> dict[str, torch.Tensor]:
    """Return what an optimizer remembers of each parameter, such as ``<name>.exp_avg``.

    Args:
        optimizer: That has made at least one step; else there is nothing.
        names: From the id of a parameter to its name.
    """
    return {
        f"{OPTIM}{names[id(parameter)]}.{key}": value
        for parameter, state in optimizer.state.items()
        for key, value in state.items()
        if isinstance(value, torch.Tensor)
    }


def empty_optimizer_state(
    stored: Stored, parameters: Mapping[str, nn.Parameter]
) -> dict[str, dict[str, torch.Tensor]]:
    """Return tensors for what is stored of an optimizer, each shared out like its parameter.

    Args:
        stored: Dtype and shape of every tensor in a checkpoint, by name.
        parameters: That the optimizer has, by name.

    Returns:
        From parameter to key to a tensor.

    Raises:
        CheckpointError: If there is something about an unknown parameter.
    """
    state: dict[str, dict[str, torch.Tensor]] = {}
    for full_name, (dtype, shape) in stored.items():
        if not full_name.startswith(OPTIM):
            continue
        name, _, key = full_name.removeprefix(OPTIM).rpartition(".")
        parameter = parameters.get(name)
        if parameter is None:
            raise CheckpointError(
                f"The checkpoint has an optimizer state of {name!r}, which is not trained now"
                f"{did_you_mean(name, parameters)}",
                fix="Continue with the model and frozen parameters that the run began with.",
            )
        if shape and shape == tuple(parameter.shape):
            value = torch.zeros_like(parameter.detach(), dtype=dtype)
        else:
            value = torch.zeros(shape, dtype=dtype, device=parameter.device)
        state.setdefault(name, {})[key] = value
    return state


def stored_tensors(path: Path) -> Stored:
    """Return dtype and whole shape of every tensor in a checkpoint.

    Raises:
        CheckpointError: If a file is damaged.
    """
    try:
        entries = HuggingFaceStorageReader(str(path)).read_metadata().state_dict_metadata
    # Damaged headers can fail in any way; all mean the same.
    except Exception as error:
        raise _unreadable(path, error) from error
    return {
        name: (entry.properties.dtype, tuple(entry.size))
        for name, entry in entries.items()
        if isinstance(entry, TensorStorageMetadata)
    }


def load_tensors(
    path: Path, tensors: dict[str, torch.Tensor], group: distributed.ProcessGroup | None
) -> None:
    """Read stored tensors into the given ones; however many processes saved them.

    Args:
        path: Of the checkpoint.
        tensors: Overwritten; of each, a process reads the part that it holds.
        group: Of all processes, or None if there is one.

    Raises:
        CheckpointError: If one is missing or of another shape, or the files are damaged.
    """
    stored = stored_tensors(path)
    for name, tensor in tensors.items():
        shape = stored[name][1] if name in stored else None
        if shape != tuple(tensor.shape):
            found = "is missing" if shape is None else f"has shape {shape}"
            raise CheckpointError(
                f"{name!r} {found} in the training checkpoint {str(path)!r}",
                expected=f"shape {tuple(tensor.shape)}",
                fix="Continue with the model that the run began with.",
            )
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="torch.distributed is disabled")
            load(
                dict[str, Any](tensors),
                storage_reader=HuggingFaceStorageReader(str(path)),
                process_group=group,
                no_dist=group is None,
            )
    except Exception as error:
        raise _unreadable(path, error) from error


def read_tensors(path: Path, prefix: str) -> dict[str, torch.Tensor]:
    """Return whole tensors of a checkpoint on the CPU, with names without ``prefix``.

    Raises:
        CheckpointError: If the files are damaged.
    """
    found = {
        name: torch.empty(shape, dtype=dtype)
        for name, (dtype, shape) in stored_tensors(path).items()
        if name.startswith(prefix)
    }
    load_tensors(path, found, None)
    return {name.removeprefix(prefix): tensor for name, tensor in found.items()}


def _unreadable(path: Path, error: Exception) -> CheckpointError:
    reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
    return CheckpointError(
        f"The training checkpoint {str(path)!r} cannot be read: {reason}",
        fix="Remove that directory to continue from an older checkpoint.",
    )
