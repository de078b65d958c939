"""Toy potentials are shared with the tests of KIM."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "kim"))
