"""Toy potentials with something wrong: little memory, or numbers that are none."""

from __future__ import annotations

from ase.build import molecule

from adatom.inference.predict_unit import MLIPPredictUnit
from adatom.tasks.potential import Potential
from toy_backbone import ToyBackbone, toy_potential


class ShortOfMemory(ToyBackbone):
    """Refuses batches that are larger than its memory."""

    most = 10**9

    def forward(self, data, edges):
        if len(edges[0].source) > self.most:
            raise MemoryError("DefaultCPUAllocator: can't allocate memory")
        return super().forward(data, edges)


class Poisoned(ToyBackbone):
    """Gives NaN for argon."""

    def forward(self, data, edges):
        features = super().forward(data, edges)
        features.scalars[data.atomic_numbers == 18] = float("nan")
        return features


def unit_with(backbone):
    """Return a unit with the toy's weights in another backbone."""
    toy = toy_potential()
    backbone = backbone.double()
    backbone.load_state_dict(toy.backbone.state_dict())
    settings = {"compile": False, "execution_mode": "general"}
    return MLIPPredictUnit(Potential(backbone, toy.head, toy.tasks, toy.domains), settings)


def short_of_memory(most):
    """Return a unit whose batches have at most so many edges."""
    unit = unit_with(ShortOfMemory())
    unit.predict(molecule("H2O"))
    # The copy that computes; checks of its trustworthiness are over.
    unit.runner.engine._unmerged.backbone.most = most
    return unit
