"""The plugin is built from sources of its own, which stay out of the package."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from lammps_cases import need_lammps

REPOSITORY = Path(__file__).resolve().parents[3]
PLUGIN = REPOSITORY / "plugins" / "lammps-pair-adatom"


@pytest.fixture
def builder():
    """Return the build script as a module."""
    spec = importlib.util.spec_from_file_location("build_pair_adatom", PLUGIN / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_missing_compiler_is_one_sentence(builder, tmp_path):
    need_lammps()
    with pytest.raises(builder.BuildError, match=r"no C\+\+ compiler 'cc-nowhere'.*g\+\+"):
        builder.build(tmp_path, compiler="cc-nowhere")


def test_every_source_of_the_driver_is_compiled_once(builder, tmp_path):
    text = "".join(path.read_text() for path in builder._units(tmp_path))
    names = [Path(line.split('"')[1]).name for line in text.splitlines()]
    assert len(names) == len(set(names))
    driver = {path.name for path in builder.SOURCES.glob("*.cpp")}
    own = {path.name for path in PLUGIN.glob("*.cpp")}
    assert set(names) == own | {name for name in driver if not builder.KIM_ONLY.fullmatch(name)}


def test_the_package_holds_nothing_under_the_gpl():
    assert "GNU GENERAL PUBLIC LICENSE" in (PLUGIN / "LICENSE").read_text()
    for path in PLUGIN.iterdir():
        if path.suffix in (".cpp", ".h", ".hpp", ".py"):
            assert "SPDX-License-Identifier: GPL-2.0-only" in path.read_text()
    for path in (REPOSITORY / "src").rglob("*.*pp"):
        assert "GPL" not in path.read_text()
