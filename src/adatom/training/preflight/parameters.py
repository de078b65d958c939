"""How many parameters a potential has, and what the optimizer will do with them."""

from __future__ import annotations

from adatom.nn.experts import MixedLinear
from adatom.tasks.potential import Potential
from adatom.training.optimizer import ParameterGroups

#: Rows of the table.
PARTS = ("backbone", "experts", "heads")


def count_parameters(potential: Potential, groups: ParameterGroups) -> list[dict[str, str | int]]:
    """Count the numbers in the parameters of each part.

    Experts are the weights of mixtures of linear maps; what chooses among them is of the backbone.

    Args:
        potential: What is trained.
        groups: Names of its trainable parameters.

    Returns:
        One row each for backbone, experts and heads, then their sum: ``part``, ``parameters``,
        ``trainable``, ``frozen``, ``decay``, ``no_decay``.
    """
    experts = {
        f"{path}.weights"
        for path, part in potential.named_modules()
        if isinstance(part, MixedLinear) and part.num_experts
    }
    decay, no_decay = set(groups.decay), set(groups.no_decay)
    columns = ("parameters", "trainable", "frozen", "decay", "no_decay")
    counts = {part: dict.fromkeys(columns, 0) for part in (*PARTS, "all")}
    for name, parameter in potential.named_parameters():
        own = "experts" if name in experts else "heads" if name.startswith("head.") else "backbone"
        kinds = ["parameters", "trainable" if parameter.requires_grad else "frozen"]
        kinds += [k for k, names in (("decay", decay), ("no_decay", no_decay)) if name in names]
        for part in (own, "all"):
            for kind in kinds:
                counts[part][kind] += parameter.numel()
    return [{"part": part, **values} for part, values in counts.items()]
