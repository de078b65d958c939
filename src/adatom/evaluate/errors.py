"""Error measures of one property."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class ErrorSummary:
    """Errors of one quantity, in its own unit.

    Attributes:
        count: Number of values compared.
        mae: Mean absolute error.
        rmse: Root mean square error.
        largest: Largest absolute error.
        reference_rms: RMS of the reference about its mean (energies) or about zero (forces,
            stress): the RMSE of a model that knows nothing.
    """

    count: int
    mae: float
    rmse: float
    largest: float
    reference_rms: float


def summarize(
    predicted: NDArray[np.float64], reference: NDArray[np.float64], *, centered: bool = False
) -> ErrorSummary:
    """Summarize the errors of all components.

    Args:
        predicted: Any shape.
        reference: The same shape and unit.
        centered: Take ``reference_rms`` about the mean of the reference.
    """
    error = np.abs(predicted - reference).ravel()
    spread = reference - reference.mean() if centered else reference
    return ErrorSummary(
        count=error.size,
        mae=float(error.mean()),
        rmse=float(np.sqrt((error**2).mean())),
        largest=float(error.max()),
        reference_rms=float(np.sqrt((spread**2).mean())),
    )


def summarize_vectors(
    predicted: NDArray[np.float64], reference: NDArray[np.float64]
) -> ErrorSummary:
    """Summarize the lengths of the error vectors ``|p - r|`` over rows ``[n, 3]``."""
    length = np.linalg.norm(predicted - reference, axis=1)
    return ErrorSummary(
        count=len(length),
        mae=float(length.mean()),
        rmse=float(np.sqrt((length**2).mean())),
        largest=float(length.max()),
        reference_rms=float(np.sqrt((reference**2).sum(axis=1).mean())),
    )


def mean_cosine(predicted: NDArray[np.float64], reference: NDArray[np.float64]) -> float:
    """Return the mean cosine between rows ``[n, 3]``; rows with a zero vector do not count.

    Returns:
        Between -1 and 1, or NaN where no row has two non-zero vectors.
    """
    lengths = np.linalg.norm(predicted, axis=1) * np.linalg.norm(reference, axis=1)
    rows = lengths > 0
    if not rows.any():
        return float("nan")
    return float(((predicted * reference).sum(axis=1)[rows] / lengths[rows]).mean())
