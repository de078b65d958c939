"""The tasks of an official fairchem checkpoint, in adatom's JSON form.

Source: shared/reference/uma.md, sections 1.12 and 2.1 (facts about fairchem-core 2.24.0).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from adatom.checkpoint.fairchem_model import last_part
from adatom.core.errors import CheckpointError

_SHAPES = {"energy": [1], "forces": [3], "stress": [3, 3]}

#: Released datasets that were trained with neither charge nor spin (spin 0 is their "none").
_NEUTRAL = {"oc20", "oc22", "oc25", "odac", "omat", "omc"}
#: The one that was trained with both; its spin is a multiplicity, and the table ends at 100.
_CHARGED = "omol"
_MULTIPLICITIES = list(range(1, 101))


def translate_tasks(
    configs: Sequence[Mapping[str, Any]], source: str, *, add_stress: bool
) -> list[dict[str, Any]]:
    """Return the tasks in the form of :func:`adatom.checkpoint.tasks_json.task_from_json`.

    Args:
        configs: The checkpoint's ``tasks_config``, as plain values.
        source: The file's name, for messages.
        add_stress: Give each dataset that has an energy task but no stress task one that was
            never trained, with the normalizer of its energy.

    Raises:
        CheckpointError: If a task is not one of energy, forces and stress, or not understood.
    """
    tasks = [_translate(config, source) for config in configs]
    if add_stress:
        with_stress = {d for t in tasks if t["property"] == "stress" for d in t["datasets"]}
        tasks += [
            _untrained_stress(dataset, task["normalizer"])
            for task in tasks
            if task["property"] == "energy"
            for dataset in task["datasets"]
            if dataset not in with_stress
        ]
    return tasks


def translate_domains(
    tasks: Sequence[Mapping[str, Any]], max_num_elements: int
) -> dict[str, dict[str, list[int]]]:
    """Return what each dataset contained, as far as the checkpoint tells.

    Elements are those with an element reference other than zero; without a table, all that the
    model has embeddings for. Charges and spins are limited for the released datasets only.
    """
    domains = {}
    for task in tasks:
        if task["property"] != "energy":
            continue
        table = task["element_references"] or []
        known = [z for z, energy in enumerate(table) if energy != 0.0 and 0 < z < max_num_elements]
        for dataset in task["datasets"]:
            neutral = dataset in _NEUTRAL
            spins = _MULTIPLICITIES if dataset == _CHARGED else []
            domains[dataset] = {
                "elements": known or list(range(1, max_num_elements)),
                "charges": [0] if neutral else [],
                "spins": [0] if neutral else spins,
            }
    return domains


def _translate(config: Mapping[str, Any], source: str) -> dict[str, Any]:
    name = config.get("name")
    prop = config.get("property")
    if last_part(config.get("_target_")) != "Task" or prop not in _SHAPES:
        raise CheckpointError(
            f"{source!r} cannot be represented: its task {name!r} predicts {prop!r}",
            expected=f"one of {', '.join(_SHAPES)}",
        )
    normalizer = config.get("normalizer") or {}
    if set(normalizer) - {"_target_", "mean", "rmsd"} or (
        last_part(normalizer.get("_target_", "Normalizer")) != "Normalizer"
    ):
        raise CheckpointError(
            f"{source!r} cannot be represented: the normalizer of its task {name!r} is "
            f"{dict(normalizer)!r}",
            expected="a mean and an rmsd",
        )
    return _task(
        str(name),
        str(prop),
        [str(dataset) for dataset in config.get("datasets") or []],
        {"mean": float(normalizer.get("mean", 0.0)), "rmsd": float(normalizer.get("rmsd", 1.0))},
        element_references=_references(config.get("element_references"), f"{source!r}, {name!r}"),
        train_on_free_atoms=bool(config.get("train_on_free_atoms", True)),
        eval_on_free_atoms=bool(config.get("eval_on_free_atoms", True)),
        inference_only=bool(config.get("inference_only", False)),
    )


def _untrained_stress(dataset: str, normalizer: dict[str, float]) -> dict[str, Any]:
    return _task(f"{dataset}_stress", "stress", [dataset], normalizer, inference_only=True)


def _task(
    name: str, prop: str, datasets: list[str], normalizer: dict[str, float], **changes: Any
) -> dict[str, Any]:
    return {
        "name": name,
        "level": "atom" if prop == "forces" else "system",
        "property": prop,
        "out_spec": {"dim": _SHAPES[prop], "dtype": "float32"},
        "normalizer": normalizer,
        "datasets": datasets,
        "loss_fn": None,
        "element_references": None,
        "metrics": [],
        "train_on_free_atoms": True,
        "eval_on_free_atoms": True,
        "inference_only": False,
        **changes,
    }


def _references(config: Any, where: str) -> list[float] | None:
    """Unwrap the table from its ``ElementReferences`` and ``DoubleTensor``."""
    table = config
    if isinstance(table, dict) and last_part(table.get("_target_")) == "ElementReferences":
        table = table.get("element_references")
    if isinstance(table, dict) and last_part(table.get("_target_")) == "DoubleTensor":
        (table,) = table.get("_args_") or [None]
    if table is None:
        return None
    if not isinstance(table, list) or not all(isinstance(e, (int, float)) for e in table):
        raise CheckpointError(
            f"The element references of {where} are not understood",
            expected="ElementReferences of a DoubleTensor",
        )
    return [float(energy) for energy in table]
