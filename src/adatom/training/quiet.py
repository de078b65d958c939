"""What is not for the user: Lightning's own words, and the same message from every process."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from adatom.core.console import muted
from adatom.training.environment import is_first_process

#: Loggers of Lightning that speak of what it does. The seed is part of the configuration.
_LOGGERS = ("lightning.pytorch", "lightning.fabric")


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Hide Lightning's tips and the warnings that have no remedy here, inside this context.

    - ``LeafSpec``: Lightning 2.6 with torch 2.13 uses a name that torch has deprecated.
    - ``GPU available but not used``: one device is trained on, by choice.
    - ``Grad strides``: DDP's word about layers with one output, where strides mean nothing.
    - ``torch.distributed is``: said of every checkpoint of a single process.
    - ``It is recommended to use``: results are summed over the processes before Lightning sees
      them.
    - ``broadcast_buffers``: torch 2.13 has another name for it, which older versions do not know.
    """
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r".*LeafSpec.*deprecated")
            warnings.filterwarnings("ignore", message=r"GPU available but not used")
            warnings.filterwarnings("ignore", message=r"Grad strides do not match bucket view")
            warnings.filterwarnings("ignore", message=r"torch.distributed is disabled")
            warnings.filterwarnings("ignore", message=r"It is recommended to use .*sync_dist")
            warnings.filterwarnings("ignore", message=r"`broadcast_buffers` is deprecated")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def first_process_speaks() -> Iterator[None]:
    """Show messages and progress bars of the first process only, inside this context.

    Raises:
        ConfigError: If the variables of a launcher contradict each other.
    """
    with nullcontext() if is_first_process() else muted():
        yield
