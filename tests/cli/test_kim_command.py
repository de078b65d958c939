"""``adatom kim``: what it says where things are missing or taken."""

from __future__ import annotations

import ctypes.util

import pytest

from adatom.cli import main as cli
from adatom.deploy.kim import driver_install, items, libkim
from adatom.deploy.kim.doctor import Finding


@pytest.fixture
def without_kim(monkeypatch):
    """Take away the library of the KIM API."""
    monkeypatch.setattr(ctypes.util, "find_library", lambda _: None)
    libkim.load_library.cache_clear()
    yield
    libkim.load_library.cache_clear()


def test_doctor_without_kim_names_the_package(without_kim, capsys):
    assert cli.main(["kim", "doctor"]) == cli.WRONG_INPUT
    told = capsys.readouterr()
    assert "apt-get install libkim-api2" in told.out
    assert "KIM API" in told.err
    assert "missing" in told.err


@pytest.mark.parametrize("verb", [["list"], ["remove", "X__MO_000000000000_000"]])
def test_verbs_without_kim_are_one_sentence(without_kim, verb, capsys):
    assert cli.main(["kim", *verb]) == cli.WRONG_INPUT
    assert "libkim-api" in capsys.readouterr().err


def test_unknown_collections_are_refused(capsys):
    assert cli.main(["kim", "install-driver", "--collection", "uzer"]) == cli.WRONG_INPUT
    assert "did you mean 'user'" in capsys.readouterr().err


def test_folders_without_a_model_are_refused(tmp_path, capsys):
    assert cli.main(["kim", "install", str(tmp_path)]) == cli.WRONG_INPUT
    assert "CMakeLists.txt" in capsys.readouterr().err
    (tmp_path / "CMakeLists.txt").write_text("# nothing\n")
    assert cli.main(["kim", "install", str(tmp_path)]) == cli.WRONG_INPUT
    assert "names no project" in capsys.readouterr().err


def test_environment_collection_needs_its_folders(monkeypatch, tmp_path):
    monkeypatch.setattr(items, "find_item", lambda _: None)
    monkeypatch.delenv("KIM_API_MODEL_DRIVERS_DIR", raising=False)
    with pytest.raises(libkim.KimError, match="needs KIM_API_MODEL_DRIVERS_DIR"):
        items.install_item(tmp_path, "X", "environment")


def test_items_of_other_collections_are_not_removed_in_passing(monkeypatch, tmp_path):
    there = items.Item("X", "portableModel", "user", tmp_path / "x.so")
    monkeypatch.setattr(items, "find_item", lambda _: there)
    with pytest.raises(libkim.KimError, match="in the collection 'user'"):
        items.install_item(tmp_path, "X", "environment", force=True)


def test_a_pytorch_without_headers_is_refused(monkeypatch):
    monkeypatch.setattr(driver_install.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(libkim.KimError, match="no C\\+\\+ headers"):
        driver_install.torch_folder()


def test_what_is_only_useful_does_not_block():
    assert Finding("KIM API", None, "apt").blocks
    assert not Finding("LAMMPS", None, "apt", needed=False).blocks
    assert not Finding("KIM API", "2.3.0", "apt").blocks
