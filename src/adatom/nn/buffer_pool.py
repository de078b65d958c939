"""Memory that is used again from call to call.

The C library gives large blocks back to the system when they are freed, and every new one costs a
page fault per 4 kB: a large part of the time of small and middle-sized systems.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

import torch

#: Bytes that stay reserved while unused.
_MAX_IDLE_BYTES = 2**29
#: A block serves requests down to this fraction of its size.
_LEAST_USE = 0.25
#: Each piece begins at a multiple of this many elements.
_ALIGNMENT = 32

# Only append and popleft are used, which threads may do at once.
_idle: deque[torch.Tensor] = deque()


class Loan:
    """Uninitialized tensors, whose memory goes back to the pool with the last reference to this.

    Args:
        shapes: Shapes of the tensors.
        like: Gives their dtype and device.

    Attributes:
        tensors: They must not be used after the loan.
    """

    def __init__(self, shapes: Sequence[tuple[int, ...]], like: torch.Tensor) -> None:
        sizes = [math.prod(shape) for shape in shapes]
        ends = [-(-size // _ALIGNMENT) * _ALIGNMENT for size in sizes]
        self._block = _take(sum(ends), like.dtype, like.device)
        pieces = torch.split(self._block[: sum(ends)], ends)
        self.tensors = [
            piece[:size].view(shape)
            for piece, size, shape in zip(pieces, sizes, shapes, strict=True)
        ]

    def __del__(self) -> None:
        """Give the memory back."""
        block = self.__dict__.get("_block")
        # Devices have allocators of their own that do this.
        if block is not None and block.device.type == "cpu":
            _idle.append(block)
            while sum(idle.nbytes for idle in tuple(_idle)) > _MAX_IDLE_BYTES:
                _idle.popleft()


def release_idle() -> None:
    """Give up all memory that is reserved and not lent, so that what is needed can be measured."""
    _idle.clear()


def _take(size: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    for _ in range(len(_idle)):
        try:
            block = _idle.popleft()
        except IndexError:  # another thread took it
            break
        fits = block.dtype == dtype and block.device == device
        if fits and _LEAST_USE * block.numel() <= size <= block.numel():
            return block
        _idle.append(block)
    # Room for the edges to become a few more, and usable in every grad mode later.
    with torch.inference_mode(mode=False):
        return torch.empty(size + size // 16, dtype=dtype, device=device)
