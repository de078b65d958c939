"""``python -m adatom.training.is2re``: the same as ``adatom is2re``."""

from __future__ import annotations

import importlib
import sys

if __name__ == "__main__":
    # By name: the command line knows trainings, not the other way round.
    cli = importlib.import_module("adatom.cli.main")
    sys.exit(cli.main(["is2re", *sys.argv[1:]]))
