"""The service over real HTTP, in a thread of this process."""

from __future__ import annotations

import http.client
import json
import math
import socket
import time

import numpy as np
import pytest
from ase.build import bulk, molecule
from http_service import serving
from test_batcher import Gate

from adatom.data.ase_convert import from_ase
from adatom.inference.predict_unit import MLIPPredictUnit
from adatom.inference.serving.counters import Counters, merged
from adatom.inference.serving.limits import Limits
from toy_backbone import toy_potential

WATER = {"numbers": [8, 1, 1], "positions": [[0, 0, 0.1], [0, 0.8, -0.5], [0, -0.8, -0.5]]}
TOKEN = "a-token-of-some-length"


def crystal():
    atoms = bulk("Cu", a=3.7) * 2
    atoms.rattle(0.05, seed=3)
    return atoms, {
        "numbers": atoms.numbers.tolist(),
        "positions": atoms.positions.tolist(),
        "cell": atoms.cell.tolist(),
        "pbc": True,
    }


def test_numbers_are_those_of_the_local_unit_to_the_last_bit(running, toy_unit):
    atoms, given = crystal()
    found = running.predict(given, properties=["energy", "forces", "stress", "virials"])[0]
    expected = toy_unit.predict(atoms, ["energy", "forces", "stress", "virials"])
    assert found["energy"] == float(expected["energy"])
    for name in ("forces", "virials"):
        assert np.array_equal(found[name], expected[name].numpy())
    assert np.array_equal(found["stress"], expected["stress"][0].numpy())


def test_defaults_and_what_is_absent(running):
    found = running.predict(WATER | {"id": "water"})[0]
    assert set(found) == {"id", "energy", "forces", "energies", "absent"}
    assert found["id"] == "water"
    assert found["absent"] == {"stress": "it has no cell, hence no volume"}


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"positions": [[0, 0, 0]]}, "DataError", "array of shape (1, 3). Expected 3 x 3 numbers"),
        ({"positions": "abc"}, "DataError", "not numbers. Expected 3 x 3 numbers"),
        ({"positions": [[0, 0], [1, 1, 1], [2]]}, "DataError", "Expected 3 x 3 numbers"),
        ({"positions": [[0, 0, True]] * 3}, "DataError", "Expected 3 x 3 numbers"),
        ({"positions": [[0, 0, None]] * 3}, "DataError", "Expected 3 x 3 numbers"),
        ({"positions": [[0, 0, 0]] * 3}, "DataError", "atoms 0 and 1 at 0.000 angstrom"),
        ({"positions": [[0, 0, 0], [0, 0, 1], [0, 1e300, 0]]}, "DataError", "beyond 1e+07"),
        ({"cell": [[1e300, 0, 0], [0, 9, 0], [0, 0, 9]], "pbc": True}, "DataError", "beyond 1e+07"),
        ({"cell": [[9, 0, 0], [0, 9, 0], [0, 9, 1e-7]], "pbc": True}, "DataError", "repeats after"),
        ({"numbers": [8, 1, 0]}, "DataError", "are not those of elements"),
        ({"numbers": [8, 1, 1.5]}, "DataError", "Expected N whole numbers"),
        ({"numbers": [], "positions": []}, "DataError", "are not those of elements"),
        ({"numbers": [8, 1, 92]}, "OutOfDomainError", "has U, which this potential never saw"),
        ({"charge": 7}, "OutOfDomainError", "has charge 7"),
        ({"charge": 0.5}, "DataError", "The 'charge' of structures[1] is 0.5"),
        ({"charge": 10**6}, "DataError", "has charge = 1e+06"),
        ({"spin": True}, "DataError", "The 'spin' of structures[1] is True"),
        ({"task": "omat"}, "UnknownNameError", "Unknown task 'omat'"),
        ({"pbc": True}, "DataError", "is periodic and has no 'cell'"),
        ({"cell": [[9, 0, 0], [0, 9, 0], [0, 0, 9]]}, "DataError", "'pbc' does not say in which"),
        ({"cell": [[9, 0, 0], [9, 0, 0], [0, 0, 9]], "pbc": True}, "DataError", "no volume"),
        ({"position": []}, "UnknownNameError", "did you mean 'positions'"),
        ({"id": 3}, "DataError", "The 'id' of structures[1] is a JSON number"),
    ],
)
def test_a_bad_structure_has_its_own_error(running, change, kind, message):
    before, bad, after = running.predict(WATER, WATER | change, WATER)
    assert bad["error"]["type"] == kind
    assert message in bad["error"]["message"]
    assert before["energy"] == after["energy"]


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"{", 400, "The request is not JSON"),
        (b'{"structures": [{"numbers": [1], "positions": [[NaN, 0, 0]]}]}', 400, "not JSON"),
        (b'{"structures": [{"numbers": [1], "positions": [[1e999, 0, 0]]}]}', 400, "infinity"),
        (b"[]", 400, "The request is a JSON list"),
        (b"{}", 400, "The request has no 'structures'"),
        ({"structures": [WATER], "property": []}, 400, "did you mean 'properties'"),
        ({"structures": [WATER], "properties": ["force"]}, 400, "did you mean 'forces'"),
        ({"structures": [WATER], "properties": []}, 400, "No property was asked for"),
        ({"structures": [WATER], "properties": "energy"}, 400, "is not a list of names"),
        ({"structures": [WATER], "model": "toi"}, 404, "did you mean 'toy'"),
        ({"structures": [WATER], "model": 3}, 400, "'model' is a JSON number"),
        ({"structures": [WATER], "version": "0"}, 409, "The model 'toy' was replaced"),
        ({"structures": [WATER] * 257}, 413, "The request has 257 structures"),
    ],
)
def test_a_bad_request_is_refused_as_a_whole(running, body, status, message):
    found, _, answer = running.ask("POST", "/v1/predict", body)
    assert found == status
    assert message in answer["error"]["message"]


