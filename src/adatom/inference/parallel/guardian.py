"""Ends what a cluster leaves behind when the process that started it is killed.

Ray's agents wait a minute for their cluster to come back. This runs as a process of its own, with
the standard library only: it waits until its standard input ends, at the latest when the process
that started it is gone, and then ends all Ray processes with a mark in their environment.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

#: The environment variable with the mark: the folder of the cluster.
MARK = "ADATOM_RAY_FOLDER"
#: How often processes are looked for at most, and seconds between.
_LOOKS = 50
_PAUSE = 0.1


class Guardian:
    """Watches over a cluster from another process.

    Args:
        folder: Of the cluster; :data:`MARK` names it in the environment of its processes.

    Attributes:
        folder: As given.
    """

    def __init__(self, folder: Path) -> None:
        # In a session of its own, which Ctrl-C in a terminal does not reach.
        self.folder = folder
        self._process = subprocess.Popen(  # noqa: S603 (this file)
            [sys.executable, "-I", "-S", __file__, str(folder)],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )

    def finish(self) -> None:
        """Let it do its work now, and wait for it."""
        self._process.communicate()


def end_marked(folder: str) -> None:
    """End Ray's processes that are marked with a folder, and remove it.

    Where processes do not show their environment (other systems than Linux) none are found.

    Args:
        folder: The mark.
    """
    mark = f"{MARK}={folder}".encode()
    # A process that starts another one, or is just being started, may be missed at first.
    for _ in range(_LOOKS):
        if not _ended(mark):
            break
        time.sleep(_PAUSE)
    shutil.rmtree(folder, ignore_errors=True)


def _ended(mark: bytes) -> int:
    """Kill the processes with a mark and return how many there were; the dead show none."""
    count = 0
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError):
            marked = mark in (entry / "environ").read_bytes().split(b"\0")
            if marked and b"ray" in (entry / "cmdline").read_bytes():
                os.kill(int(entry.name), signal.SIGKILL)
                count += 1
    return count


if __name__ == "__main__":
    sys.stdin.read()
    end_marked(sys.argv[1])
