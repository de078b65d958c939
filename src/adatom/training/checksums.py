"""Numbers to compare two trainings by, step for step: for finding where they begin to differ."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from adatom.training.reduction import rank, world_size
from adatom.training.sharding import whole


def checksum_file(folder: Path) -> Path:
    """Return the file of this rank, such as ``checksums_rank0of2.csv``."""
    return folder / f"checksums_rank{rank()}of{world_size()}.csv"


def write_checksums(path: Path, step: int, loss: torch.Tensor, module: nn.Module) -> None:
    """Append the loss and the mean absolute value of every parameter and gradient.

    Args:
        path: A CSV file with the columns step, kind, name, value.
        step: Number of the step, from 1.
        loss: Of the whole step.
        module: Trained; its gradients are those before clipping.
    """
    rows = [("loss", "", float(loss))]
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        rows.append(("parameter", name, _mean(parameter)))
        if parameter.grad is not None:
            rows.append(("gradient", name, _mean(parameter.grad)))
    is_new = not path.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as stream:
        if is_new:
            stream.write("step,kind,name,value\n")
        stream.writelines(f"{step},{kind},{name},{value!r}\n" for kind, name, value in rows)


def _mean(tensor: torch.Tensor) -> float:
    return float(whole(tensor.detach()).double().abs().mean())
