"""What the helpers before a training print."""

from __future__ import annotations

from adatom.core.console import print_table, say
from adatom.core.quantities import duration, memory_size
from adatom.training.tuning import BatchScaling, RateCurve

#: Rows of the table of learning rates.
_ROWS = 12


def show_rates(curve: RateCurve, *, of_torch: bool) -> None:
    """Print the curve, and where the loss falls most.

    Args:
        curve: Learning rates and losses.
        of_torch: Whether the optimizer is one of torch, named by ``optimizer.class_path``.
    """
    every = max(1, len(curve.rates) // _ROWS)
    pairs = list(zip(curve.rates, curve.losses, strict=True))[::every]
    rows = [(f"{rate:.2e}", f"{loss:.5g}") for rate, loss in pairs]
    print_table("Learning rate", ("learning rate", "loss (running mean)"), rows)
    key = "optimizer.init_args.lr" if of_torch else "model.lr"
    if curve.suggestion is None:
        say(
            "No learning rate stands out: batches differ more than steps change the loss. Take "
            "larger batches, more steps (--num_steps) or a higher --min_lr."
        )
    else:
        say(
            f"The loss falls fastest at {curve.suggestion:.2g}. To use it: --{key} "
            f"{curve.suggestion:.2g}"
        )


def show_batches(scaling: BatchScaling, setting: str) -> None:
    """Print what batches took, and which computes most structures per second.

    Args:
        scaling: What was measured.
        setting: Option that sets the number of structures.
    """
    rows = [
        (
            str(trial.structures),
            str(trial.atoms),
            str(trial.edges),
            duration(trial.seconds),
            f"{trial.structures / trial.seconds:.3g}",
            "unknown" if trial.peak_bytes is None else memory_size(trial.peak_bytes),
        )
        for trial in scaling.trials
    ]
    columns = ("structures", "atoms", "edges", "time of a step", "structures/s", "memory")
    print_table("Batches of the largest structures", columns, rows)
    say(f"No larger batch was tried: {scaling.end}.")
    if scaling.trials:
        best = max(scaling.trials, key=lambda trial: trial.structures / trial.seconds)
        say(
            f"Batches of {best.structures} are the fastest. To use them: --{setting} "
            f"{best.structures}"
        )
