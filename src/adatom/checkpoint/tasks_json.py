"""Tasks and domains as JSON values, and back.

Floats keep full float64 precision: Python writes the shortest decimal that reads back to the
same number.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import torch

from adatom.core.errors import CheckpointError, did_you_mean
from adatom.tasks.composition import Composition
from adatom.tasks.domain import Domain
from adatom.tasks.task import Normalizer, OutputSpec, Task

#: Metrics that older checkpoints know by another name.
_RENAMED_METRICS = {"cosine": "cosine_similarity"}


def task_to_json(task: Task) -> dict[str, Any]:
    """Return a task as plain JSON values."""
    references = task.element_references
    return {
        "name": task.name,
        "level": task.level,
        "property": task.property,
        "out_spec": {"dim": list(task.out_spec.dim), "dtype": task.out_spec.dtype},
        "normalizer": {"mean": float(task.normalizer.mean), "rmsd": float(task.normalizer.rmsd)},
        "datasets": list(task.datasets),
        "loss_fn": task.loss_fn,
        "element_references": None if references is None else references.double().tolist(),
        "metrics": list(task.metrics),
        "train_on_free_atoms": task.train_on_free_atoms,
        "eval_on_free_atoms": task.eval_on_free_atoms,
        "inference_only": task.inference_only,
    }


def task_from_json(value: dict[str, Any]) -> Task:
    """Return the task of :func:`task_to_json`.

    Raises:
        CheckpointError: If an entry is missing, unknown or of the wrong type.
    """
    where = f"task {value.get('name')!r}" if isinstance(value, dict) else "a task"
    known = [field.name for field in fields(Task)]
    check_keys(value, known, where)
    if value["level"] not in ("system", "atom"):
        raise CheckpointError(
            f"The level of {where} is {value['level']!r}", expected="'system' or 'atom'"
        )
    check_keys(value["out_spec"], ["dim", "dtype"], f"out_spec of {where}")
    check_keys(value["normalizer"], ["mean", "rmsd"], f"normalizer of {where}")
    references = value["element_references"]
    try:
        return Task(
            **{
                **value,
                "out_spec": OutputSpec(
                    tuple(int(n) for n in value["out_spec"]["dim"]), str(value["out_spec"]["dtype"])
                ),
                "normalizer": Normalizer(
                    float(value["normalizer"]["mean"]), float(value["normalizer"]["rmsd"])
                ),
                "datasets": [str(name) for name in value["datasets"]],
                "metrics": [_RENAMED_METRICS.get(m, m) for m in value["metrics"]],
                "element_references": None
                if references is None
                else torch.tensor([float(e) for e in references], dtype=torch.float64),
            }
        )
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"An entry of {where} is wrong: {error}") from error


def domain_to_json(domain: Domain) -> dict[str, Any]:
    """Return a domain as plain JSON values; ``composition`` is there for merged experts only."""
    value: dict[str, Any] = {
        "elements": list(domain.elements),
        "charges": list(domain.charges),
        "spins": list(domain.spins),
    }
    if domain.composition is not None:
        value["composition"] = {
            "counts": [list(pair) for pair in domain.composition.counts],
            "multiples": domain.composition.multiples,
        }
    return value


def domain_from_json(value: dict[str, Any], dataset: str) -> Domain:
    """Return the domain of :func:`domain_to_json`.

    Raises:
        CheckpointError: If an entry is missing, unknown or not a list of integers.
    """
    names = ["elements", "charges", "spins"]
    merged = isinstance(value, dict) and "composition" in value
    check_keys(value, [*names, *(["composition"] if merged else [])], f"domain of {dataset!r}")
    try:
        composition = _composition_from_json(value["composition"], dataset) if merged else None
        elements, charges, spins = (tuple(int(n) for n in value[name]) for name in names)
        return Domain(elements, charges, spins, composition)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"The domain of {dataset!r} is wrong: {error}") from error


def _composition_from_json(value: dict[str, Any], dataset: str) -> Composition:
    check_keys(value, ["counts", "multiples"], f"composition of {dataset!r}")
    counts = tuple((int(z), int(n)) for z, n in value["counts"])
    if not counts or not all(z > 0 and n > 0 for z, n in counts):
        raise ValueError(f"the composition {value['counts']!r}")
    return Composition(counts, bool(value["multiples"]))


def check_keys(value: object, known: list[str], where: str) -> None:
    """Require a JSON object with exactly the keys ``known``.

    Raises:
        CheckpointError: Otherwise; an unknown key is shown with the nearest valid one.
    """
    if not isinstance(value, dict):
        raise CheckpointError(f"The {where} is {value!r}", expected="a JSON object")
    for name in value:
        if name not in known:
            raise CheckpointError(
                f"The {where} has an unknown entry {name!r}{did_you_mean(str(name), known)}",
                expected=f"entries {', '.join(known)}",
            )
    missing = [name for name in known if name not in value]
    if missing:
        raise CheckpointError(f"The {where} lacks {', '.join(missing)}")
