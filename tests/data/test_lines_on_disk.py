"""Large extended XYZ files stay on the disk and read the same."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import molecule
from ase.io import write

from adatom.core.errors import DataError
from adatom.data import open_dataset
from adatom.data.readers import extxyz, lines_on_disk
from adatom.data.readers.lines_on_disk import LinesOnDisk


@pytest.mark.parametrize("text", ["a\nbb\n\nccc\n", "a\nbb\n\nccc", "\n", "a", "a\f b\né\n"])
@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_lines_are_those_of_the_text(tmp_path, monkeypatch, text, chunk):
    monkeypatch.setattr(lines_on_disk, "_CHUNK", chunk)
    path = tmp_path / "a.txt"
    path.write_text(text, encoding="utf-8", newline="")
    lines, expected = LinesOnDisk(path), text.removesuffix("\n").split("\n")
    assert len(lines) == len(expected)
    assert [lines[i] for i in range(len(lines))] == expected
    assert lines[1:3] == expected[1:3]
    assert lines[0:99] == expected
    assert lines.ends_whole == text.endswith("\n")


def test_a_large_file_reads_the_same(tmp_path, monkeypatch):
    path = tmp_path / "a.xyz"
    frames = [molecule(name) for name in ("H2O", "CO2", "CH4")]
    write(path, frames)
    expected = open_dataset(path)
    monkeypatch.setattr(extxyz, "LARGE", 10)
    found = open_dataset(path)
    assert found.is_lazy
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a.pos, b.pos)
        assert a.sid == b.sid
    path.write_text(path.read_text()[:-40])
    assert open_dataset(path, index=1)[0].num_atoms == 3
    with pytest.raises(DataError, match="half-written"):
        open_dataset(path)


def test_bytes_that_are_not_text_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(extxyz, "LARGE", 1)
    path = tmp_path / "a.xyz"
    path.write_bytes(b"1\n\xff\xfe\nH 0 0 0\n")
    with pytest.raises(DataError, match="not text"):
        open_dataset(path)
