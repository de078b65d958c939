"""Tiles and the kernel equal automatic differentiation on the contract suite's systems."""

from __future__ import annotations

import pytest
import torch
from test_contract import SUBJECTS

from adatom.data.atomic_data import collate
from adatom.models.base import Execution

NAMES = [name for name in SUBJECTS if name.startswith("escn_md")]


@pytest.mark.parametrize("kept_bytes", [0, 2**28])
@pytest.mark.parametrize("mode", ["tiled", "compiled"])
@pytest.mark.parametrize("name", NAMES)
def test_equals_autograd(name, mode, kept_bytes):
    subject = SUBJECTS[name]
    model = subject.model().requires_grad_(False)
    reason = model.backbone.unavailable(mode)
    if reason is not None:
        pytest.skip(reason)
    structures = subject.structures()
    for data in (*structures, collate([*structures, structures[0]])):
        model.backbone.execution = Execution("general")
        expected = model.evaluate(data)
        model.backbone.execution = Execution(mode, 7, kept_bytes)
        found = model.evaluate(data)
        for what in ("energies", "energy", "forces", "virial"):
            torch.testing.assert_close(
                getattr(found, what), getattr(expected, what), atol=1e-10, rtol=1e-10
            )
