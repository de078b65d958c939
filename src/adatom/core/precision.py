"""Precision, seeds and threads as scopes: what they change is put back at the end."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from adatom.core.errors import ConfigError
from adatom.core.process_setting import ProcessSetting

_default_dtype: ProcessSetting[torch.dtype] = ProcessSetting(
    torch.get_default_dtype, torch.set_default_dtype
)
_matmul_precision: ProcessSetting[str] = ProcessSetting(
    torch.get_float32_matmul_precision, torch.set_float32_matmul_precision
)


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Create new floating tensors in ``dtype``; threads that want another wait until the end.

    Raises:
        ConfigError: If ``dtype`` is not a floating type.
    """
    if not dtype.is_floating_point:
        raise ConfigError(f"The default dtype is {dtype}", expected="a floating type")
    with _default_dtype.lend(dtype):
        yield


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw random numbers (Python, NumPy, torch, every GPU) from ``seed``."""
    state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002 (global on purpose)
    with torch.random.fork_rng():
        try:
            random.seed(seed)
            np.random.seed(seed % 2**32)  # noqa: NPY002
            torch.manual_seed(seed)
            yield
        finally:
            random.setstate(state)
            np.random.set_state(numpy_state)  # noqa: NPY002


@contextmanager
def torch_threads(n: int) -> Iterator[None]:
    """Let torch use ``n`` CPU threads.

    Raises:
        ConfigError: If ``n`` is below 1.
    """
    if n < 1:
        raise ConfigError(f"The number of threads is {n}", expected="at least 1")
    previous = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(previous)


@contextmanager
def deterministic() -> Iterator[None]:
    """Use only algorithms that give the same bits every time; an error where none exists."""
    enabled = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark = torch.backends.cudnn.benchmark
    workspace = os.environ.get("CUBLAS_WORKSPACE_CONFIG")
    # cuBLAS reads this when a handle is created; without it torch refuses matrix products.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(enabled, warn_only=warn_only)
        torch.backends.cudnn.benchmark = benchmark
        if workspace is None:
            os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)


@contextmanager
def tf32(enabled: bool) -> Iterator[None]:
    """Allow or forbid TF32 (10-bit mantissa) in float32 matrix products on GPUs.

    Threads that want the opposite wait until the end.
    """
    with _matmul_precision.lend("high" if enabled else "highest"):
        yield
