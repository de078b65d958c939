"""What makes a run continue as if it had never stopped: counters and random numbers.

The position in the data is (epoch, batches done), and the order of batches is a pure function of
(seed, epoch), so nothing of the data loader has to be stored.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch


def as_resumable(checkpoint: dict[str, Any]) -> None:
    """Rewrite Lightning's loop counters so that a resume begins at a step, not inside one.

    Lightning counts a batch as ready, started, processed, completed; callbacks that save run
    between the last two, and what a resume does then depends on the hook in which the file was
    written. Here the counters say either "k batches of this epoch are complete" or "this epoch is
    complete, the next one has not begun".

    Args:
        checkpoint: As dumped by the trainer; changed in place.
    """
    loops = checkpoint.get("loops", {}).get("fit_loop")
    if not loops:
        return
    epochs, batches = loops["epoch_progress"], loops["epoch_loop.batch_progress"]
    epoch_is_over = epochs["current"]["processed"] == epochs["current"]["ready"]
    for part in ("total", "current"):
        batches[part]["completed"] = batches[part]["processed"]
        batches[part]["ready"] = batches[part]["started"] = batches[part]["processed"]
        if epoch_is_over:
            epochs[part]["completed"] = epochs[part]["processed"]
    if epoch_is_over:
        batches["current"] = dict.fromkeys(batches["current"], 0)
    batches["is_last_batch"] = False
    checkpoint["epoch"] = epochs["current"]["completed"]


def random_state() -> dict[str, Any]:
    """Return the state of every random number generator as tensors and plain values."""
    version, internal, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)  # noqa: NPY002
    keys = np.asarray(keys).tolist()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "python": [version, list(internal), gauss],
        "numpy": [
            str(name),
            np.asarray(keys).tolist(),
            int(position),
            int(has_gauss),
            float(cached),
        ],
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Put every random number generator into a state from :func:`random_state`."""
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.device_count() == len(state["cuda"]):
        torch.cuda.set_rng_state_all(state["cuda"])
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state(  # noqa: NPY002
        (name, np.array(keys, dtype=np.uint32), position, has_gauss, cached)
    )
