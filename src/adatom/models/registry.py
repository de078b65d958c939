"""Which classes a checkpoint or configuration file may name.

A file is data: naming a class must never be able to import or call something else. Only the
classes of the table below, and those that the user allows by name, are ever imported.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeAlias

from adatom.core.errors import ConfigError, UnknownNameError, did_you_mean
from adatom.models.base import Backbone, Configurable, Head
from adatom.models.energy_model import AbstractEnergyModel

#: A class, or its import path such as ``"my_package.models.MyBackbone"``.
Allowed: TypeAlias = str | type[Configurable]

#: Short name -> module of adatom's own backbones and heads (imported on first use).
_OWN = {
    "eSCNMDBackbone": "adatom.models.escn_md",
    "GraphConvModel": "adatom.models.gcn",
    "EGNN": "adatom.models.egnn",
    "DimeNetPlusPlus": "adatom.models.dimenet",
    "EnergyHead": "adatom.models.energy_head",
    "ForceHead": "adatom.models.direct_heads",
    "StressHead": "adatom.models.direct_heads",
    "Heads": "adatom.models.heads",
    "GAANet": "adatom.models.gaanet",
    "DescriptorNetwork": "adatom.models.descriptor_network",
    "GraphNetwork": "adatom.models.graph_network",
    "NetworkEnergies": "adatom.models.graph_network",
}

#: What a file may name.
_MODELS = (Backbone, Head, AbstractEnergyModel)

_allowed_in_context: ContextVar[tuple[Allowed, ...]] = ContextVar("allowed", default=())


@contextmanager
def allow(*classes: Allowed) -> Iterator[None]:
    """Let files name these classes of yours, inside this context.

    Args:
        classes: Subclasses of :class:`Backbone`, :class:`Head` or ``AbstractEnergyModel``, or
            their import paths. An import path imports its module, so allow only code that you
            trust.
    """
    token = _allowed_in_context.set(_allowed_in_context.get() + classes)
    try:
        yield
    finally:
        _allowed_in_context.reset(token)


def registered_classes() -> dict[str, str]:
    """Return short name -> import path of adatom's own backbones and heads."""
    return {name: f"{module}.{name}" for name, module in _OWN.items()}


def class_path_of(module: Configurable) -> str:
    """Return the import path under which :func:`build` finds the class of ``module``."""
    cls = type(module)
    return f"{cls.__module__}.{cls.__qualname__}"


def find_class(class_path: str, *, allow: Collection[Allowed] = ()) -> type[Configurable]:
    """Return the backbone or head class of that name.

    Args:
        class_path: Short name or import path of one of adatom's classes, or of an allowed one.
        allow: Further classes or import paths, beside those of the :func:`allow` context.

    Raises:
        UnknownNameError: If the class is neither adatom's own nor allowed.
        ConfigError: If an allowed import path does not lead to a backbone or head.
    """
    own = registered_classes()
    if class_path in own or class_path in own.values():
        return _import(own.get(class_path, class_path))
    extra = (*allow, *_allowed_in_context.get())
    for candidate in extra:
        if isinstance(candidate, str):
            if candidate == class_path:
                return _import(class_path)
        elif class_path == f"{candidate.__module__}.{candidate.__qualname__}":
            return _require_model(candidate, class_path)
    names = [c if isinstance(c, str) else f"{c.__module__}.{c.__qualname__}" for c in extra]
    known = sorted({*own, *names})
    raise UnknownNameError(
        f"Unknown model class {class_path!r}{did_you_mean(class_path, [*known, *own.values()])}",
        expected=f"one of: {', '.join(known)}",
        fix=f"If it is your own class and you trust it, pass allow=[{class_path!r}].",
    )


def build(class_path: str, init_args: Mapping[str, Any], *, allow: Collection[Allowed] = ()) -> Any:
    """Construct a registered or allowed backbone or head.

    Args:
        class_path: See :func:`find_class`.
        init_args: Constructor arguments by name.
        allow: See :func:`find_class`.

    Raises:
        UnknownNameError: If the class is neither adatom's own nor allowed.
        ConfigError: If an argument is unknown (the nearest one is named) or missing.
    """
    cls = find_class(class_path, allow=allow)
    parameters = list(inspect.signature(cls.__init__).parameters.values())[1:]
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        known = [p.name for p in parameters]
        for name in init_args:
            if name not in known:
                raise ConfigError(
                    f"{cls.__name__} has no argument {name!r}{did_you_mean(name, known)}",
                    expected=f"arguments among: {', '.join(known)}",
                )
    missing = [
        p.name
        for p in parameters
        if p.default is p.empty
        and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
        and p.name not in init_args
    ]
    if missing:
        raise ConfigError(f"{cls.__name__} needs the arguments {', '.join(missing)}")
    # What is allowed here is also allowed for the parts that the class is made of.
    token = _allowed_in_context.set((*_allowed_in_context.get(), *allow))
    try:
        return cls(**init_args)
    finally:
        _allowed_in_context.reset(token)


def _import(class_path: str) -> type[Configurable]:
    module_name, _, name = class_path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"The model class {class_path!r} cannot be imported: {error}",
            fix="Install the package that defines it, or correct the path.",
        ) from error
    return _require_model(found, class_path)


def _require_model(found: object, class_path: str) -> type[Configurable]:
    if not (isinstance(found, type) and issubclass(found, _MODELS)):
        raise ConfigError(
            f"{class_path!r} is not a model class",
            expected="a subclass of Backbone, Head (adatom.models.base) or AbstractEnergyModel "
            "(adatom.models.energy_model)",
        )
    return found
