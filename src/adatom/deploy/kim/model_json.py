"""adatom.json: what a portable model says beyond the published parameter file.

Schema ``adatom-kim``, version 2. All members are always there:

========================= ==========================================================================
``schema``                ``"adatom-kim"``
``version``               2
``name``                  KIM's name of the model
``species``               chemical symbols; the position is the species code
``atomic_numbers``        of the species
``pattern``               ``raw``, ``descriptor`` or ``graph``
``cutoff``                angstrom
``layers``                message-passing layers
``units``                 ``{"length": "angstrom", "energy": "eV"}``
``backend``               ``torchscript`` or ``aotinductor``
``model_file``            name of the network's file
``model_sha256``          of that file
``outputs``               see :class:`adatom.deploy.kim.description.ModelDescription`
``species_input``         ``code`` or ``atomic_number``
``edge_vectors``          whether forward takes edge vectors, too
``descriptor``            kind of descriptor, or null
``dtype``                 of the network
``directed_edges``        whether graph layers hold only edges that their atoms receive
``max_neighbors``         limit above which the model is not right, or null
``composition``           atoms of each species in a formula unit that weights are for, or null
``composition_multiples`` whether any number of formula units is meant
``torch_version``         that wrote the model file
``adatom_version``        that wrote this file
``provenance``            anything about where the weights come from
========================= ==========================================================================
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ase.data import atomic_numbers

from adatom.core.errors import DataError
from adatom.core.files import require_readable
from adatom.deploy.kim.description import ModelDescription

FILE_NAME = "adatom.json"
SCHEMA, VERSION = "adatom-kim", 2
_DESCRIPTION = tuple(ModelDescription.__dataclass_fields__)


def model_json_text(
    description: ModelDescription, model_sha256: str, provenance: Mapping[str, Any]
) -> str:
    """Return the text of adatom.json.

    Raises:
        DataError: If the provenance is not made of plain JSON values.
    """
    import torch

    from adatom import __version__

    record = {
        "schema": SCHEMA,
        "version": VERSION,
        **asdict(description),
        "atomic_numbers": [atomic_numbers[symbol] for symbol in description.species],
        "units": {"length": "angstrom", "energy": "eV"},
        "model_sha256": model_sha256,
        "torch_version": torch.__version__,
        "adatom_version": __version__,
        "provenance": dict(provenance),
    }
    try:
        return json.dumps(record, indent=2, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise DataError(
            f"The provenance of a portable model cannot be written as JSON: {error}",
            expected="texts, finite numbers, lists and dicts",
        ) from error


def read_model_json(folder: str | os.PathLike[str]) -> tuple[ModelDescription, dict[str, Any]]:
    """Read the adatom.json of a portable-model folder.

    Returns:
        The description, and everything that the file says.

    Raises:
        FileAccessError: If the folder has no such file.
        DataError: If it is damaged, of another schema or of a newer version.
        ConfigError: If its values do not go together.
    """
    path = require_readable(Path(folder) / FILE_NAME)
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        found = (record["schema"], record["version"])
        values = {name: record[name] for name in _DESCRIPTION}
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{str(path)!r} is damaged: {error!r}") from error
    if found != (SCHEMA, VERSION):
        raise DataError(
            f"{str(path)!r} has the schema {found[0]} version {found[1]}",
            expected=f"{SCHEMA} version {VERSION}",
        )
    for name in ("species", "outputs", "composition"):
        if values[name] is not None:
            values[name] = tuple(values[name])
    return ModelDescription(**values), record
