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
from adatom.checkpoint.fairchem_model import model_id, translate_backbone, translate_head
from adatom.checkpoint.fairchem_tasks import translate_domains, translate_tasks
from adatom.checkpoint.omegaconf_records import plain
from adatom.checkpoint.restricted_unpickler import CheckpointRecord, TensorRecord
from adatom.checkpoint.torch_archive import TorchArchive, open_archive
from adatom.checkpoint.upgrades import FORMAT_VERSION
from adatom.core.errors import CheckpointError

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
        backbone = translate_backbone(config, source)
        head = translate_head(config, source)
        tensors = _weights(archive, contents.state["ema_state_dict"], head["prefix"], source)
    description = _describe(config, tasks, backbone, head["init_args"], source)
    description["num_parameters"] = sum(tensor.numel() for tensor in tensors.values())
    return description, tensors


def _describe(
    config: Mapping[str, Any],
    tasks: list[Any],
    backbone: dict[str, Any],
    head: dict[str, Any],
    source: str,
) -> dict[str, Any]:
    automatic = config["backbone"].get("auto_add_default_untrained_tasks", True)
    translated = translate_tasks(tasks, source, add_stress=bool(automatic))
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
        "head": {"class_path": "adatom.models.energy_head.EnergyHead", "init_args": head},
        "tasks": translated,
        "domains": domains,
        "metadata": {
            "name": name or Path(source).stem,
            "origin": "fairchem inference checkpoint",
            "license": "see the terms under which the checkpoint was released",
        },
    }


def _weights(
    archive: TorchArchive, state: Any, head_prefix: str, source: str
) -> dict[str, torch.Tensor]:
    if not isinstance(state, dict):
        raise _foreign(source, "a checkpoint without averaged weights")
    tensors = {}
    for key, record in state.items():
        name = str(key)
        while name.startswith("module."):
            name = name.removeprefix("module.")
        if _DEAD.search(name):
            continue
        if not isinstance(record, TensorRecord):
            raise CheckpointError(f"The weight {name!r} in {source!r} is not a tensor")
        if name.startswith(head_prefix):
            name = f"head.{name.removeprefix(head_prefix)}"
        tensors[name] = archive.tensor(record)
    return tensors


def _foreign(source: str, found: str) -> CheckpointError:
    return CheckpointError(
        f"{source!r} is a torch file, but not an inference checkpoint; it holds {found}",
        expected="an official fairchem inference checkpoint",
        fix="Convert a training checkpoint with the program that wrote it.",
    )
