"""A service that the tests of a file share."""

from __future__ import annotations

import pytest
from http_service import serving

from adatom.inference.predict_unit import MLIPPredictUnit
from toy_backbone import toy_potential


@pytest.fixture(scope="session")
def toy_unit():
    return MLIPPredictUnit(toy_potential())


@pytest.fixture(scope="module")
def running(toy_unit):
    with serving({"toy": toy_unit}) as found:
        yield found
