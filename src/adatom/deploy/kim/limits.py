"""What a portable model holds for beyond its elements: a composition, a number of neighbors."""

from __future__ import annotations

import numpy as np

from adatom.core.errors import OutOfDomainError
from adatom.deploy.kim.configuration import Configuration, Integers
from adatom.deploy.kim.description import ModelDescription


def require_composition(description: ModelDescription, configuration: Configuration) -> None:
    """Refuse another composition than that which the weights are for, if they are for one only.

    Raises:
        OutOfDomainError: If the contributing particles have another one.
    """
    if description.composition is None:
        return
    own = configuration.species[configuration.contributing]
    counts = np.bincount(own, minlength=len(description.species))
    unit = np.array(description.composition)
    same_ratios = bool((counts * unit.sum() == unit * counts.sum()).all())
    if same_ratios and (description.composition_multiples or counts.sum() == unit.sum()):
        return
    multiples = " (any number of formula units)" if description.composition_multiples else ""
    raise OutOfDomainError(
        f"The atoms are {_formula(description, counts)}, and the weights of this model are for "
        f"{_formula(description, unit)}{multiples} only",
        fix="Export the model for this composition.",
    )


def require_few_neighbors(description: ModelDescription, receiver: Integers) -> None:
    """Refuse particles with more neighbors than the network was trained with.

    Args:
        description: Has the limit.
        receiver: ``[E]``; of all edges that the model is given and that matter.

    Raises:
        OutOfDomainError: If one has more.
    """
    limit = description.max_neighbors
    if limit is None or len(receiver) == 0:
        return
    counts = np.bincount(receiver)
    if counts.max() > limit:
        raise OutOfDomainError(
            f"Particle {counts.argmax()} has {counts.max()} neighbors within the cutoff, and the "
            f"network was trained with the nearest {limit} only, which a part of the system cannot "
            "choose as the whole does"
        )


def _formula(description: ModelDescription, counts: Integers) -> str:
    pairs = zip(description.species, counts, strict=True)
    return "".join(f"{symbol}{n if n > 1 else ''}" for symbol, n in pairs if n)
