"""Measuring processes and the order in which they take turns."""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from adatom.core.console import say
from adatom.core.errors import ConfigError
from benchmarks.jobs import MARK, Job

ROOT = Path(__file__).resolve().parent.parent

#: Keeps freed memory instead of returning it to the system after every large temporary. Much of
#: the time of programs that allocate a lot is page faults; a user gets the untouched environment.
TUNED_MALLOC = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "100000000000",
    "MALLOC_TOP_PAD_": "500000000",
}

#: Untimed calls after the first one. fairchem-core's compiled mode may compile again when the
#: number of edges changes; MACE is partly TorchScript, which compiles during its first calls.
_SETTLING = {("fairchem", "default"): 1, ("mace", "medium"): 4, ("mace", "small"): 4}

ENVIRONMENTS: dict[str, dict[str, str]] = {"untouched": {}, "tuned": TUNED_MALLOC}


def fairchem_python() -> Path:
    """Return the interpreter of fairchem-core's environment.

    Raises:
        ConfigError: If there is none.
    """
    given = os.environ.get("ADATOM_FAIRCHEM_PYTHON")
    path = Path(given) if given else ROOT / ".venv-fairchem" / "bin" / "python"
    if not path.exists():
        raise ConfigError(
            f"There is no {str(path)!r}",
            expected="the interpreter of an environment with fairchem-core 2.24.0",
            fix="Run benchmarks/setup_fairchem.sh, set ADATOM_FAIRCHEM_PYTHON, or leave fairchem "
            "out (benchmarks.inference: --modes turbo default tiled; benchmarks.training: "
            "--no-fairchem).",
        )
    return path


def mace_python() -> Path | None:
    """Return the interpreter of mace-torch's environment, or None where it is not installed.

    Raises:
        ConfigError: If ``ADATOM_MACE_PYTHON`` names none.
    """
    given = os.environ.get("ADATOM_MACE_PYTHON")
    path = Path(given) if given else ROOT / ".venv-mace" / "bin" / "python"
    if path.exists():
        return path
    if given:
        raise ConfigError(
            f"ADATOM_MACE_PYTHON is {given!r}, which does not exist",
            expected="the interpreter of an environment with mace-torch",
            fix="Correct it, or leave mace-medium out of --modes.",
        )
    return None


def interpreter(program: str) -> Path:
    """Return the interpreter in which a program is installed.

    Raises:
        ConfigError: If there is none.
    """
    if program == "fairchem":
        return fairchem_python()
    if program != "mace":
        return Path(sys.executable)
    python = mace_python()
    if python is None:
        raise ConfigError("mace-torch is not installed", fix="Run benchmarks/setup_mace.sh.")
    return python


