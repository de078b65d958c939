"""A loss or gradient that is not finite stops the run before it can reach the weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from adatom.core.errors import NonFiniteError
from adatom.core.files import atomic_write
from adatom.data.ase_convert import to_ase
from adatom.data.atomic_data import AtomicData


def find_culprits(data: AtomicData, predictions: Mapping[str, torch.Tensor]) -> list[str]:
    """Return the ids of the systems whose predicted energy or forces are not finite.

    Args:
        data: The batch.
        predictions: ``energy [B]`` and, if forces are predicted, ``forces [N, 3]``.

    Returns:
        Ids in batch order; all of the batch where no single system can be blamed.
    """
    bad = ~predictions["energy"].detach().isfinite()
    if "forces" in predictions:
        atoms = ~predictions["forces"].detach().isfinite().all(dim=1)
        bad = bad.index_fill(0, data.batch[atoms], value=True)
    blamed = [sid for sid, is_bad in zip(data.sid, bad.tolist(), strict=True) if is_bad]
    return blamed or list(data.sid)


def non_finite(
    what: str, step: int, data: AtomicData, predictions: Mapping[str, torch.Tensor], path: Path
) -> NonFiniteError:
    """Save the batch and build the error that ends the run.

    Args:
        what: What is not finite, such as ``"the loss of forces"``.
        step: Steps that were completed before.
        data: The batch.
        predictions: As in :func:`find_culprits`.
        path: Where the batch is written as extended XYZ, each structure with its ``sid``.
    """
    from ase.io import write

    with atomic_write(path) as part:
        write(part, to_ase(data), format="extxyz")
    culprits = find_culprits(data, predictions)
    named = ", ".join(repr(sid) for sid in culprits[:3])
    if len(culprits) > 3:
        named += f" and {len(culprits) - 3} more"
    return NonFiniteError(
        f"At step {step + 1} {what} is not finite, with structure {named}; the weights are still "
        f"those before that step, and the batch is saved as {str(path)!r}",
        fix="Look at these structures with 'adatom data check', or lower the learning rate.",
    )
