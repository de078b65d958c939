"""Merged, packed weights of the compositions that were met last."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import torch

#: Bytes of merged weights that are remembered; what a call needs at once may be more.
_MAX_BYTES = 2**30
#: Groups that are merged in one go, for which the experts are read once.
_AT_ONCE = 16

#: The packed tensors of each layer.
Layers = list[list[torch.Tensor]]


class ExpertCache:
    """Packed weights by expert coefficients.

    Args:
        make: From coefficients ``[G, X]`` (None without experts) to the packed tensors of each
            group.
    """

    def __init__(self, make: Callable[[torch.Tensor | None], list[Layers]]) -> None:
        self._make = make
        self._known: OrderedDict[bytes, Layers] = OrderedDict()

    def get(self, coefficients: torch.Tensor | None) -> list[Layers]:
        """Return the packed tensors of each group.

        Args:
            coefficients: ``[G, X]``, or None without experts.
        """
        keys = [b""] if coefficients is None else [row.numpy().tobytes() for row in coefficients]
        missing = [k for k, key in enumerate(keys) if key not in self._known]
        found: dict[bytes, Layers] = {}
        for start in range(0, len(missing), _AT_ONCE):
            chosen = missing[start : start + _AT_ONCE]
            own = None if coefficients is None else coefficients[chosen]
            found |= zip((keys[k] for k in chosen), self._make(own), strict=True)
        for key in keys:
            self._known[key] = found.get(key) or self._known[key]
            self._known.move_to_end(key)
        result = [self._known[key] for key in keys]
        while len(self._known) > 1 and _bytes(self._known) > _MAX_BYTES:
            self._known.popitem(last=False)
        return result


def _bytes(known: OrderedDict[bytes, Layers]) -> int:
    one = next(iter(known.values()))
    return len(known) * sum(tensor.nbytes for layer in one for tensor in layer)
