"""``python -m adatom`` is the ``adatom`` command."""

import sys

from adatom.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
