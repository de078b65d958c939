"""What is trained in a fine-tuning: everything, the heads, chosen layers, or low-rank changes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from types import MappingProxyType

from torch import nn

from adatom.core.errors import ConfigError, UnknownNameError, did_you_mean
from adatom.tasks.potential import Potential
from adatom.training.finetuning.settings import Method

#: Peak learning rates: the fewer weights move, the further each may.
LEARNING_RATES: Mapping[Method, float] = MappingProxyType(
    {"full": 1e-3, "heads": 3e-3, "layers": 1e-3, "lora": 3e-3}
)


def trained_names(
    potential: Potential, method: Method, layers: Sequence[str] | None = None
) -> set[str]:
    """Return the names of the parameters that a method trains; for ``lora``, none.

    Args:
        potential: Its parameters that do not require gradients stay as they are.
        method: See :data:`Method`.
        layers: Patterns for ``layers``, see :func:`matching`.

    Raises:
        ConfigError: If patterns are missing, or given to another method.
        UnknownNameError: If a pattern matches nothing.
    """
    if method == "layers" and not layers:
        raise ConfigError(
            "The method 'layers' has no layers", expected="patterns such as 'backbone.blocks.1.*'"
        )
    if method != "layers" and layers:
        raise ConfigError(f"layers are given for the method {method!r}", expected="method: layers")
    names = [name for name, p in potential.named_parameters() if p.requires_grad]
    if method == "lora":
        return set()
    if method == "heads":
        return {name for name in names if name.startswith("head.")}
    return set(names) if not layers else matching(names, layers)


def matching(names: Iterable[str], patterns: Sequence[str]) -> set[str]:
    """Return the names that any pattern means.

    A pattern is a parameter (``head.energy_block.4.bias``), a module (``backbone.blocks.1``, with
    everything in it), or either with ``*``, ``?`` and ``[...]`` as in file names.

    Raises:
        UnknownNameError: If a pattern matches nothing; the nearest name is given.
    """
    known = list(names)
    found: set[str] = set()
    for pattern in patterns:
        chosen = {n for n in known if fnmatchcase(n, pattern) or fnmatchcase(n, f"{pattern}.*")}
        if not chosen:
            modules = {
                ".".join(n.split(".")[:k]) for n in known for k in range(1, n.count(".") + 2)
            }
            first = sorted({n.split(".")[0] for n in known})
            near = did_you_mean(pattern, sorted({*modules, *known}))
            raise UnknownNameError(
                f"No trained parameter is called {pattern!r}{near}",
                expected=f"a pattern of names that begin with {', '.join(first)}",
            )
        found |= chosen
    return found


def train_only(module: nn.Module, names: set[str]) -> None:
    """Let these parameters require gradients, and freeze all others."""
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name in names)
