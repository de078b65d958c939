"""eSCN-MD on the kernels of a GPU: interpreted it equals the plain computation."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_escn_md import backbone

from adatom.models.escn_device import device_unavailable

CASES = Path(__file__).parent / "interpreted" / "escn_device_cases.py"


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
def test_interpreted_backbone_equals_the_plain_one():
    # In a process of its own: Triton reads TRITON_INTERPRET when it is imported.
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-p", "no:cacheprovider", str(CASES)],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_processor_is_told_why(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    assert "not on cpu" in device_unavailable(backbone())


def test_a_gpu_without_triton_is_told_why(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    model = backbone()
    monkeypatch.setattr("adatom.models.escn_md.triton_serves", lambda _: True)
    assert model.unavailable("compiled").startswith("Triton is not installed")
