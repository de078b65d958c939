"""A composition is what merged weights hold for."""

from __future__ import annotations

import pytest
import torch

from adatom.core.errors import DataError, OutOfDomainError
from adatom.tasks.composition import Composition
from adatom.tasks.domain import Domain

WATER = Composition.of([8, 1, 1])


def test_order_and_size_of_a_system_do_not_matter():
    assert Composition.of([1, 8, 1] * 5) == WATER
    assert WATER.matches([1, 1, 1, 1, 8, 8])
    assert not WATER.matches([1, 8])
    assert not WATER.matches([1, 1, 8, 8])
    assert str(WATER) == "H2O"
    assert str(Composition.of([6, 1, 1, 1, 1, 8])) == "CH4O"


def test_without_multiples_the_size_matters():
    two = Composition.of([8, 1, 1, 8, 1, 1], multiples=False)
    assert str(two) == "H4O2"
    assert not two.matches([8, 1, 1])
    assert two.matches([1, 1, 1, 1, 8, 8])


def test_nothing_has_no_composition():
    with pytest.raises(DataError, match="without atoms"):
        Composition.of([])


@pytest.mark.parametrize(
    ("numbers", "charge", "spin", "found"),
    [
        ([1, 1], 0, 1, "is H with charge 0 and spin 1"),
        ([1, 1, 8, 6], 0, 1, "is CH2O with"),
        ([1, 1, 8], 1, 1, "charge 1"),
        ([1, 1, 8], 0, 3, "spin 3"),
    ],
)
def test_a_merged_domain_refuses_everything_else(numbers, charge, spin, found):
    domain = Domain((1, 8), (0,), (1,), WATER)
    domain.check(torch.tensor([8, 1, 1, 8, 1, 1]), 0, 1, "fine")
    with pytest.raises(OutOfDomainError, match="merged for H2O with charge 0 and spin 1") as caught:
        domain.check(torch.tensor(numbers), charge, spin, "x")
    assert found in str(caught.value)
