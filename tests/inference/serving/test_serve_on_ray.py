"""``adatom serve`` as it is run: on Ray Serve, in processes of its own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
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


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


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


@pytest.mark.slow
def test_start_ask_replace_and_end(tmp_path):
    checkpoint, port = tmp_path / "tiny.safetensors", free_port()
    save_tiny(checkpoint)
    log = (tmp_path / "log").open("w+")
    command = [sys.executable, "-m", "adatom", "serve", str(checkpoint), "--port", str(port)]
    environment = os.environ | {"RAY_ADDRESS": "local", "OMP_NUM_THREADS": "1"}
    server = subprocess.Popen(
        command, env=environment, stderr=log, stdout=log, cwd=tmp_path, start_new_session=True
    )
    url = f"http://127.0.0.1:{port}"
    atoms = bulk("Cu", a=3.7) * 2
    atoms.rattle(0.05, seed=1)
    try:
        until = time.monotonic() + START
        while "Serving at" not in (tmp_path / "log").read_text():
            assert server.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < until
            time.sleep(0.5)
        processes = children(server.pid)
        calc = RemoteCalculator(url, any_version=True)
        local = MLIPCalculator(str(checkpoint), inference_settings="batch")
        first = calc.get_property("energy", atoms)
        assert first == pytest.approx(local.get_property("energy", atoms), abs=1e-6)

        # Another potential while requests go on.
        stop, energies, errors = threading.Event(), [], []

        def client():
            mine = RemoteCalculator(url, any_version=True)
            try:
                while not stop.is_set():
                    mine.reset()
                    energies.append(mine.get_property("energy", atoms))
            except Exception as error:  # noqa: BLE001 (judged below)
                errors.append(error)

        threads = [threading.Thread(target=client) for _ in range(4)]
        for thread in threads:
            thread.start()
        save_tiny(tmp_path / "other.safetensors", seed=4)
        shutil.move(tmp_path / "other.safetensors", checkpoint)
        server.send_signal(signal.SIGHUP)
        other = MLIPCalculator(str(checkpoint), inference_settings="batch")
        second = other.get_property("energy", atoms)
        until = time.monotonic() + 120
        while not (energies and abs(energies[-1] - second) < 1e-5) and time.monotonic() < until:
            time.sleep(0.1)
        stop.set()
        for thread in threads:
            thread.join(60)
        assert errors == []
        assert all(min(abs(e - first), abs(e - second)) < 1e-5 for e in energies)
        assert energies[-1] == pytest.approx(second, abs=1e-5)
        assert waiting(url, 'adatom_swaps_total{model="tiny"') == [1]

        # What was accepted is answered.
        systems = [from_ase(bulk("Cu", a=3.7) * 5, dataset="omat", sid=str(i)) for i in range(200)]
        served = ServiceClient(url, patience=0)
        with ThreadPoolExecutor(1) as pool:
            last = pool.submit(served.predict, systems, ["energy"], served.model())
            running = 'adatom_waiting_structures{model="tiny"'
            while sum(waiting(url, running)) == 0 and not last.done():
                time.sleep(0.01)
            assert not last.done()
            server.send_signal(signal.SIGTERM)
            assert {len(found["energy"]) for found in last.result(120)} == {1}
        assert server.wait(120) == 0
        time.sleep(2)
        assert alive(processes) == {}
    finally:
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGKILL)
        log.close()
