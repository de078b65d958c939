"""A service that the tests of a file share."""

from __future__ import annotations

import socket

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


@pytest.fixture
def free_port():
    """Return a port of this machine where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