def test_only_json_is_read(running):
    # So that a page in a browser cannot send anything without being allowed to.
    headers = {"Content-Type": "text/plain"}
    assert running.ask("POST", "/v1/predict", {"structures": [WATER]}, **headers)[0] == 415


def test_limits(toy_unit):
    limits = Limits(max_atoms=5, max_body_mb=0.001, max_hessian_atoms=2, max_edges=5e3)
    with serving({"toy": toy_unit}, limits=limits) as running:
        methane = {"numbers": [1] * 6, "positions": [[i, 0, 0] for i in range(6)]}
        assert "has 6 atoms. Expected at most 5" in running.predict(methane)[0]["error"]["message"]
        found = running.predict(WATER, properties=["hessian"])[0]
        assert "a Hessian is asked for" in found["error"]["message"]
        tiny = [[0.3, 0, 0], [0, 0.3, 0], [0, 0, 0.3]]
        dense = {"numbers": [29], "positions": [[0, 0, 0]], "cell": tiny, "pbc": True}
        assert running.predict(dense | {"cell": (np.array(tiny) * 9).tolist()})[0]["energy"]
        assert "pairs of atoms within" in running.predict(dense)[0]["error"]["message"]
        body = json.dumps({"structures": [WATER] * 20}).encode()
        status, _, answer = running.ask("POST", "/v1/predict", body)
        assert status == 413
        assert "larger than 0.001 MB" in answer["error"]["message"]
        # The same without a length that could be believed.
        connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=20)
        headers = {"Content-Type": "application/json"}
        connection.request("POST", "/v1/predict", iter([body]), headers, encode_chunked=True)
        assert connection.getresponse().status == 413
        connection.close()


def test_the_token_is_needed(toy_unit):
    with serving({"toy": toy_unit}, token=TOKEN) as running:
        assert running.ask("GET", "/health")[0] == 200
        right = {"Authorization": f"Bearer {TOKEN}"}
        for path in ("/v1/models", "/metrics", "/openapi.json"):
            assert running.ask("GET", path)[0] == 401
            assert running.ask("GET", path, **right)[0] == 200
        body = {"structures": [WATER]}
        for wrong in ({}, {"Authorization": f"Bearer {TOKEN}x"}, {"Authorization": TOKEN}):
            status, headers, answer = running.ask("POST", "/v1/predict", body, **wrong)
            assert (status, headers["WWW-Authenticate"]) == (401, "Bearer")
            assert "token is missing or wrong" in answer["error"]["message"]
        assert running.ask("POST", "/v1/predict", body, **right)[0] == 200


