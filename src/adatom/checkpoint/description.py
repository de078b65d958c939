"""The description of a potential as plain JSON values, and the potential built from it.

A reader of another program's files translates into this form, so that there is one place where
a description becomes a model.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

import torch

from adatom import __version__
from adatom.checkpoint.tasks_json import (
    check_keys,
    domain_from_json,
    domain_to_json,
    task_from_json,
    task_to_json,
)
from adatom.checkpoint.upgrades import FORMAT_VERSION
from adatom.core.errors import AdatomError, CheckpointError
from adatom.core.precision import default_dtype
from adatom.models.base import Backbone, Configurable, Head
from adatom.models.registry import Allowed, build, class_path_of
from adatom.tasks.potential import Potential

FORMAT_NAME = "adatom-potential"
#: What the numbers in tasks, outputs and labels mean.
UNITS = {
    "length": "angstrom",
    "energy": "eV",
    "forces": "eV/angstrom",
    "stress": "eV/angstrom^3",
    "charge": "e",
}
_KEYS = [
    "format",
    "format_version",
    "adatom_version",
    "units",
    "dtype",
    "cutoff",
    "max_neighbors",
    "elements",
    "num_parameters",
    "backbone",
    "head",
    "tasks",
    "domains",
    "metadata",
]


def describe(potential: Potential) -> dict[str, Any]:
    """Return everything about a potential but its weights.

    Raises:
        CheckpointError: If a constructor argument or metadata value is not plain JSON.
    """
    domains = potential.domains
    description = {
        "format": FORMAT_NAME,
        "format_version": FORMAT_VERSION,
        "adatom_version": __version__,
        "units": UNITS,
        "dtype": str(potential.dtype).removeprefix("torch."),
        "cutoff": float(potential.cutoff),
        "max_neighbors": potential.max_neighbors,
        "elements": sorted({z for domain in domains.values() for z in domain.elements}),
        "num_parameters": sum(p.numel() for p in potential.parameters()),
        "backbone": _describe_module(potential.backbone),
        "head": _describe_module(potential.head),
        "tasks": [task_to_json(task) for task in potential.tasks],
        "domains": {name: domain_to_json(domain) for name, domain in domains.items()},
        "metadata": potential.metadata,
    }
    plain: dict[str, Any] = plain_json(description, "")
    return plain


def assemble(
    description: dict[str, Any],
    source: str,
    *,
    dtype: torch.dtype | None = None,
    allow: Collection[Allowed] = (),
) -> Potential:
    """Build the potential of a description, with fresh weights.

    Constants of the model (such as the centers of the radial basis) are computed in ``dtype``.

    Args:
        description: Of the current format version.
        source: The file's name, for messages.
        dtype: Floating dtype of the weights; None for the one they were stored in.
        allow: Classes of yours that the description may name; see ``models.registry``.

    Raises:
        CheckpointError: If an entry is missing, unknown, or contradicts the model.
    """
    check_keys(description, _KEYS, f"description in {source!r}")
    if description["format"] != FORMAT_NAME or description["units"] != UNITS:
        raise CheckpointError(
            f"{source!r} has the format {description['format']!r} with units "
            f"{description['units']!r}",
            expected=f"{FORMAT_NAME!r} with units {UNITS}",
        )
    dtype = dtype or _dtype_named(description["dtype"], source)
    # Fresh weights are overwritten: the caller's random numbers must not notice.
    with default_dtype(dtype), torch.random.fork_rng(devices=[]):
        backbone = _build_module(description["backbone"], Backbone, source, allow)
        head = _build_module(description["head"], Head, source, allow)
    try:
        potential = Potential(
            backbone,
            head,
            [task_from_json(task) for task in description["tasks"]],
            {name: domain_from_json(d, name) for name, d in description["domains"].items()},
            metadata=description["metadata"],
        )
    except (AdatomError, TypeError, AttributeError) as error:
        raise CheckpointError(f"The description in {source!r} is wrong: {error}") from error
    for name in ("cutoff", "max_neighbors"):
        if getattr(potential, name) != description[name]:
            raise CheckpointError(
                f"{source!r} was saved with {name} = {description[name]}, but its model is built "
                f"with {getattr(potential, name)}",
                fix="Load it with the adatom (or model code) that wrote it.",
            )
    return potential.to(dtype)


def plain_json(value: Any, where: str) -> Any:
    """Return ``value`` as dicts, lists, strings, numbers, booleans and None; tuples become lists.

    Raises:
        CheckpointError: If something is not a JSON value; it is named by its path.
    """
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise CheckpointError(f"The value of {where} is {value}", expected="a finite number")
        return float(value)
    if isinstance(value, (list, tuple)):
        return [plain_json(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise CheckpointError(
                    f"{where or 'The description'} has the key {key!r}", expected="text keys only"
                )
        return {key: plain_json(item, f"{where}.{key}".lstrip(".")) for key, item in value.items()}
    raise CheckpointError(
        f"The value of {where} is of type {type(value).__name__}, which a checkpoint cannot hold",
        expected="plain JSON values (text, numbers, booleans, lists, dicts)",
    )


def _describe_module(module: Configurable) -> dict[str, Any]:
    return {"class_path": class_path_of(module), "init_args": module.init_args}


def _build_module(
    entry: Any, kind: type[Configurable], source: str, allow: Collection[Allowed]
) -> Any:
    name = kind.__name__.lower()
    check_keys(entry, ["class_path", "init_args"], f"{name} in {source!r}")
    try:
        module = build(entry["class_path"], entry["init_args"], allow=allow)
    # Arguments of a wrong type or size can fail in any way anywhere inside the constructor.
    except Exception as error:
        raise CheckpointError(f"The {name} of {source!r} cannot be built. {error}") from error
    if not isinstance(module, kind):
        raise CheckpointError(
            f"The {name} of {source!r} is {entry['class_path']!r}", expected=f"a {name} class"
        )
    return module


def _dtype_named(name: str, source: str) -> torch.dtype:
    dtype = getattr(torch, name, None) if isinstance(name, str) else None
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise CheckpointError(f"{source!r} has the dtype {name!r}", expected="a floating type")
    return dtype
