"""Many clients at once, some of whom misbehave."""

from __future__ import annotations

import json
import random
import socket
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat

import numpy as np
from ase.build import bulk, molecule

from adatom.core.errors import AdatomError
from adatom.data.ase_convert import from_ase
from adatom.inference.prediction import Prediction
from adatom.inference.serving.client import ServiceClient
from adatom.inference.serving.wire import encode, structure_json

MOLECULES = ("H2O", "CO2", "CH4", "C2H6", "C6H6", "SiH4", "CH3OH", "C60")


def mixed(number):
    """Return a valid structure of 3 to 500 atoms, small ones more often."""
    draw = random.Random(number)
    if draw.random() < 0.7:
        atoms = molecule(draw.choice(MOLECULES))
    elif draw.random() < 0.9:
        atoms = bulk("Cu", a=3.7) * (draw.randint(3, 5), draw.randint(1, 4), 1)
    else:
        # A gas, up to 500 atoms.
        atoms = molecule("CH4")
        atoms.set_cell([6.0, 6.0, 6.0])
        atoms *= draw.choice(((3, 3, 3), (5, 5, 2), (5, 5, 4)))
        atoms.set_cell(None)
    atoms.rattle(0.05, seed=number)
    return from_ase(atoms, dataset="default", sid=f"s{number}")


def malformed(number):
    """Return a structure as JSON that is wrong in one of several ways, and its error's class."""
    given = structure_json(mixed(number))
    given["positions"] = given["positions"].tolist()
    kinds = [
        ({"numbers": [92] * len(given["numbers"])}, "OutOfDomainError"),
        ({"positions": given["positions"][:-1]}, "DataError"),
        ({"positions": [given["positions"][0]] * len(given["numbers"])}, "DataError"),
        ({"charge": 55}, "OutOfDomainError"),
        ({"task": "nowhere"}, "UnknownNameError"),
    ]
    change, error = kinds[number % len(kinds)]
    return given | change, error


def is_bad(number):
    """Tell which requests are malformed: 2%."""
    return number % 50 == 17


class Clients:
    """Sends numbered requests and judges the answers.

    Args:
        port: Of the service on this machine.
        expected: Predictions by number.
    """

    def __init__(self, port, expected):
        self.port = port
        self.expected = expected
        self.client = ServiceClient(f"http://127.0.0.1:{port}", patience=300)
        self.model = self.client.model()
        self.found = Counter()

    def run(self, clients, requests):
        """Send all requests; return how often each outcome came."""
        with ThreadPoolExecutor(clients + 1) as pool:
            leaver = pool.submit(self._leave, clients)
            for outcomes in pool.map(self._client, range(clients), repeat(requests)):
                self.found += outcomes
            leaver.result()
        return self.found

    def _client(self, who, requests):
        found = Counter()
        for i in range(requests):
            number = who * requests + i
            if is_bad(number):
                given, kind = malformed(number)
                body = encode({"structures": [given]})
                answer = self.client._ask("POST", "/v1/predict", body)["results"][0]
                right = answer.get("error", {}).get("type") == kind
                found["refused" if right else f"wrong: {answer}"] += 1
            else:
                names = ("energy", "forces")
                outcome = self.client.predict([mixed(number)], names, self.model)[0]
                found[self._judge(number, outcome)] += 1
        return found

    def _judge(self, number, outcome):
        if isinstance(outcome, AdatomError):
            return f"failed: {outcome}"
        expected: Prediction = self.expected[number]
        same = all(
            np.allclose(outcome[name], expected[name], rtol=0, atol=1e-9)
            for name in ("energy", "forces")
        )
        return "right" if same else f"wrong numbers: {number}"

    def _leave(self, times):
        """Send requests and go away before the answer."""
        body = json.dumps(
            {"structures": [{"numbers": [1, 1], "positions": [[0, 0, 0], [0, 0, 1]]}]}
        )
        head = (
            "POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        for _ in range(times):
            with socket.create_connection(("127.0.0.1", self.port), timeout=60) as connection:
                connection.sendall((head + body).encode())