def environment(job: Job, extra: Mapping[str, str]) -> dict[str, str]:
    """Return a worker's environment variables: the caller's, threads, and ``extra``."""
    threads = str(job.threads)
    kept = {key: value for key, value in os.environ.items() if not key.startswith("MALLOC_")}
    kept |= {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    return kept | dict(extra)


@dataclass
class Timings:
    """What was measured of one worker.

    Attributes:
        seconds: Each timed call; the n-th one is of the same round for all workers.
        relative: Each timed call over the reference's call of the same round.
        peak_gb: Largest peak memory of the process during a timed call.
    """

    seconds: list[float] = field(default_factory=list)
    relative: list[float] = field(default_factory=list)
    peak_gb: float = 0.0

    @property
    def best(self) -> float:
        """Shortest call in seconds."""
        return min(self.seconds)

    @property
    def median(self) -> float:
        """Median call in seconds."""
        return statistics.median(self.seconds)

    @property
    def ratio(self) -> float:
        """Median of the ratios to the reference."""
        return statistics.median(self.relative)

    def times_faster_than(self, other: Timings) -> float:
        """Return the median over rounds of the other's time over this one's."""
        pairs = zip(other.seconds, self.seconds, strict=False)
        return statistics.median(theirs / own for theirs, own in pairs)


class Worker:
    """One measuring process.

    Args:
        job: What it measures.
        module: The worker's module, such as ``"benchmarks.adatom_worker"``.
        python: Its interpreter.
        variables: Additional environment variables.

    Attributes:
        report: What it said when it had loaded, and from :meth:`prepare` on about the first call
            (``values``, ``first_seconds``, ``first_peak_gb``, ``idle_gb``).
        timings: What was measured.
    """

    def __init__(
        self, job: Job, module: str, python: Path, variables: Mapping[str, str] | None = None
    ) -> None:
        self.job = job
        self.timings = Timings()
        self.report: dict[str, Any] = {}
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed with the process)
        self._started = time.perf_counter()
        self._process = subprocess.Popen(
            [str(python), "-m", module, job.to_json()],
            cwd=ROOT,
            env=environment(job, variables or {}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )

    def wait_until_loaded(self) -> None:
        """Wait for the report.

        Raises:
            ConfigError: If loading fails; the end of its error output is shown.
        """
        self.report = self._answer()
        self.report["start_seconds"] = time.perf_counter() - self._started

    def prepare(self) -> None:
        """Make the first call, and the calls after which nothing is compiled any more.

        Raises:
            ConfigError: If a call fails; the end of its error output is shown.
        """
        first = self._request()
        self.report |= {
            "values": first["values"],
            "first_seconds": first["seconds"],
            "first_peak_gb": first["peak_gb"],
            "idle_gb": first["resident_gb"],
        }
        for _ in range(_SETTLING.get((self.job.program, self.job.mode), 0)):
            self._request()

    def call(self) -> float:
        """Make one timed call and return its seconds."""
        done = self._request()
        self.timings.peak_gb = max(self.timings.peak_gb, done["peak_gb"])
        self.timings.seconds.append(done["seconds"])
        return self.timings.seconds[-1]

    def close(self) -> None:
        """End the process."""
        pipe = self._pipe(self._process.stdin)
        # A process that died has no reader any more.
        with contextlib.suppress(BrokenPipeError):
            pipe.close()
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._pipe(self._process.stdout).close()
        self._log.close()

    def _request(self) -> dict[str, Any]:
        pipe = self._pipe(self._process.stdin)
        with contextlib.suppress(BrokenPipeError):
            pipe.write("call\n")
            pipe.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        for line in self._pipe(self._process.stdout):
            if line.startswith(MARK):
                values: dict[str, Any] = json.loads(line.removeprefix(MARK))
                return values
        code = self._process.wait()
        self._log.seek(0)
        ending = " | ".join(self._log.read().strip().splitlines()[-4:])
        raise ConfigError(
            f"The measurement {self.job.to_json()} ended with code {code}: {ending or 'no message'}"
        )

    @staticmethod
    def _pipe(stream: Any) -> TextIO:
        if stream is None:
            raise ConfigError("A measuring process has no pipe")
        pipe: TextIO = stream
        return pipe


def launch(job: Job, variables: Mapping[str, str], *, purpose: str = "worker") -> Worker:
    """Start the worker of a job in the right interpreter, and do not wait for it.

    Args:
        job: What to measure.
        variables: Additional environment variables.
        purpose: ``"worker"`` (inference) or ``"trainer"``.
    """
    say(f"  starting {job.program} {job.mode} {job.call}, {Path(job.structure).name}")
    module = f"benchmarks.{job.program}_{purpose}"
    return Worker(job, module, interpreter(job.program), variables)


def start(job: Job, variables: Mapping[str, str], *, purpose: str = "worker") -> Worker:
    """Start the worker of a job as :func:`launch`, and wait until it can be timed."""
    worker = launch(job, variables, purpose=purpose)
    worker.wait_until_loaded()
    worker.prepare()
    return worker


def take_turns(
    workers: Sequence[Worker], *, seconds: float, most: int = 50, least: int = 3
) -> None:
    """Time all workers alternately; the order is reversed in every second round.

    Ratios are to the first worker with the same kind of call, within each round.

    Args:
        workers: At least one.
        seconds: About how long one worker's calls may take together.
        most: Rounds at most.
        least: Rounds at least.
    """
    slowest = max(worker.call() for worker in workers)
    # The first round tells how long a round takes, and warms up. Where calls are long, it counts.
    counts = slowest > seconds / 4
    rounds = max(least, min(most, int(seconds / slowest)))
    for worker in workers:
        if not counts:
            worker.timings.seconds.clear()
            worker.timings.peak_gb = 0.0
    for k in range(rounds - counts):
        order = list(workers) if k % 2 == 0 else list(reversed(workers))
        for worker in order:
            worker.call()
    for worker in workers:
        reference = next(w for w in workers if w.job.call == worker.job.call)
        pairs = zip(worker.timings.seconds, reference.timings.seconds, strict=True)
        worker.timings.relative = [own / other for own, other in pairs]
