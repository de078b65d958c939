"""``python -m adatom.training.s2ef``: the same as ``adatom s2ef``."""

from __future__ import annotations

import importlib
import sys

if __name__ == "__main__":
    # By name: the command line knows trainings, not the other way round.
    cli = importlib.import_module("adatom.cli.main")
    sys.exit(cli.main(["s2ef", *sys.argv[1:]]))
