"""``adatom serve`` as it is run: on Ray Serve, in processes of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from ase.build import bulk
from tiny_checkpoint import save_tiny

from adatom.calculators.ase_calculator import MLIPCalculator
from adatom.calculators.remote import RemoteCalculator
from adatom.data.ase_convert import from_ase
from adatom.inference.serving.client import ServiceClient

pytest.importorskip("ray.serve", exc_type=ImportError)

#: Seconds; a busy machine imports torch and Ray slowly in each of a dozen processes.
START = 600


def children(pid):
    """Return all descendants of a process, by id and command."""
    found = {}
    listed = subprocess.run(
        ["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True
    )
    rows = [line.split(None, 2) for line in listed.stdout.splitlines()[1:]]
    wanted = {pid}
    for _ in range(5):
        for child, parent, args in rows:
            if int(parent) in wanted:
                wanted.add(int(child))
                found[int(child)] = args
    return found


def alive(processes):
    """Return those that still run as what they were."""
    left = {}
    for pid, args in processes.items():
        with suppress(OSError):
            now = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
            if now and now[:40] == args[:40]:
                left[pid] = args
    return left


def waiting(url, name):
    """Return the values of a number of the service."""
    text = urllib.request.urlopen(f"{url}/metrics", timeout=60).read().decode()
    return [float(line.split()[-1]) for line in text.splitlines() if line.startswith(name)]


class Askers:
    """Threads that ask for the energy of a structure all the time."""

    def __init__(self, url, atoms):
        self.energies, self.errors = [], []
        self._stop = threading.Event()
        self._url, self._atoms = url, atoms
        self._threads = [threading.Thread(target=self._ask) for _ in range(4)]
        for thread in self._threads:
            thread.start()

    def _ask(self):
        calc = RemoteCalculator(self._url, any_version=True)
        try:
            while not self._stop.is_set():
                calc.reset()
                self.energies.append(calc.get_property("energy", self._atoms))
        except Exception as error:  # noqa: BLE001 (judged by the test)
            self.errors.append(error)

    def wait_for_more(self, count):
        """Wait for answers that were asked for after now."""
        count += len(self.energies) + len(self._threads)
        while len(self.energies) < count and not self.errors:
            time.sleep(0.05)

    def end(self):
        self._stop.set()
        for thread in self._threads:
            thread.join(60)


def wait_for(text, log, server):
    """Wait until the server says something."""
    until = time.monotonic() + START
    while text not in log.read_text():
        assert server.poll() is None, log.read_text()
        assert time.monotonic() < until, log.read_text()
        time.sleep(0.2)


@pytest.fixture
def served(tmp_path, free_port):
    """Start two replicas; return the process, its address, checkpoint and log."""
    checkpoint, port, log = tmp_path / "tiny.safetensors", free_port, tmp_path / "log"
    save_tiny(checkpoint)
    command = [sys.executable, "-m", "adatom", "serve", str(checkpoint), "--port", str(port)]
    with log.open("w") as file:
        server = subprocess.Popen(
            [*command, "--replicas", "2"],
            env=os.environ | {"RAY_ADDRESS": "local", "OMP_NUM_THREADS": "1"},
            stderr=file,
            stdout=file,
            cwd=tmp_path,
            start_new_session=True,
        )
    try:
        wait_for("Serving at", log, server)
        yield server, f"http://127.0.0.1:{port}", checkpoint, log
    finally:
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGKILL)


@pytest.mark.slow
def test_start_ask_replace_and_end(served):
    server, url, checkpoint, log = served
    processes = children(server.pid)
    atoms = bulk("Cu", a=3.7) * 2
    atoms.rattle(0.05, seed=1)

    def local():
        return MLIPCalculator(str(checkpoint)).get_property("energy", atoms)

    first = RemoteCalculator(url).get_property("energy", atoms)
    assert first == pytest.approx(local(), abs=1e-6)

    # Another potential while requests go on, in both replicas.
    askers = Askers(url, atoms)
    askers.wait_for_more(5)
    save_tiny(checkpoint.with_name("other.safetensors"), seed=4)
    shutil.move(checkpoint.with_name("other.safetensors"), checkpoint)
    server.send_signal(signal.SIGHUP)
    wait_for("Done.", log, server)
    askers.wait_for_more(20)
    askers.end()
    second = local()
    assert askers.errors == []
    assert all(min(abs(e - first), abs(e - second)) < 1e-5 for e in askers.energies)
    assert askers.energies[:2] == pytest.approx([first] * 2, abs=1e-5)
    assert askers.energies[-10:] == pytest.approx([second] * 10, abs=1e-5)
    assert waiting(url, 'adatom_swaps_total{model="tiny"') == [1, 1]

    # What was accepted is answered; then everything ends.
    systems = [from_ase(bulk("Cu", a=3.7) * 5, dataset="omat", sid=str(i)) for i in range(200)]
    client = ServiceClient(url, patience=0)
    with ThreadPoolExecutor(1) as pool:
        last = pool.submit(client.predict, systems, ["energy"], client.model())
        while sum(waiting(url, "adatom_waiting_structures")) == 0 and not last.done():
            time.sleep(0.01)
        assert not last.done()
        server.send_signal(signal.SIGTERM)
        assert {len(found["energy"]) for found in last.result(120)} == {1}
    assert server.wait(120) == 0
    time.sleep(2)
    assert alive(processes) == {}
