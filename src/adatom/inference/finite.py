"""No NaN or infinity leaves a predict unit unnamed."""

from __future__ import annotations

import math

import torch

from adatom.core.errors import NonFiniteError
from adatom.inference.prediction import SYSTEM_PROPERTIES, Prediction


def require_finite(prediction: Prediction) -> None:
    """Refuse NaN or infinite predictions; rows of what is absent are made NaN.

    Raises:
        NonFiniteError: Naming the first such structure.
    """
    for name, value in prediction.items():
        absent = prediction.absent.get(name)
        # The sum is finite only if every number is, up to overflow, which the slow way decides.
        if not absent and math.isfinite(float(value.sum())):
            continue
        bad = ~torch.isfinite(value.flatten(1) if value.dim() > 1 else value[:, None]).all(1)
        if absent:
            rows = _rows_of(prediction, name, list(absent), value.device)
            value[rows], bad[rows] = torch.nan, False
        if bool(bad.any()):
            row = int(torch.nonzero(bad)[0])
            sid = prediction.sids[_system_of(prediction, name, row)]
            raise NonFiniteError(
                f"The predicted {name} of structure {sid!r} is NaN or infinite",
                fix="Check the structure for atoms that are far too close.",
            )


def _of_system(prediction: Prediction, name: str) -> bool:
    return name in SYSTEM_PROPERTIES or name in prediction.per_system


def _rows_of(
    prediction: Prediction, name: str, systems: list[int], device: torch.device
) -> torch.Tensor:
    if _of_system(prediction, name):
        return torch.tensor(systems, device=device)
    starts = [0]
    for natoms in prediction.natoms:
        starts.append(starts[-1] + natoms)
    rows = [row for i in systems for row in range(starts[i], starts[i + 1])]
    return torch.tensor(rows, device=device)


def _system_of(prediction: Prediction, name: str, row: int) -> int:
    if _of_system(prediction, name):
        return row
    if name == "hessian":
        return 0
    for i, natoms in enumerate(prediction.natoms):
        if row < natoms:
            return i
        row -= natoms
    return len(prediction.natoms) - 1
