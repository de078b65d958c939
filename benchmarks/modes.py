"""What can be measured side by side, by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from adatom.core.console import say
from benchmarks.jobs import Job
from benchmarks.workers import mace_python


class Mode(NamedTuple):
    """A program with settings.

    Attributes:
        program: ``"adatom"``, ``"fairchem"`` or ``"mace"``.
        settings: The mode of :class:`~benchmarks.jobs.Job`.
        title: How a table calls it.
    """

    program: str
    settings: str
    title: str


#: Name on the command line to mode.
MODES: Mapping[str, Mode] = MappingProxyType(
    {
        "fairchem-batch": Mode("fairchem", "batch", "fairchem batch"),
        "fairchem-unmerged": Mode("fairchem", "unmerged", "fairchem unmerged, not checkpointed"),
        "fairchem-loop": Mode("fairchem", "loop", "fairchem unmerged, one by one"),
        "fairchem-merged": Mode("fairchem", "merged", "fairchem merged"),
        "fairchem-default": Mode("fairchem", "default", "fairchem default (merged, compiled)"),
        "turbo": Mode("adatom", "turbo", "adatom turbo"),
        "default": Mode("adatom", "default", "adatom default"),
        "tiled": Mode("adatom", "tiled", "adatom, PyTorch only"),
        "general": Mode("adatom", "general", "adatom, plain autograd"),
        "batch": Mode("adatom", "batch", "adatom batch"),
        "loop": Mode("adatom", "loop", "adatom, one by one"),
        "mace-medium": Mode("mace", "medium", "mace-torch medium (other model)"),
    }
)

#: What is measured unless something is chosen, by kind of call.
STANDARD: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "single": ("fairchem-merged", "fairchem-default", "turbo", "default", "tiled"),
        "batch": ("fairchem-batch", "fairchem-unmerged", "fairchem-loop", "batch", "loop"),
    }
)


def modes_for(call: str, chosen: Sequence[str] | None) -> list[str]:
    """Return the modes that make sense for a kind of call.

    Args:
        call: See :class:`~benchmarks.jobs.Job`.
        chosen: Names among :data:`MODES`, or None for the standard ones.
    """
    names = STANDARD["batch" if call == "batch" else "single"] if chosen is None else chosen
    return [name for name in names if _possible(name, call)]


def _possible(name: str, call: str) -> bool:
    if MODES[name].program == "mace":
        return call == "ase"  # it has nothing but the ASE calculator
    return call == "batch" or not name.endswith("loop")


def installed(names: Sequence[str] | None) -> list[str] | None:
    """Return the chosen modes without mace-torch, and say so, where it is not installed."""
    if names is None or mace_python() is not None:
        return None if names is None else list(names)
    left = [name for name in names if MODES[name].program != "mace"]
    if len(left) < len(names):
        say("mace-torch is left out: not installed (benchmarks/setup_mace.sh)")
    return left


def title_of(job: Job) -> str:
    """Return how a table calls the program and mode of a job."""
    found = (m.title for m in MODES.values() if (m.program, m.settings) == (job.program, job.mode))
    return next(found, f"{job.program} {job.mode}")
