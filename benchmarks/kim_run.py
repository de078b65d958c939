"""One run of LAMMPS with a portable model, with its times and its memory."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import ase.io
from ase import Atoms

from adatom.core.errors import ConfigError

#: That of LAMMPS, not one that a Python package brought along.
MPIRUN = "/usr/bin/mpirun --allow-run-as-root --oversubscribe --bind-to none -np"
#: One thread; and glibc keeps memory that is free for the next step, as the docs advise: to give
#: back hundreds of megabytes and ask for them again costs as much as a third of a step.
_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "100000000000",
}
_LOOP = re.compile(r"Loop time of (\S+) on \d+ procs for (\d+) steps")

_SCRIPT = """
{init}
boundary p p p
atom_style atomic
atom_modify map yes
read_data data.atoms
mass 1 28.0855
{interactions}
neighbor 1.0 bin
velocity all create 300 4928 loop geom
timestep 0.001
thermo 10
fix 1 all nve
run {warm}
run {steps}
"""
_EXTERNAL = """
import sys
from adatom.calculators.ase_calculator import MLIPCalculator
from adatom.deploy.lammps.run import run_lammps
from adatom.inference.predict_unit import MLIPPredictUnit
unit = MLIPPredictUnit.load(sys.argv[1], sys.argv[3])
run_lammps("in.bench", MLIPCalculator(unit, sys.argv[2] or None), "Si", log="log.bench",
           screen="none")
"""


@dataclass(frozen=True)
class Measured:
    """What a run took.

    Attributes:
        step: Seconds of one step, of all ranks together.
        driver: Of that, seconds between KIM's call and its return, mean over the ranks; None
            without the driver.
        network: Of that, seconds in the network and its derivative; None without the driver.
        startup: Seconds of the whole program that no step took.
        peak_gb: Largest resident memory of one process.
    """

    step: float
    driver: float | None
    network: float | None
    startup: float
    peak_gb: float

    @property
    def overhead(self) -> float | None:
        """Everything of the driver but the network's evaluation, in percent of that."""
        if self.driver is None or self.network is None:
            return None
        return 100 * (self.driver - self.network) / self.network


def run_kim(folder: Path, name: str, atoms: Atoms, *, ranks: int, steps: int) -> Measured:
    """Run dynamics of a portable model in Debian's LAMMPS.

    Raises:
        ConfigError: If LAMMPS fails.
    """
    _write(folder, atoms, f"kim init {name} metal", "kim interactions Si", steps)
    times = folder / "times.jsonl"
    times.unlink(missing_ok=True)
    command = [_lammps(), "-in", "in.bench", "-log", "log.bench", "-screen", "none"]
    if ranks > 1:
        command = [*MPIRUN.split(), str(ranks), *command]
    seconds, peak = _run(command, folder, {"ADATOM_KIM_TIMES": str(times)})
    loops = _loops(folder)
    rows = [json.loads(line) for line in times.read_text(encoding="utf-8").splitlines()]
    calls = sum(row["calls"] for row in rows)
    return Measured(
        step=loops[-1] / steps,
        driver=sum(row["seconds"] for row in rows) / calls,
        network=sum(row["network_seconds"] for row in rows) / calls,
        startup=seconds - sum(loops),
        peak_gb=peak,
    )


def run_external(
    folder: Path, model: str, task: str | None, atoms: Atoms, *, preset: str, steps: int
) -> Measured:
    """Run the same dynamics with ``fix external`` and the LAMMPS of this Python.

    Raises:
        ConfigError: If LAMMPS fails.
    """
    _write(folder, atoms, "units metal", "", steps)
    command = [sys.executable, "-c", _EXTERNAL, model, task or "", preset]
    seconds, peak = _run(command, folder, {})
    loops = _loops(folder)
    return Measured(loops[-1] / steps, None, None, seconds - sum(loops), peak)


def _lammps() -> str:
    found = shutil.which("lmp")
    if found is None:
        raise ConfigError("There is no lmp on the PATH", fix="See: adatom kim doctor")
    return found


def _write(folder: Path, atoms: Atoms, init: str, interactions: str, steps: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    ase.io.write(folder / "data.atoms", atoms, format="lammps-data")
    text = _SCRIPT.format(init=init, interactions=interactions, warm=3, steps=steps)
    (folder / "in.bench").write_text(text, encoding="utf-8")
    (folder / "log.bench").unlink(missing_ok=True)


def _run(command: Sequence[str], folder: Path, extra: dict[str, str]) -> tuple[float, float]:
    """Return the seconds that a program took, and the largest memory of one of its processes."""
    environment = os.environ | _ENVIRONMENT | extra
    log = folder / "screen.txt"
    began = time.perf_counter()
    with log.open("w") as screen:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=screen, stderr=subprocess.STDOUT
        )
        # wait() of the subprocess module does not tell the memory.
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - began
    if process.returncode != 0:
        raise ConfigError(f"LAMMPS failed: {log.read_text(encoding='utf-8')[-800:]}")
    return seconds, usage.ru_maxrss * 1024 / 1e9


def _loops(folder: Path) -> list[float]:
    """Return the seconds of each run, without its setup."""
    found = _LOOP.findall((folder / "log.bench").read_text(encoding="utf-8"))
    return [float(seconds) for seconds, _ in found]
