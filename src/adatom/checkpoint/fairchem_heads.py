"""The heads of an official fairchem checkpoint, as one head of adatom's.

Source: shared/reference/uma.md, section 1.11 (facts about fairchem-core 2.24.0). A head may be
wrapped so that it serves several datasets, with the same weights for all or with one set per
dataset. Several heads become one :class:`adatom.models.heads.Heads`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from adatom.checkpoint.fairchem_model import SHARED, dataset_mapping, last_part, refused
from adatom.core.errors import did_you_mean

_SAME_FOR_ALL = "DatasetSpecificSingleHeadWrapper"
_ONE_PER_DATASET = "DatasetSpecificMoEWrapper"
#: Class -> the property it gives, adatom's class, and how it reduces over atoms by default.
_HEADS = {
    "MLP_EFS_Head": ("energy", "EnergyHead", "sum"),
    "MLP_Energy_Head": ("energy", "EnergyHead", "sum"),
    "Linear_Energy_Head": ("energy", "EnergyHead", "sum"),
    "Linear_Force_Head": ("forces", "ForceHead", None),
    "MLP_Stress_Head": ("stress", "StressHead", "mean"),
}
_MODULES = {
    "EnergyHead": "adatom.models.energy_head",
    "ForceHead": "adatom.models.direct_heads",
    "StressHead": "adatom.models.direct_heads",
}
#: Of wrappers and heads; all that are not read below concern the names of outputs.
_KNOWN = {
    "module",
    "head_cls",
    "head_kwargs",
    "dataset_names",
    "dataset_mapping",
    "wrap_property",
    "prefix",
    "reduce",
}


@dataclass(slots=True)
class TranslatedHeads:
    """The head to build, and where its weights are in the official file.

    Attributes:
        description: Class path and constructor arguments.
        direct: The properties among forces and stress that are predicted directly.
        prefixes: Official beginning of weight names -> ours.
        levels: Official beginning of weight names -> number of weight matrices per layer that
            are used; the file has one per dataset, also where datasets share one.
    """

    description: dict[str, Any]
    direct: set[str]
    prefixes: dict[str, str] = field(default_factory=dict)
    levels: dict[str, int] = field(default_factory=dict)

    def rename(self, name: str, tensor: torch.Tensor) -> tuple[str, torch.Tensor]:
        """Return our name of a weight, and that part of it which is used."""
        for official, ours in self.prefixes.items():
            if name.startswith(official):
                used = self.levels.get(official)
                if used is not None and name.endswith(".weights"):
                    tensor = tensor[:used]
                return ours + name.removeprefix(official), tensor
        return name, tensor


def translate_heads(config: Mapping[str, Any], source: str) -> TranslatedHeads:
    """Translate the heads of ``model_config``.

    Args:
        config: The checkpoint's ``model_config``, as plain values.
        source: The file's name, for messages.

    Raises:
        CheckpointError: If a head has no counterpart, two give the same property, or there is
            none for the energy.
    """
    heads = config.get("heads") or {}
    if not isinstance(heads, dict):
        raise refused(source, f"its heads are {heads!r}", "settings of heads by name")
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    for name, head in heads.items():
        prop = _property(name, head, source)
        if prop in found:
            raise refused(source, f"its heads {found[prop][0]} and {name} both give {prop}")
        found[prop] = (name, head)
    if "energy" not in found:
        raise refused(source, f"it has the heads {', '.join(heads) or '(none)'}", "an energy head")
    _check_gradients(config["backbone"], found, source)
    parts = {}
    out = TranslatedHeads({}, set(found) - {"energy"})
    for prop in ("energy", "forces", "stress"):
        if prop in found:
            ours = "head." if len(found) == 1 else f"head.heads.{prop}."
            parts[prop] = _translate(*found[prop], config["backbone"], ours, out, source)
    out.description = parts["energy"]
    if len(parts) > 1:
        out.description = {
            "class_path": "adatom.models.heads.Heads",
            "init_args": {"heads": parts},
        }
    return out


def _class(head: Mapping[str, Any]) -> str:
    module = last_part(head.get("module"))
    wrapped = module in (_SAME_FOR_ALL, _ONE_PER_DATASET)
    return last_part(head.get("head_cls")) if wrapped else module


def _property(name: str, head: Any, source: str) -> str:
    if not isinstance(head, dict) or not isinstance(head.get("head_kwargs") or {}, dict):
        raise refused(source, f"its head {name!r} is {head!r}", "settings of a head")
    for key in [*head, *(head.get("head_kwargs") or {})]:
        if key not in _KNOWN:
            near = did_you_mean(str(key), _KNOWN)
            raise refused(
                source,
                f"its head {name!r} has the setting {key!r}{near}",
                "settings that adatom knows",
            )
    inner = _class(head)
    if inner not in _HEADS:
        module = last_part(head.get("module"))
        what = module if module == inner else f"{module} of {inner}"
        raise refused(source, f"its head {name!r} is {what}", f"one of {', '.join(_HEADS)}")
    return _HEADS[inner][0]


def _check_gradients(
    backbone: Mapping[str, Any], found: Mapping[str, tuple[str, dict[str, Any]]], source: str
) -> None:
    """Refuse properties that come from a head and also as derivatives of the energy."""
    if _class(found["energy"][1]) != "MLP_EFS_Head" or backbone.get("direct_forces", True):
        return
    derived = {
        "forces": backbone.get("regress_forces", True),
        "stress": backbone.get("regress_stress", False) and not backbone.get("direct_stress"),
    }
    for prop, wanted in derived.items():
        if prop in found and wanted:
            raise refused(
                source,
                f"its {prop} come both from a head and as derivatives of the energy",
                "one of them",
            )


def _translate(
    name: str,
    head: Mapping[str, Any],
    backbone: Mapping[str, Any],
    ours: str,
    out: TranslatedHeads,
    source: str,
) -> dict[str, Any]:
    module, inner = last_part(head.get("module")), _class(head)
    official = f"output_heads.{name}." + ("head." if module != inner else "")
    levels = dataset_mapping(head) if module == _ONE_PER_DATASET else None
    _, class_name, reduction = _HEADS[inner]
    channels = backbone.get("sphere_channels", SHARED["sphere_channels"])
    arguments: dict[str, Any] = {"num_channels": channels}
    if reduction is not None:
        hidden = backbone.get("hidden_channels", SHARED["hidden_channels"])
        arguments["hidden_channels"] = None if inner == "Linear_Energy_Head" else hidden
        arguments["dataset_mapping"] = levels
        arguments["reduce"] = {**head, **(head.get("head_kwargs") or {})}.get("reduce", reduction)
        if arguments["reduce"] not in ("sum", "mean"):
            raise refused(
                source, f"its head {name!r} reduces by {arguments['reduce']!r}", "'sum' or 'mean'"
            )
    if inner == "Linear_Energy_Head":
        official, ours = f"{official}energy_block.", f"{ours}energy_block.0."
    out.prefixes[official] = ours
    if levels is not None:
        out.levels[official] = len(set(levels.values()))
    return {"class_path": f"{_MODULES[class_name]}.{class_name}", "init_args": arguments}
