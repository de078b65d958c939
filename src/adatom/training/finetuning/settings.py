"""What a fine-tuning is told; without torch, so that the help of the verb is quick."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from adatom.training.data_source import DataSource

#: ``full``: all weights. ``heads``: those of the heads. ``layers``: those that patterns name.
#: ``lora``: low-rank changes of the linear maps, see :mod:`adatom.training.finetuning.lora`.
Method = Literal["full", "heads", "layers", "lora"]


@dataclass(frozen=True, kw_only=True)  # no slots: jsonargparse reads defaults from __dict__
class LoraSettings:
    """Which low-rank changes are trained.

    Attributes:
        rank: Of each change; null takes the largest up to 8 that trains below 5 % of the number
            of parameters.
        alpha: Changes are multiplied by ``alpha / rank``; null takes the rank.
        layers: Patterns of the weights that change, such as ``backbone.blocks.*``; null means all
            linear maps.
    """

    rank: int | None = None
    alpha: float | None = None
    layers: list[str] | None = None


@dataclass(slots=True, kw_only=True)
class FinetuningSettings:
    """All options of a fine-tuning.

    Attributes:
        base: Checkpoint file (of adatom, or an official fairchem one), or the name of a potential.
        data: Files with labels, or sources {path, dataset, label_keys, units}; each dataset name
            is one level of theory.
        dataset: Name of the level of theory of data that do not say theirs: one of the base, if
            they were computed in the same way, or a new one. Null makes a new one with the name
            of the first file.
        like: Dataset of the base that new ones begin as; null takes the only one there is. A
            mapping gives each new one its own.
        method: full trains all weights, heads those of the heads, layers those that match
            --layers, lora low-rank changes of the linear maps.
        layers: Patterns for the method layers, such as backbone.blocks.1.* or head.
        lora: Rank, alpha and patterns of the method lora.
        references: refit fits element references of new datasets to what the base leaves open;
            keep takes those of the base.
        scale: base keeps the normalizer of the base; data takes the RMS of the new forces, with
            the weights changed so that the first predictions stay the same.
        new_elements: Allow elements that the base never saw; their weights begin at random.
        replay: Structures of the base's own datasets (named in the sources) to train on too.
        replay_ratio: Replay structures per new structure.
        replay_labels: file takes the labels of the replay set; base takes the predictions of the
            base instead, which holds it where it was.
        keep: Datasets of the base that the result can still predict; null keeps those of the
            replay. Without replay their predictions drift.
        base_test: Structures of the base's datasets whose errors are measured before and after.
        test: Structures of the new datasets whose errors are measured before and after.
        val: Validation structures; null splits them off the data, with twins on the same side.
        val_fraction: Of the split.
        losses: From energy, forces, stress to {name, coefficient}; null takes those of the base.
        lr: Peak learning rate; null takes the default of the method.
        weight_decay: Not applied to norms, biases, embeddings and vectors.
        epochs: At most.
        patience: Stop after so many epochs without a better validation; null never does.
        ema_decay: Of the weight average that is validated and saved.
        batch_size: Structures per batch; null for no limit.
        max_atoms: Atoms per batch; null for no limit.
        seed: Of everything random.
        check: Run the dataset doctor first; its errors stop the run.
        run_dir: Where the run writes; null takes runs/finetune_<dataset>.
        report: Let the command write report.html at the end.
        devices: Processes on this machine, each with batches of its own.
        strategy: What each of them holds: all weights (ddp) or a part of them (fsdp), which the
            method lora cannot.
    """

    base: str
    data: list[str | DataSource]
    dataset: str | None = None
    like: str | dict[str, str] | None = None
    method: Method = "full"
    layers: list[str] | None = None
    lora: LoraSettings = field(default_factory=LoraSettings)
    references: Literal["refit", "keep"] = "refit"
    scale: Literal["base", "data"] = "base"
    new_elements: bool = False
    replay: str | DataSource | list[str | DataSource] | None = None
    replay_ratio: float = 1.0
    replay_labels: Literal["file", "base"] = "file"
    keep: list[str] | None = None
    base_test: str | DataSource | list[str | DataSource] | None = None
    test: str | DataSource | list[str | DataSource] | None = None
    val: str | DataSource | list[str | DataSource] | None = None
    val_fraction: float = 0.1
    losses: dict[str, dict[str, Any]] | None = None
    lr: float | None = None
    weight_decay: float = 1e-3
    epochs: int = 200
    patience: int | None = 30
    ema_decay: float = 0.99
    batch_size: int | None = 5
    max_atoms: int | None = None
    seed: int = 0
    check: bool = True
    run_dir: str | None = None
    report: bool = True
    devices: int = 1
    strategy: Literal["ddp", "fsdp"] = "ddp"
