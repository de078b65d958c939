"""Write a potential as an official fairchem inference checkpoint, without that package.

The opposite of ``adatom.checkpoint.fairchem`` for what the tests need: eSCN-MD with an energy head
that all datasets share, or with weights for each. The class of the pickled object only has the
right name.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from adatom.tasks.potential import Potential

_MODULE = "fairchem.core.units.mlip_unit.api.inference"
_UMA = "fairchem.core.models.uma."
_NORMALIZER = "fairchem.core.modules.normalization.normalizer.Normalizer"
_REFERENCES = "fairchem.core.modules.normalization.element_references.ElementReferences"
_NOT_THEIRS = ("dataset_mapping", "expert_coefficient_norm", "composition_mean_counts_zero")


def write_official(potential: Potential, path: Path, *, raw_noise: float = 0.0) -> None:
    """Write ``potential`` to ``path``; the weights that were not averaged differ by noise."""
    weights = {
        name.replace("head.", "output_heads.efs.head.", 1)
        if name.startswith("head.")
        else name: value
        for name, value in potential.state_dict().items()
    }
    content = {
        "model_config": _config(potential),
        "model_state_dict": {k: v + raw_noise * torch.randn_like(v) for k, v in weights.items()},
        "ema_state_dict": {
            **{f"module.{name}": value for name, value in weights.items()},
            "n_averaged": torch.tensor(7),
        },
        "tasks_config": [_task(task) for task in potential.tasks],
    }
    stub = ModuleType(_MODULE)
    kind = type("MLIPInferenceCheckpoint", (), {"__module__": _MODULE})
    stub.MLIPInferenceCheckpoint = kind  # type: ignore[attr-defined]
    instance = kind()
    vars(instance).update(content)
    parts = _MODULE.split(".")
    names = [".".join(parts[: k + 1]) for k in range(len(parts))]
    before = {name: sys.modules.get(name) for name in names}
    # pickle writes a class by its name only if importing that name gives the class.
    sys.modules.update({name: ModuleType(name) for name in names[:-1]} | {_MODULE: stub})
    try:
        torch.save(instance, path)
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def _config(potential: Potential) -> dict[str, Any]:
    arguments = {k: v for k, v in potential.backbone.init_args.items() if k not in _NOT_THEIRS}
    experts = arguments["num_experts"] > 0
    mapping = potential.backbone.init_args["dataset_mapping"]
    if mapping is not None:
        arguments |= {"dataset_mapping": mapping, "dataset_list": sorted(mapping)}
    arguments["use_dataset_embedding"] = arguments["dataset_list"] is not None
    levels = potential.head.init_args["dataset_mapping"]
    wrapper = "DatasetSpecificSingleHeadWrapper" if levels is None else "DatasetSpecificMoEWrapper"
    return {
        "_target_": "fairchem.core.models.base.HydraModel",
        "backbone": {
            **{k: v for k, v in arguments.items() if experts or "composition" not in k},
            "model": _UMA + ("escn_moe.eSCNMDMoeBackbone" if experts else "escn_md.eSCNMDBackbone"),
            "model_version": 1.1,
            "direct_forces": False,
            "regress_forces": True,
            "regress_stress": True,
            "otf_graph": True,
        },
        "heads": {
            "efs": {
                "module": _UMA + f"escn_moe.{wrapper}",
                "head_cls": _UMA + "escn_md.MLP_EFS_Head",
                **({} if levels is None else {"dataset_mapping": levels}),
                "dataset_names": potential.datasets,
                "wrap_property": True,
                "head_kwargs": {"wrap_property": False},
            }
        },
        "pass_through_head_outputs": True,
    }


def _task(task: Any) -> dict[str, Any]:
    made: dict[str, Any] = {
        "_target_": "fairchem.core.units.mlip_unit.mlip_unit.Task",
        "name": task.name,
        "level": task.level,
        "property": task.property,
        "out_spec": {
            "dim": {"stress": [1, 9]}.get(task.property, list(task.out_spec.dim)),
            "dtype": "float32",
        },
        "normalizer": {
            "_target_": _NORMALIZER,
            "mean": task.normalizer.mean,
            "rmsd": task.normalizer.rmsd,
        },
        "datasets": task.datasets,
        "metrics": ["mae"],
    }
    if task.element_references is not None:
        table = task.element_references.tolist()
        inner = {"_target_": "torch.DoubleTensor", "_args_": [table]}
        made["element_references"] = {"_target_": _REFERENCES, "element_references": inner}
    return made
