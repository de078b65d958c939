"""A loss or gradient that is not finite stops the run before it can reach the weights."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

from adatom.core.console import say
from adatom.core.errors import ConfigError, NonFiniteError
from adatom.core.files import atomic_write
from adatom.data.ase_convert import to_ase
from adatom.data.atomic_data import AtomicData
from adatom.tasks.potential import Potential
from adatom.training.reduction import rank, world_size


def blamed_for(data: AtomicData, predictions: Mapping[str, torch.Tensor]) -> list[str]:
    """Return the ids of the systems whose predicted energy or forces are not finite.

    Args:
        data: The batch.
        predictions: ``energy [B]`` and, if forces are predicted, ``forces [N, 3]``.

    Returns:
        Ids in batch order; none where no single system can be blamed.
    """
    bad = ~predictions["energy"].detach().isfinite()
    if "forces" in predictions:
        atoms = ~predictions["forces"].detach().isfinite().all(dim=1)
        bad = bad.index_fill(0, data.batch[atoms], value=True)
    return [sid for sid, is_bad in zip(data.sid, bad.tolist(), strict=True) if is_bad]


def non_finite(
    what: str,
    step: int,
    computed: Sequence[tuple[AtomicData, Mapping[str, torch.Tensor]]],
    folder: Path,
) -> NonFiniteError:
    """Save the batches of this rank and build the error that ends the run.

    Args:
        what: What is not finite, such as ``"the loss of forces"``.
        step: Steps that were completed before.
        computed: Batches and their predictions as in :func:`blamed_for`; none if another rank
            is to blame.
        folder: Where the batch is written as extended XYZ, each structure with its ``sid``.
    """
    from ase.io import write

    begin = f"At step {step + 1} {what} is not finite"
    end = "the weights are still those before that step"
    fix = "Look at these structures with 'adatom data check', or lower the learning rate."
    if not computed:
        return NonFiniteError(f"{begin} in another process; {end}", fix=fix)
    name = f"_rank{rank()}" if world_size() > 1 else ""
    path = folder / f"non_finite_batch{name}.extxyz"
    with atomic_write(path) as part:
        write(part, [atoms for data, _ in computed for atoms in to_ase(data)], format="extxyz")
    blamed = [sid for pair in computed for sid in blamed_for(*pair)]
    culprits = blamed or [sid for data, _ in computed for sid in data.sid]
    named = ", ".join(repr(sid) for sid in culprits[:3])
    if len(culprits) > 3:
        named += f" and {len(culprits) - 3} more"
    return NonFiniteError(
        f"{begin}, with structure {named}; {end}, and the batch is saved as {str(path)!r}", fix=fix
    )


def require_gradients(module: nn.Module) -> None:
    """Refuse parameters that the first step does not reach: several processes wait for all.

    Raises:
        ConfigError: If a trainable parameter has no gradient.
    """
    without = [n for n, p in module.named_parameters() if p.requires_grad and p.grad is None]
    if without:
        more = f" and {len(without) - 3} more" if len(without) > 3 else ""
        raise ConfigError(
            f"The loss does not depend on the parameters {', '.join(without[:3])}{more}",
            expected="a gradient for each parameter when several processes train",
            fix="Freeze them, give their task a loss, or train with one process.",
        )


def warn_of_bf16(trained: Collection[str], potential: Potential) -> None:
    """Say what bfloat16 costs where forces or stress are derivatives.

    Args:
        trained: Those of ``forces`` and ``stress`` that have a loss.
        potential: What is trained.
    """
    derived = sorted(set(trained) - set(potential.direct_properties))
    if derived:
        say(
            f"Warning: bf16 loses digits of {' and '.join(derived)}, which are derivatives of the "
            "energy here. It is made for pre-training with direct forces."
        )
