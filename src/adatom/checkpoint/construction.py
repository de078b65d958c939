"""Models whose weights come from a file need no random numbers first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

#: What fills a parameter in place with random numbers.
_FILLS = {
    torch.Tensor.normal_,
    torch.Tensor.uniform_,
    nn.init.normal_,
    nn.init.uniform_,
    nn.init.kaiming_uniform_,
}


class _SkipFills(TorchFunctionMode):
    """Leave parameters as they are allocated; buffers are computed as always."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func in _FILLS:
            target = args[0] if args else kwargs["tensor"]
            if isinstance(target, nn.Parameter):
                return target
        return func(*args, **kwargs)


@contextmanager
def without_initial_weights() -> Iterator[None]:
    """Construct modules whose parameters hold nothing yet; every one of them must be loaded.

    Memory that is allocated and never filled is not occupied.
    """
    with _SkipFills():
        yield
