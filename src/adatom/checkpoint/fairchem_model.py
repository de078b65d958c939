"""The model settings of an official fairchem checkpoint, as settings of adatom's own classes.

Source: shared/reference/uma.md, sections 1.10, 1.11, 1.14, 2.1 and 2.2 (facts about
fairchem-core 2.24.0). Every setting is either translated, known to have no effect on energies and
forces, or refused with the reason: nothing is ignored because it is unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adatom.core.errors import CheckpointError, did_you_mean

_MODEL = "HydraModel"
_BACKBONES = {
    "eSCNMDMoeBackbone": True,
    "escnmd_moe_backbone": True,
    "eSCNMDBackbone": False,
    "escnmd_backbone": False,
}

_DIVIDES_BY_N_PLUS_1 = "UMA-S-1.2"

#: Constructor arguments that both sides share, with the default that an absent one has there.
SHARED: dict[str, Any] = {
    "max_num_elements": 100,
    "sphere_channels": 128,
    "lmax": 2,
    "mmax": 2,
    "max_neighbors": 300,
    "cutoff": 5.0,
    "edge_channels": 128,
    "num_distance_basis": 512,
    "num_layers": 2,
    "hidden_channels": 128,
    "norm_type": "rms_norm_sh",
    "act_type": "gate",
    "ff_type": "grid",
    "grid_resolution": None,
    "chg_spin_emb_type": "pos_emb",
    "use_dataset_embedding": True,
    "charge_balanced_channels": None,
    "spin_balanced_channels": None,
}

#: Values that are required, because adatom has nothing for another one.
_REQUIRED: dict[str, Any] = {
    "distance_function": "gaussian",
    "use_global_embedding": False,
    "moe_type": "so2",
    "moe_single": False,
    "layers_moe": None,
}

#: Settings of training, speed or bookkeeping; energies and forces do not depend on them.
_NO_EFFECT = {
    "activation_checkpointing",
    "activation_checkpoint_chunk_size",
    "always_use_pbc",
    "composition_dropout",
    "cs_emb_grad",
    "dataset_emb_grad",
    "edge_chunk_size",
    "execution_mode",
    "hessian_vmap",
    "mole_dropout",
    "moe_dropout",
    "moe_layer_type",
    "model_version",
    "num_sphere_samples",
    "otf_graph",
    "radius_pbc_version",
    "regress_config",
    "regress_forces",
    "regress_hessian",
    "regress_stress",
    "use_cuda_graph_wigner",
    "use_pbc",
    "use_pbc_single",
    "use_quaternion_wigner",
}
#: Read by name below.
_SPECIAL = {
    "model",
    "num_experts",
    "use_composition_embedding",
    "moe_expert_coefficient_norm",
    "direct_forces",
    "direct_stress",
    "dataset_list",
    "dataset_mapping",
    "model_id",
    "auto_add_default_untrained_tasks",
}


def last_part(target: object) -> str:
    """Return the class name of a dotted path."""
    return str(target).rpartition(".")[2]


def model_id(config: Mapping[str, Any], source: str) -> str | None:
    """Return the released model's name, which decides about one exception in the router.

    Raises:
        CheckpointError: If a model with experts says neither its name nor version 1.1 (the
            deprecated UMA 1.0 computes something else).
    """
    backbone = config["backbone"]
    name = config.get("model_id") or backbone.get("model_id")
    if isinstance(name, str) and name.strip():
        return name
    if not _BACKBONES[last_part(backbone["model"])] or not backbone.get("num_experts", 8):
        return None
    if str(backbone.get("model_version")) == "1.1":
        return "UMA-1.1"
    raise CheckpointError(
        f"{source!r} has experts, but neither a model_id nor model_version 1.1, so it is "
        "probably the deprecated UMA 1.0",
        fix="Use a newer release of UMA.",
    )


def translate_backbone(config: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Return the arguments of :class:`adatom.models.escn_md.eSCNMDBackbone`.

    Args:
        config: The checkpoint's ``model_config``, as plain values.
        source: The file's name, for messages.

    Raises:
        CheckpointError: If a class or setting has no counterpart.
    """
    backbone = config.get("backbone")
    if last_part(config.get("_target_")) != _MODEL or not isinstance(backbone, dict):
        raise refused(source, f"its model is {config.get('_target_')!r}", f"a {_MODEL}")
    name = last_part(backbone.get("model"))
    if name not in _BACKBONES:
        known = ", ".join(sorted(_BACKBONES))
        raise refused(source, f"its backbone is {backbone.get('model')!r}", f"one of {known}")
    _check_settings(backbone, source)
    arguments = {key: backbone.get(key, default) for key, default in SHARED.items()}
    arguments["dataset_mapping"] = dataset_mapping(backbone)
    for kind in ("charge", "spin"):
        channels = arguments[f"{kind}_balanced_channels"]
        arguments[f"{kind}_balanced_channels"] = sorted(channels) if channels else None
    arguments["num_experts"] = 0
    if _BACKBONES[name]:
        arguments["num_experts"] = backbone.get("num_experts", 8)
        arguments["use_composition_embedding"] = backbone.get("use_composition_embedding", False)
        norm = backbone.get("moe_expert_coefficient_norm", "softmax")
        arguments["expert_coefficient_norm"] = norm
        # This one release divides the sum over n atoms by n + 1 in its router.
        arguments["composition_mean_counts_zero"] = model_id(config, source) == _DIVIDES_BY_N_PLUS_1
    return arguments


def dataset_mapping(settings: Mapping[str, Any]) -> dict[str, str] | None:
    """Return dataset name -> name of its embedding or expert, or None where none are listed."""
    mapping = settings.get("dataset_mapping")
    if isinstance(mapping, dict) and mapping:
        return {str(name): str(target) for name, target in mapping.items()}
    names = settings.get("dataset_list") or settings.get("dataset_names")
    return {str(name): str(name) for name in names} if names else None


def _check_settings(backbone: Mapping[str, Any], source: str) -> None:
    known = {*SHARED, *_REQUIRED, *_NO_EFFECT, *_SPECIAL}
    for key, value in backbone.items():
        if key not in known:
            raise refused(
                source,
                f"its backbone has the setting {key} = {value!r}{did_you_mean(key, known)}",
                "settings that adatom knows",
            )
        if key in _REQUIRED and value != _REQUIRED[key]:
            raise refused(source, f"its backbone has {key} = {value!r}", f"{_REQUIRED[key]!r}")


def refused(source: str, reason: str, expected: str | None = None) -> CheckpointError:
    """Return the error for a checkpoint that has no counterpart here."""
    return CheckpointError(f"{source!r} cannot be represented: {reason}", expected=expected)
