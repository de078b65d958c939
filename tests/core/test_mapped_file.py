"""Tensors of a mapped file are the file's numbers, can be written to, and can be forgotten."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from adatom.core.mapped_file import MappedFile, release_pages

LARGE = (1024, 512)
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


@pytest.fixture
def numbers():
    return torch.arange(1024 * 512, dtype=torch.float32).view(LARGE)


@pytest.fixture
def file(tmp_path, numbers):
    (tmp_path / "numbers").write_bytes(b"header--" + numbers.numpy().tobytes())
    return tmp_path / "numbers"


def mapped(path):
    with MappedFile(path) as file:
        return file.tensor(8, torch.float32, LARGE)


def resident_mb():
    lines = Path("/proc/self/status").read_text().splitlines()
    return sum(int(x.split()[1]) for x in lines if x.startswith("RssFile")) / 1024


def test_tensors_hold_the_numbers_of_the_file(file, numbers):
    assert torch.equal(mapped(file), numbers)
    with MappedFile(file) as opened:
        assert torch.equal(opened.tensor(8 + 4 * 512, torch.float32, (3,)), numbers[1, :3])
        assert opened.tensor(8, torch.float32, (0, 4)).shape == (0, 4)
        assert b"".join(bytes(c) for c in opened.chunks(0, 8)) == b"header--"
        assert sum(len(c) for c in opened.chunks(0, opened.num_bytes)) == opened.num_bytes


def test_numbers_at_odd_places_are_copied(tmp_path, numbers):
    (tmp_path / "odd").write_bytes(b"odd" + numbers.numpy().tobytes())
    with MappedFile(tmp_path / "odd") as opened:
        tensor = opened.tensor(3, torch.float32, LARGE)
    assert tensor.data_ptr() % 4 == 0
    assert torch.equal(tensor, numbers)


def test_what_lies_outside_the_file_is_refused(file):
    with MappedFile(file) as opened:
        for start in (-4, 12, 10**15):
            with pytest.raises(EOFError):
                opened.tensor(start, torch.float32, LARGE)
        with pytest.raises(EOFError):
            list(opened.chunks(opened.num_bytes - 4, 8))


def test_writing_never_reaches_the_file(file, numbers):
    before = file.read_bytes()
    tensor = mapped(file)
    tensor.zero_()
    assert file.read_bytes() == before
    assert torch.equal(mapped(file), numbers)


def test_replacing_the_file_changes_nothing(file, numbers):
    tensor = mapped(file)
    other = file.with_suffix(".new")
    other.write_bytes(b"something else")
    other.replace(file)
    assert torch.equal(tensor, numbers)


@linux
def test_pages_can_be_given_back_and_come_again(file, numbers):
    tensor = mapped(file)
    total = float(tensor.double().sum())
    before = resident_mb()
    assert release_pages(tensor)
    assert resident_mb() < before - 1.5
    assert float(tensor.double().sum()) == total


@linux
def test_what_was_written_is_never_given_back(file):
    tensor = mapped(file)
    tensor[3, 4] = -1.0
    assert not release_pages(tensor)
    assert tensor[3, 4] == -1.0


def test_ordinary_memory_is_left_alone(numbers):
    assert not release_pages(numbers)
    assert numbers[-1, -1] == numbers.numel() - 1


def test_a_file_system_without_mapping_is_read(file, numbers, monkeypatch):
    def refuse(*_, **__):
        raise OSError(19, "No such device")

    monkeypatch.setattr("adatom.core.mapped_file.mmap.mmap", refuse)
    assert torch.equal(mapped(file), numbers)