def test_several_models(toy_unit):
    other = MLIPPredictUnit(toy_potential(["a", "b"], seed=1))
    with serving({"one": toy_unit, "two": other}) as running:
        told = {model["name"]: model for model in running.ask("GET", "/v1/models")[2]["models"]}
        assert set(told) == {"one", "two"}
        assert list(told["two"]["tasks"]) == ["a", "b"]
        assert told["one"]["version"] != told["two"]["version"]
        status, _, answer = running.ask("POST", "/v1/predict", {"structures": [WATER]})
        assert (status, "'model' among: one, two" in answer["error"]["message"]) == (400, True)
        unnamed, named = running.predict(WATER, WATER | {"task": "b"}, model="two")
        assert "has no 'task', and this model has several" in unnamed["error"]["message"]
        system = from_ase(molecule_of(WATER), dataset="b")
        assert named["energy"] == float(other.predict(system)["energy"])


def molecule_of(given):
    from ase import Atoms

    return Atoms(given["numbers"], given["positions"])


def wait_until(condition):
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.005)


def test_full_is_503_and_a_client_that_goes_away_frees_its_place(monkeypatch):
    unit = MLIPPredictUnit(toy_potential())
    unit.predict(molecule("H2O"))
    gate = Gate(unit, monkeypatch)
    with serving({"toy": unit}, max_waiting=2) as running:
        counters = running.service.counters
        body = json.dumps({"structures": [WATER]}).encode()
        head = (
            "POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        ).encode()
        clients = []
        for i in range(3):
            clients.append(socket.create_connection(("127.0.0.1", running.port), timeout=20))
            clients[-1].sendall(head + body)
            if i == 0:
                assert gate.reached.wait(20)
        batcher = running.service.models.get("toy").batcher
        wait_until(lambda: batcher.waiting == 2)
        status, headers, answer = running.ask("POST", "/v1/predict", {"structures": [WATER]})
        assert status == 503
        assert 1 <= int(headers["Retry-After"]) <= 60
        assert "2 structures are waiting, of 2 at most" in answer["error"]["message"]
        clients[1].close()
        wait_until(lambda: counters.total("disconnected") == 1)
        gate.opened.set()
        for client in (clients[0], clients[2]):
            assert client.recv(100).startswith(b"HTTP/1.1 200")
            client.close()
        assert counters.total("rejected") == 1
        wait_until(lambda: counters.total("cancelled") == 1)
        assert counters.total("structures", outcome="ok") == 2


def test_a_service_that_ends_refuses_what_is_new(toy_unit):
    with serving({"toy": toy_unit}) as running:
        running.service.intake.draining = True
        assert running.ask("GET", "/health")[0] == 503
        status, headers, _ = running.ask("POST", "/v1/predict", {"structures": [WATER]})
        assert (status, headers["Retry-After"]) == (503, "5")


def test_metrics_are_prometheus_text(running):
    running.predict(WATER, WATER | {"numbers": [8, 1, 92]})
    text = running.ask("GET", "/metrics")[2].decode()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    values = {}
    for line in lines:
        name, _, value = line.rpartition(" ")
        assert math.isfinite(float(value))
        values[name] = float(value)
    assert values['adatom_structures_total{model="toy",outcome="ok"}'] >= 1
    assert values['adatom_structures_total{model="toy",outcome="OutOfDomainError"}'] >= 1
    assert values['adatom_http_requests_total{route="/v1/predict",status="200"}'] >= 1
    assert values['adatom_waiting_structures{model="toy"}'] == 0
    buckets = [v for name, v in values.items() if name.startswith("adatom_latency_seconds_bucket")]
    assert buckets == sorted(buckets)
    assert buckets[-1] == values['adatom_latency_seconds_count{model="toy"}']


def test_numbers_of_several_replicas_are_one_text():
    texts = []
    for name in ("a", "b"):
        counters = Counters()
        counters.add("batches", 2)
        counters.observe(0.01)
        texts.append(counters.text(replica=name))
    lines = merged(texts).splitlines()
    assert len([line for line in lines if line.startswith("# TYPE adatom_batches_total")]) == 1
    at = lines.index("# TYPE adatom_batches_total counter")
    rows = ['adatom_batches_total{replica="a"} 2', 'adatom_batches_total{replica="b"} 2']
    assert lines[at + 1 : at + 3] == rows
    assert merged(texts[:1]) == texts[0]


def test_a_defect_is_told_without_its_details(running, toy_unit, monkeypatch, caplog):
    def defect(batch, names):
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(toy_unit.runner, "run", defect)
    error = running.predict(WATER)[0]["error"]
    assert error["type"] == "ServiceError"
    assert "secret" not in str(error)
    assert "secret" in caplog.text
