"""A file goes before a name, and unknown names list the known ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from adatom.checkpoint.names import EMBEDDED, resolve_checkpoint
from adatom.core.errors import CheckpointError, FileAccessError, UnknownNameError


def test_a_local_file_goes_before_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("default").write_text("mine")
    assert resolve_checkpoint("default").read_text() == "mine"


def test_a_missing_file_proposes_its_neighbour(tmp_path):
    (tmp_path / "copper.safetensors").write_text("x")
    with pytest.raises(FileAccessError, match=r"did you mean 'copper.safetensors'"):
        resolve_checkpoint(tmp_path / "coper.safetensors")


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(UnknownNameError, match="'defalt'; did you mean 'default'"):
        resolve_checkpoint("defalt")


def test_an_embedded_potential_that_is_absent_says_so(monkeypatch, tmp_path):
    monkeypatch.setitem(EMBEDDED, "default", tmp_path / "gone.safetensors")
    with pytest.raises(CheckpointError, match="not part of this installation"):
        resolve_checkpoint("default")
    (tmp_path / "gone.safetensors").write_text("x")
    assert resolve_checkpoint("default") == tmp_path / "gone.safetensors"
