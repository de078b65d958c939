"""What Lightning says that is not for the user of this package."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Hide Lightning's tips and the warnings that have no remedy here, inside this context.

    - ``LeafSpec``: Lightning 2.6 with torch 2.13 uses a name that torch has deprecated.
    - ``GPU available but not used``: one device is trained on, by choice.
    - ``Grad strides``: DDP's word about layers with one output, where strides mean nothing.
    - ``torch.distributed is``: said of every checkpoint of a single process.
    - ``It is recommended to use``: results are summed over the processes before Lightning sees
      them.
    """
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r".*LeafSpec.*deprecated")
            warnings.filterwarnings("ignore", message=r"GPU available but not used")
            warnings.filterwarnings("ignore", message=r"Grad strides do not match bucket view")
            warnings.filterwarnings("ignore", message=r"torch.distributed is disabled")
            warnings.filterwarnings("ignore", message=r"It is recommended to use .*sync_dist")
            yield
    finally:
        logger.setLevel(level)
