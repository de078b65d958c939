"""Run ``adatom``, and write down which threads of libraries are left when the interpreter ends."""

from __future__ import annotations

import atexit
import os
import sys
from pathlib import Path


def write_threads() -> None:
    """Write the names of the threads of this process into ``$THREADS_LEFT/<process>``."""
    names = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    (Path(os.environ["THREADS_LEFT"]) / str(os.getpid())).write_text("\n".join(names))


if __name__ == "__main__":
    # What is registered first is called last.
    atexit.register(write_threads)
    from adatom.cli.main import main

    sys.exit(main())
