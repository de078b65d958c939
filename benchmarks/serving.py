"""Requests per second of the batching service and of threads: ``python -m benchmarks.serving``.

The same structures, 3 to 500 atoms, are predicted one after the other in this process (the loop),
by threads that share an InferenceBatcher, and by clients of the service, which runs in a process
of its own. Each computes with the same number of threads of torch in all: the loop with that many
threads per call, the service with that many in its process, or shared out among its replicas.
Clients and HTTP take time of other cores, if there are any.

    OMP_NUM_THREADS=1 python -m benchmarks.serving
    OMP_NUM_THREADS=2 python -m benchmarks.serving --replicas 2
"""

from __future__ import annotations

import argparse
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import torch
from ase import Atoms
from ase.build import bulk, molecule

from adatom import AtomicData, MLIPPredictUnit
from adatom.core.console import say
from adatom.core.errors import AdatomError
from adatom.inference.batcher import InferenceBatcher
from adatom.inference.prediction import Prediction
from adatom.inference.serving.client import ServiceClient
from adatom.inference.serving.server import is_serving
from benchmarks.records import circumstances, load_average, record

NAMES = ("energy", "forces")
COLUMNS = ("how", "clients", "requests", "seconds", "requests per s", "over the loop")
NOTE = (
    "Structures: 70% molecules of 3 to 12 atoms, 25% crystals of 8 to 64, 5% gases of 135 to 500 "
    "atoms; energy and forces. Loop: one after the other, no HTTP. Threads: one process, "
    "InferenceBatcher. Service: other processes; JSON over HTTP, one structure per request, each "
    "client sends its next request when it has an answer. Threads of torch are those of all "
    "replicas together. Best of the rounds, which alternate."
)
#: Run in another process: the application without Ray, or with it.
_SERVER = """
import sys, uvicorn
from adatom.inference.pretrained_mlip import get_predict_unit
from adatom.inference.serving.app import Service, build_app
from adatom.inference.serving.counters import Counters
from adatom.inference.serving.limits import Limits
from adatom.inference.serving.models import ServedModels
counters = Counters()
models = ServedModels(counters)
models.put("model", get_predict_unit(sys.argv[1], device="cpu"))
app = build_app(Service(models, counters, Limits()))
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="error")
"""


def structures(count: int) -> list[AtomicData]:
    """Return structures that the embedded potential knows, always the same."""
    return [_structure(number) for number in range(count)]


def _structure(number: int) -> AtomicData:
    draw = random.Random(number)  # noqa: S311 (structures, not secrets)
    kind = draw.random()
    task = "qm7x"
    if kind < 0.7:
        atoms = molecule(draw.choice(("H2O", "CH4", "NH3", "CO2", "C2H6", "C6H6", "CH3OH")))
    elif kind < 0.95:
        atoms, task = (
            bulk("Si", cubic=True) * (draw.randint(1, 2), 2, draw.randint(1, 2)),
            "zuo2020",
        )
    else:
        atoms = molecule("CH4")
        atoms.set_cell([8.0, 8.0, 8.0])
        atoms *= draw.choice(((3, 3, 3), (5, 5, 4)))
        atoms = Atoms(atoms.numbers, atoms.positions)
    atoms.rattle(0.05, seed=number)
    return AtomicData.from_ase(atoms, dataset=task, sid=f"s{number}")


def rate(ask: Callable[[AtomicData], object], systems: Sequence[AtomicData], clients: int) -> float:
    """Return the seconds that clients need, each with its share of the structures."""
    with ThreadPoolExecutor(clients) as pool:
        begin = time.perf_counter()
        for _ in pool.map(ask, systems):
            pass
        return time.perf_counter() - begin


def check(found: Sequence[Prediction], expected: Sequence[Prediction]) -> None:
    """Refuse answers that are not those of the loop."""
    for one, other in zip(found, expected, strict=True):
        difference = float((one["forces"] - other["forces"]).abs().max())
        if difference > 1e-3:
            sys.exit(f"Forces of {one.sids[0]} differ by {difference:.2g} eV/angstrom")


@contextmanager
def service(model: str, *, ray: bool, replicas: int = 1) -> Iterator[str]:
    """Run a service in another process; yields its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    command = [sys.executable, "-c", _SERVER, model, port]
    if ray:
        command = [sys.executable, "-m", "adatom", "serve", f"model={model}", "--port", port]
        command += ["--settings", "default", "--replicas", str(replicas)]
    process = subprocess.Popen(command, env={**os.environ, "RAY_ADDRESS": "local"})
    url = f"http://127.0.0.1:{port}"
    try:
        while not is_serving(url):
            if process.poll() is not None:
                sys.exit("The service ended before it answered")
            time.sleep(0.2)
        yield url
    finally:
        process.terminate()
        process.wait()


def asker(url: str) -> Callable[[AtomicData], Prediction]:
    """Return what sends one structure to a service, when it has started."""
    client = ServiceClient(url, patience=600)
    described = client.model()

    def ask(system: AtomicData) -> Prediction:
        found = client.predict([system], NAMES, described)[0]
        if isinstance(found, AdatomError):
            raise found
        return found

    return ask


def main() -> None:
    """Measure, and append a table to the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="default")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--requests", type=int, default=5, help="per client")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--replicas", type=int, default=1, help="of the service on Ray Serve")
    parser.add_argument("--no-ray", action="store_true", help="leave out the service on Ray Serve")
    options = parser.parse_args()
    load = load_average()
    systems = structures(options.clients * options.requests)
    unit = MLIPPredictUnit.load(options.model)
    say("Computing what is expected.")
    expected = list(unit.iter_predict(systems, NAMES))

    def loop(system: AtomicData) -> Prediction:
        return unit.predict(system, NAMES)

    best: dict[str, float] = {}

    def measure(how: str, ask: Callable[[AtomicData], Prediction], clients: int) -> None:
        check([ask(system) for system in systems[:20]], expected[:20])
        seconds = rate(ask, systems, clients)
        best[how] = min(seconds, best.get(how, seconds))
        say(f"{how}: {len(systems) / seconds:.1f} requests per s")

    ways = [("service (HTTP)", False)]
    if not options.no_ray:
        ways.append((f"service (Ray Serve), {options.replicas} replica(s)", True))
    for how, ray in ways:
        with (
            service(options.model, ray=ray, replicas=options.replicas) as url,
            InferenceBatcher(unit) as batcher,
        ):
            ask = asker(url)
            together = partial(batcher.unit.predict, properties=NAMES)
            for _ in range(options.rounds):
                measure("loop", loop, 1)
                measure("threads", together, options.clients)
                measure(how, ask, options.clients)
    rows = [
        (how, 1 if how == "loop" else options.clients, len(systems), seconds,
         len(systems) / seconds, best["loop"] / seconds)
        for how, seconds in best.items()
    ]  # fmt: skip
    facts = circumstances(
        "benchmarks.serving", {}, load, threads=str(torch.get_num_threads()), model=options.model
    )
    record("Serving", facts, COLUMNS, rows, notes=[NOTE])


if __name__ == "__main__":
    main()
