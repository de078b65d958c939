"""What the kernel calls between layers where other workers have parts of the system."""

from __future__ import annotations

import ctypes

import torch

from adatom.graph.halo import Halo

#: ``int32_t (*)(int32_t kind, void *rows, int64_t count)`` of ``cpp/problem.h``.
_FUNCTION = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_int32, ctypes.c_void_p, ctypes.c_int64)
_FILL, _RETURN = 0, 1
_ITEM = {torch.float32: ctypes.c_float, torch.float64: ctypes.c_double}


class HaloExchange:
    """Exchanges rows in the kernel's memory.

    Args:
        halo: Connects the workers.
        dtype: Of the kernel's numbers.
        width: Numbers per row.

    Attributes:
        error: What was raised, since nothing can be raised through the kernel.
    """

    def __init__(self, halo: Halo, dtype: torch.dtype, width: int) -> None:
        self.error: BaseException | None = None
        self._halo = halo
        self._dtype = dtype
        self._width = width
        self._function = _FUNCTION(self._exchange)

    @property
    def address(self) -> int | None:
        """Address of the function; it may be called while this object lives."""
        return ctypes.cast(self._function, ctypes.c_void_p).value

    def _exchange(self, kind: int, address: int, count: int) -> int:
        try:
            with torch.no_grad():
                self._in_place(kind, self._view(address, count))
        # The kernel stops exchanging, and its caller raises this.
        except BaseException as error:  # noqa: BLE001
            self.error = error
            return 1
        return 0

    def _view(self, address: int, count: int) -> torch.Tensor:
        """Return the kernel's memory as a tensor ``[count]``."""
        if not count:
            return torch.empty(0, dtype=self._dtype)
        memory = (_ITEM[self._dtype] * count).from_address(address)
        return torch.frombuffer(memory, dtype=self._dtype)

    def _in_place(self, kind: int, numbers: torch.Tensor) -> None:
        halo = self._halo
        if kind not in (_FILL, _RETURN):
            numbers.copy_(halo.links.sum(numbers))
            return
        rows = numbers.view(halo.num_rows, self._width)
        own, others = rows[: halo.num_own], rows[halo.num_own :]
        if kind == _FILL:
            others.copy_(halo.received(own))
        else:
            own.index_add_(0, halo.sent, halo.returned(others))
