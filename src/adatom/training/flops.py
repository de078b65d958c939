"""How many floating-point operations a training step takes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from adatom.core.console import say
from adatom.core.errors import ConfigError
from adatom.core.files import atomic_write
from adatom.data.atomic_data import AtomicData
from adatom.training.sharding import is_sharded


def profile_flops(
    module: nn.Module, batch: AtomicData, loss: Callable[[AtomicData], torch.Tensor]
) -> dict[str, float]:
    """Compute a loss and its gradient once, and count the operations.

    Only products of matrices are counted (two operations for a multiplication and addition), as
    torch's counter does; they are nearly everything. No gradient is kept and no parameter changes.

    Args:
        module: Whose trainable parameters the loss is differentiated by.
        batch: To compute with.
        loss: Of a batch, with graph.

    Returns:
        ``forward`` (with forces, where these are derivatives), ``backward``, ``total``, and the
        total ``per_atom``, ``per_edge`` and ``per_atom_and_parameter``.
    """
    parameters = [p for p in module.parameters() if p.requires_grad]
    with torch.random.fork_rng(), torch.enable_grad():
        with FlopCounterMode(display=False) as forward:
            value = loss(batch)
        with FlopCounterMode(display=False) as backward:
            torch.autograd.grad(value, parameters, allow_unused=True)
    total = forward.get_total_flops() + backward.get_total_flops()
    edges = batch.edges.num_edges if batch.edges is not None else 0
    size = sum(p.numel() for p in parameters)
    return {
        "forward": float(forward.get_total_flops()),
        "backward": float(backward.get_total_flops()),
        "total": float(total),
        "per_atom": total / batch.num_atoms,
        "per_edge": total / max(edges, 1),
        "per_atom_and_parameter": total / batch.num_atoms / max(size, 1),
    }


def report_flops(
    module: nn.Module,
    batch: AtomicData,
    loss: Callable[[AtomicData], torch.Tensor],
    path: Path | None,
) -> None:
    """Print the result of :func:`profile_flops` and write it to ``path`` as JSON.

    Args:
        module: See :func:`profile_flops`.
        batch: See :func:`profile_flops`.
        loss: See :func:`profile_flops`.
        path: None on all processes but the first, which do nothing.

    Raises:
        ConfigError: On all processes, if the weights are shared out.
    """
    if is_sharded(module):
        raise ConfigError("profile_flops is set", expected="it with train_strategy: ddp")
    if path is None:
        return
    found = profile_flops(module, batch, loss)
    with atomic_write(path) as part:
        part.write_text(json.dumps(found, indent=1) + "\n")
    say(
        f"One step of {batch.num_atoms} atoms takes {found['total']:.3g} floating-point operations,"
        f" {found['per_atom']:.3g} per atom."
    )
