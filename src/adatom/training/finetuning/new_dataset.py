"""A level of theory that the base does not know, begun as a copy of one that it knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import torch

from adatom.core.errors import ConfigError
from adatom.models.base import Backbone, Head
from adatom.models.heads import Heads
from adatom.models.readout import ScalarReadout
from adatom.nn.embeddings import DatasetEmbedding
from adatom.tasks.domain import Domain
from adatom.tasks.potential import Potential
from adatom.training.finetuning.base import carry_over, rebuild

_EMBEDDING = "dataset_embedding.dataset_emb_dict."


def add_dataset(potential: Potential, name: str, like: str, domain: Domain) -> Potential:
    """Return a potential that also predicts a new dataset, at first exactly as another one.

    Where the network knows datasets, the new one gets an embedding of its own; energy and stress
    heads get weight matrices of its own (their biases are shared). All are copies of those of
    ``like``, so that both can move apart. Other weights are shared by all datasets.

    Args:
        potential: Not changed; shares no memory with the result where something was added.
        name: Of the new dataset.
        like: A dataset of ``potential``.
        domain: What the data of the new dataset contain.

    Raises:
        ConfigError: If the name is taken or cannot be used.
        UnknownNameError: If ``like`` has no tasks.
    """
    if name in potential.datasets:
        raise ConfigError(f"The potential has a dataset {name!r} already", expected="a new name")
    if not name or "." in name:
        raise ConfigError(f"The dataset is called {name!r}", expected="a name without dots")
    potential.task_for(like, "energy")
    tasks = list(potential.tasks)
    for task in potential.tasks:
        if like in task.datasets:
            table = task.element_references
            tasks.append(
                replace(
                    task,
                    name=f"{name}_{task.property}",
                    datasets=[name],
                    element_references=None if table is None else table.clone(),
                )
            )
    return Potential(
        _backbone_with(potential.backbone, name, like),
        _head_with(potential.head, potential.datasets, name, like),
        tasks,
        {**potential.domains, name: domain},
        metadata=potential.metadata,
    )


def readouts(head: Head) -> dict[str, ScalarReadout]:
    """Return the parts of a head that have weights by dataset, by the property that they give."""
    found = {}
    for single in _single_heads(head).values():
        for part in single.children():
            if isinstance(part, ScalarReadout) and len(single.gives) == 1:
                found[single.gives[0]] = part
    return found


def _single_heads(head: Head) -> dict[str, Head]:
    if isinstance(head, Heads):
        return {name: cast("Head", part) for name, part in head.heads.items()}
    return {"": head}


def _backbone_with(backbone: Backbone, name: str, like: str) -> Backbone:
    embedding = getattr(backbone, "dataset_embedding", None)
    if not isinstance(embedding, DatasetEmbedding) or "dataset_mapping" not in backbone.init_args:
        return backbone  # it does not know datasets
    if name in embedding.index:
        raise ConfigError(
            f"The network has an embedding called {name!r}, which other datasets share",
            expected="another name for the new dataset",
        )
    changes: dict[str, Any] = {"dataset_mapping": {**embedding.mapping, name: name}}
    made = rebuild(backbone, changes)
    weights = backbone.state_dict()
    weights[f"{_EMBEDDING}{name}.weight"] = weights[f"{_EMBEDDING}{embedding.mapping[like]}.weight"]
    carry_over(weights, made, strict=True)
    made.execution = backbone.execution
    return cast("Backbone", made)


def _head_with(head: Head, datasets: Sequence[str], name: str, like: str) -> Head:
    if isinstance(head, Heads):
        entries = {n: dict(entry) for n, entry in head.init_args["heads"].items()}
        weights: dict[str, torch.Tensor] = {}
        for part_name, part in _single_heads(head).items():
            made = _head_with(part, datasets, name, like)
            entries[part_name]["init_args"] = made.init_args
            weights |= {f"heads.{part_name}.{n}": w for n, w in made.state_dict().items()}
        whole = rebuild(head, {"heads": entries})
        carry_over(weights, whole, strict=True)
        return cast("Head", whole)
    if not readouts(head) or "dataset_mapping" not in head.init_args:
        return head
    known: Mapping[str, str] | None = head.init_args["dataset_mapping"]
    # Without a mapping all datasets share one level; any name will do for it.
    before = dict(known) if known else dict.fromkeys(datasets, datasets[0])
    if name in before.values():
        raise ConfigError(
            f"The head has a level of theory called {name!r}, which other datasets share",
            expected="another name for the new dataset",
        )
    after = {**before, name: name}
    old = sorted(set(before.values()))
    origin = [before[like] if level == name else level for level in sorted(set(after.values()))]
    rows = [old.index(level) for level in origin]
    made = rebuild(head, {"dataset_mapping": after})
    carry_over(_spread(head.state_dict(), rows), made, strict=True)
    return cast("Head", made)


def _spread(weights: Mapping[str, torch.Tensor], rows: list[int]) -> dict[str, torch.Tensor]:
    """Return the weights of a head whose levels are copies of the old ones at ``rows``."""
    out = {}
    for key, value in weights.items():
        part, _, kind = key.rpartition(".")
        in_readout = part.split(".")[0] in ("energy_block", "scalar_block")
        if in_readout and kind == "weights":
            out[key] = value[rows]
        elif in_readout and kind == "weight":
            out[f"{part}.weights"] = value.expand(len(rows), *value.shape)
        else:
            out[key] = value
    return out
