"""Matrices made from weights, remembered as long as the weights do not change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch

T = TypeVar("T")

#: How many coefficient vectors are remembered per layer, newest last.
_MAX_ENTRIES = 4


@dataclass(frozen=True)
class _Entry(Generic[T]):
    """One remembered value and what it was made from.

    Attributes:
        weights: Aliases of the weights. They keep the memory of replaced weights occupied, so
            that an equal address means the same memory.
        versions: How often each of them had been changed in place.
        coefficients: Copy of the expert coefficients, or None.
        value: What was made.
    """

    weights: tuple[torch.Tensor, ...]
    versions: tuple[int, ...]
    coefficients: torch.Tensor | None
    value: T

    def made_from(self, weights: Sequence[torch.Tensor], coefficients: torch.Tensor | None) -> bool:
        if self.coefficients is None or coefficients is None:
            same = self.coefficients is coefficients
        else:
            same = (
                self.coefficients.device == coefficients.device
                and self.coefficients.dtype == coefficients.dtype
                and torch.equal(self.coefficients, coefficients)
            )
        return same and self.unchanged(weights)

    def unchanged(self, weights: Sequence[torch.Tensor]) -> bool:
        return len(weights) == len(self.weights) and all(
            now.data_ptr() == then.data_ptr()
            and now._version == version  # noqa: SLF001 - the only count of in-place changes
            and now.dtype == then.dtype
            and now.shape == then.shape
            and now.stride() == then.stride()
            for now, then, version in zip(weights, self.weights, self.versions, strict=True)
        )


class PreparedWeights(Generic[T]):
    """Remember what is made from weights and expert coefficients.

    Nothing is remembered while a gradient to the weights or coefficients may be needed. Values are
    made anew after any change of the weights that PyTorch knows of: in place, by loading, or by a
    new dtype or device. Copies and pickles of an instance are empty.
    """

    def __init__(self) -> None:
        self._entries: tuple[_Entry[T], ...] = ()

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle as an empty instance."""
        return type(self), ()

    def __len__(self) -> int:
        """Return how many values are remembered."""
        return len(self._entries)

    def get(
        self,
        weights: Sequence[torch.Tensor],
        coefficients: torch.Tensor | None,
        make: Callable[[], T],
    ) -> T:
        """Return ``make()``, or what it returned for the same weights and coefficients.

        Args:
            weights: Everything trained that ``make`` uses.
            coefficients: ``[G, X]`` expert coefficients, or None without experts.
            make: Called without arguments; its result must not be changed.
        """
        if not is_frozen(weights) or (coefficients is not None and coefficients.requires_grad):
            self._entries = ()
            return make()
        for entry in self._entries:
            if entry.made_from(weights, coefficients):
                return entry.value
        # Usable in every mode later, whatever the mode is now.
        with torch.inference_mode(mode=False), torch.no_grad():
            value = make()
            entry = _Entry(
                tuple(weight.detach() for weight in weights),
                tuple(weight._version for weight in weights),  # noqa: SLF001
                None if coefficients is None else coefficients.clone(),
                value,
            )
        kept = [old for old in self._entries if old.unchanged(weights)]
        self._entries = (*kept[1 - _MAX_ENTRIES :], entry)
        return value


def weight_versions(weights: Sequence[torch.Tensor]) -> list[tuple[int, int, bool]]:
    """Return what changes with any change of weights that PyTorch knows of.

    Args:
        weights: To be kept as long as the result, so that an equal address means the same memory.
    """
    return [(w.data_ptr(), w._version, w.requires_grad) for w in weights]  # noqa: SLF001


def is_frozen(weights: Sequence[torch.Tensor]) -> bool:
    """Tell whether no weight needs gradients and all count their changes."""
    return not any(weight.requires_grad or weight.is_inference() for weight in weights)
