"""Descriptors from plain settings."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from adatom.core.errors import ConfigError, did_you_mean, unknown_name
from adatom.nn.descriptors.base import Descriptor

#: Kind -> module; the class has the same name.
KINDS: Mapping[str, str] = MappingProxyType(
    {
        "SymmetryFunctions": "adatom.nn.descriptors.symmetry_functions",
        "Bispectrum": "adatom.nn.descriptors.bispectrum",
        "SOAP": "adatom.nn.descriptors.soap",
    }
)


def build_descriptor(settings: Mapping[str, Any]) -> Descriptor:
    """Construct a descriptor.

    Args:
        settings: ``kind``, one of :data:`KINDS`, and the arguments of that class.

    Raises:
        ConfigError: If there is no kind, or an argument is unknown, missing or wrong.
        UnknownNameError: If the kind is unknown.
    """
    kind = settings.get("kind")
    if kind is None:
        raise ConfigError("The descriptor has no kind", expected=f"kind: {' or '.join(KINDS)}")
    if kind not in KINDS:
        raise unknown_name("kind of descriptor", str(kind), KINDS)
    cls = getattr(importlib.import_module(KINDS[kind]), kind)
    arguments = {name: value for name, value in settings.items() if name != "kind"}
    known = list(inspect.signature(cls).parameters.values())
    for name in arguments:
        if name not in [parameter.name for parameter in known]:
            choices = [parameter.name for parameter in known]
            raise ConfigError(
                f"{kind} has no argument {name!r}{did_you_mean(name, choices)}",
                expected=f"arguments among: {', '.join(choices)}",
            )
    missing = [p.name for p in known if p.default is p.empty and p.name not in arguments]
    if missing:
        raise ConfigError(f"{kind} needs the arguments {', '.join(missing)}")
    descriptor: Descriptor = cls(**arguments)
    return descriptor
