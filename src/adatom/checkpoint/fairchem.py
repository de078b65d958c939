"""Read official fairchem inference checkpoints (UMA, eSEN) without executing them.

Layout: shared/reference/uma.md, section 2. The file's classes are read as records, its settings
are translated to adatom's own classes, and its averaged (EMA) weights are taken, which are those
that inference is meant to use.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from adatom import __version__
from adatom.checkpoint.description import FORMAT_NAME, UNITS
from adatom.checkpoint.fairchem_heads import TranslatedHeads, translate_heads
from adatom.checkpoint.fairchem_model import model_id, refused, translate_backbone
from adatom.checkpoint.fairchem_tasks import translate_domains, translate_tasks
from adatom.checkpoint.omegaconf_records import plain
from adatom.checkpoint.restricted_unpickler import CheckpointRecord, TensorRecord
from adatom.checkpoint.torch_archive import TorchArchive, open_archive
from adatom.checkpoint.upgrades import FORMAT_VERSION
from adatom.core.errors import AdatomError, CheckpointError

_ENTRIES = {"model_config", "ema_state_dict", "tasks_config"}
#: Not weights: tables that are computed anew, and leftovers of older releases.
_DEAD = re.compile(r"(^|\.)(n_averaged|Jd_\d+|expand_index|offset|balance_degree_weight)$")


def read_fairchem(
    path: Path, *, verify: bool = True
) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Read an official inference checkpoint.

    Args:
        path: The ``.pt`` file.
        verify: Compare the weights with their checksums; else they are not read before use.

    Returns:
        The description (see :mod:`adatom.checkpoint.description`), and the averaged weights by
        the names that the described potential gives them, float32 as stored.

    Raises:
        CheckpointError: If the file is damaged, asks for code to be run, or describes something
            that adatom cannot represent; the reason is named.
    """
    source = str(path)
    with open_archive(path, verify=verify) as archive:
        contents = archive.contents()
        if not isinstance(contents, CheckpointRecord) or not isinstance(contents.state, dict):
            raise _foreign(source, type(contents).__name__)
        missing = sorted(_ENTRIES - set(contents.state))
        if missing:
            raise _foreign(source, f"a checkpoint without {', '.join(missing)}")
        config = plain(contents.state["model_config"], "model_config")
        tasks = plain(contents.state["tasks_config"], "tasks_config")
        if not isinstance(config, dict) or not isinstance(tasks, list):
            raise _foreign(source, "a checkpoint with settings of another form")
        description, tensors = _translate(archive, contents.state, config, tasks, source)
    description["num_parameters"] = sum(tensor.numel() for tensor in tensors.values())
    return description, tensors


def _translate(
    archive: TorchArchive,
    state: Mapping[str, Any],
    config: dict[str, Any],
    tasks: list[Any],
    source: str,
) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    try:
        backbone = translate_backbone(config, source)
        heads = translate_heads(config, source)
        unused = _unused_embeddings(backbone)
        tensors = _weights(archive, state["ema_state_dict"], heads, unused, source)
        return _describe(config, tasks, backbone, heads, source), tensors
    except AdatomError:
        raise
    # Settings of a wrong type can fail anywhere.
    except (AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
        raise CheckpointError(
            f"{source!r} has settings of an unexpected form ({type(error).__name__}: {error})",
            expected="an official fairchem inference checkpoint",
        ) from error


def _describe(
    config: Mapping[str, Any],
    tasks: list[Any],
    backbone: dict[str, Any],
    heads: TranslatedHeads,
    source: str,
) -> dict[str, Any]:
    direct = config["backbone"].get("direct_forces", True)
    automatic = config["backbone"].get("auto_add_default_untrained_tasks", True) and not direct
    translated = translate_tasks(tasks, source, add_stress=bool(automatic))
    for task in translated:
        prop = task["property"]
        if direct and prop != "energy" and prop not in heads.direct:
            raise refused(
                source, f"its task {task['name']!r} needs {prop}, but no head gives these directly"
            )
    domains = translate_domains(translated, backbone["max_num_elements"])
    name = model_id(config, source)
    return {
        "format": FORMAT_NAME,
        "format_version": FORMAT_VERSION,
        "adatom_version": __version__,
        "units": UNITS,
        "dtype": "float32",
        "cutoff": float(backbone["cutoff"]),
        "max_neighbors": backbone["max_neighbors"],
        "elements": sorted({z for domain in domains.values() for z in domain["elements"]}),
        "backbone": {
            "class_path": "adatom.models.escn_md.eSCNMDBackbone",
            "init_args": backbone,
        },
        "head": heads.description,
        "tasks": translated,
        "domains": domains,
        "metadata": {
            "name": name or Path(source).stem,
            "origin": "fairchem inference checkpoint",
            "license": "see the terms under which the checkpoint was released",
            "supports_single_atoms": bool(config.get("supports_single_atoms", False)),
        },
    }


def _weights(
    archive: TorchArchive,
    state: Any,
    heads: TranslatedHeads,
    unused: set[str],
    source: str,
) -> dict[str, torch.Tensor]:
    if not isinstance(state, dict):
        raise _foreign(source, "a checkpoint without averaged weights")
    tensors = {}
    for key, record in state.items():
        name = str(key)
        while name.startswith("module."):
            name = name.removeprefix("module.")
        if _DEAD.search(name) or name in unused:
            continue
        if not isinstance(record, TensorRecord):
            raise CheckpointError(f"The weight {name!r} in {source!r} is not a tensor")
        name, tensor = heads.rename(name, archive.tensor(record))
        tensors[name] = tensor
    return tensors


def _unused_embeddings(backbone: Mapping[str, Any]) -> set[str]:
    """Return the weights of datasets that use the embedding of another one."""
    mapping = backbone["dataset_mapping"] or {}
    unused = set(mapping) - set(mapping.values())
    return {f"backbone.dataset_embedding.dataset_emb_dict.{name}.weight" for name in unused}


def _foreign(source: str, found: str) -> CheckpointError:
    return CheckpointError(
        f"{source!r} is a torch file, but not an inference checkpoint; it holds {found}",
        expected="an official fairchem inference checkpoint",
        fix="Convert a training checkpoint with the program that wrote it.",
    )
