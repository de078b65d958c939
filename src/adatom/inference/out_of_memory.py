"""What running out of memory looks like."""

from __future__ import annotations

import torch

#: Parts of messages of the C library's and the devices' allocators.
_MESSAGES = (
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    "std::bad_alloc",
    "cannot allocate memory",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that memory did not suffice."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(part in text for part in _MESSAGES)


def release(device: torch.device) -> None:
    """Give unused memory of a device back, before a smaller attempt."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
