"""The service under load: 64 clients, malformed structures, little memory, a client that leaves."""

from __future__ import annotations

import pytest
from http_service import serving
from limited_memory import short_of_memory
from load import Clients, is_bad, mixed

from adatom.inference.predict_unit import MLIPPredictUnit
from toy_backbone import toy_potential


def require_all_right(clients, requests):
    """Return the numbers of the service."""
    numbers = [i for i in range(clients * requests) if not is_bad(i)]
    unit = MLIPPredictUnit(toy_potential())
    predicted = unit.iter_predict((mixed(i) for i in numbers), ["energy", "forces"])
    expected = dict(zip(numbers, predicted, strict=True))
    # What holds the largest structure does not hold many.
    edges = [mixed(i).with_edges(4.0).edges.index.shape[1] for i in numbers[:200]]
    limited = short_of_memory(max(edges))
    with serving({"toy": limited}, max_waiting=max(16, clients // 2)) as running:
        found = Clients(running.port, expected).run(clients, requests)
        counters = running.service.counters
        assert found == {"right": len(numbers), "refused": clients * requests - len(numbers)}
        assert counters.total("structures", outcome="OutOfMemoryError") == 0
        return counters


def test_a_little_load():
    require_all_right(clients=12, requests=9)


@pytest.mark.slow
def test_much_load():
    counters = require_all_right(clients=64, requests=200)
    assert counters.total("memory_splits") > 0
    assert counters.total("batches") < 0.5 * counters.total("structures", outcome="ok")
