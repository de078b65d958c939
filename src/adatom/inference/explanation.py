"""What a predict unit chose, in plain words."""

from __future__ import annotations

import torch

from adatom.inference.batch_runner import BatchRunner
from adatom.inference.engine import KEPT_BYTES
from adatom.inference.memory_model import MAX_CPU_EDGES
from adatom.inference.scopes import edges_per_thread, threads_for
from adatom.inference.settings import GRAPH_BACKENDS, PRESETS


def explain(runner: BatchRunner, edges: int | None) -> str:
    """Return one line per choice.

    Args:
        runner: Made the choices.
        edges: Edges of the structure that is asked about, or None.
    """
    notes = runner.engine.notes
    later = "Decided with the first structure: call explain(structure)."
    lines = [
        f"Settings: {_preset(runner)}",
        f"Model: {_model(runner)}",
        notes.get("execution", f"Execution: {later}"),
        f"Trust: {notes.get('trust', later)}",
        f"Experts: {notes['experts']}",
        f"Threads: {_threads(runner, edges)}",
        f"Memory: {_kept(runner)}",
        f"Neighbors: {_neighbors(runner)}",
        f"Batches: {_batches(runner)}",
    ]
    return "\n".join(lines)


def _preset(runner: BatchRunner) -> str:
    settings = runner.settings
    for name, preset in PRESETS.items():
        if settings == preset:
            return f"the preset {name!r} ({settings.describe()})."
    return f"{settings.describe()}."


def _model(runner: BatchRunner) -> str:
    potential = runner.potential
    name = potential.metadata.get("name", "unnamed")
    count = sum(parameter.numel() for parameter in potential.parameters())
    dtype = str(potential.dtype).removeprefix("torch.")
    asked = runner.settings.dtype
    why = "as the settings say" if asked == potential.dtype else "as loaded"
    return (
        f"{name}, {type(potential.backbone).__name__}, {count} parameters, on {runner.device}, in "
        f"{dtype} ({why}), TF32 {'allowed' if runner.settings.tf32 else 'not used'}."
    )


def _threads(runner: BatchRunner, edges: int | None) -> str:
    if runner.settings.torch_num_threads is not None:
        return f"{runner.settings.torch_num_threads} during a prediction, as the settings say."
    mode = runner.engine.mode
    rule = (
        f"one per {edges_per_thread(mode)} edges, at most {torch.get_num_threads()} (torch's "
        "number), because threads of small systems wait for each other longer than they compute."
    )
    if edges is None:
        return rule
    return f"{threads_for(runner.settings, edges, mode)} for {edges} edges: {rule}"


def _kept(runner: BatchRunner) -> str:
    if runner.engine.mode == "general":
        return "all is kept for the backward pass, as plain autograd does."
    tiles = runner.settings.edge_chunk_size
    tile = "as many edges per tile as the backbone takes" if tiles is None else f"{tiles} per tile"
    if runner.settings.activation_checkpointing:
        return f"nothing is kept per edge for the backward pass; {tile}."
    return (
        f"up to {KEPT_BYTES // 2**20} MiB are kept per layer and call for the backward pass, the "
        f"rest is computed again; {tile}."
    )


def _neighbors(runner: BatchRunner) -> str:
    if runner.settings.external_graph_gen:
        return "come with the structures."
    backend = GRAPH_BACKENDS[runner.settings.internal_graph_gen_version]
    search = "the fastest search at their size" if backend == "auto" else f"the search {backend!r}"
    return f"within {runner.potential.cutoff:g} angstrom, by {search}."


def _batches(runner: BatchRunner) -> str:
    memory = runner.memory
    known = "measured" if memory.learned else "assumed until measured"
    limits = f"up to {memory.budget / 2**30:.2g} GiB"
    if runner.max_atoms is not None:
        limits += f" and {runner.max_atoms} atoms"
    if runner.device.type == "cpu":
        limits += f" and {MAX_CPU_EDGES} edges"
    return (
        f"{limits}, at {memory.per_edge / 1000:.3g} kB per edge and "
        f"{memory.per_atom / 1000:.3g} kB per atom ({known}); structures of one composition are "
        "computed next to each other."
    )
