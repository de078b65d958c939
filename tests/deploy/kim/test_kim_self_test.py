"""A portable model is tested when it is installed, with what the potential gave at the export."""

from __future__ import annotations

import json

import pytest
from kim_potentials import make_potential

from adatom.core.errors import DataError
from adatom.deploy.kim.export import ExportOptions, export_potential
from adatom.deploy.kim.export_check import SELF_TEST, ExportError
from adatom.deploy.kim.items import find_item
from adatom.deploy.kim.model_install import install_model
from adatom.deploy.kim.self_test import run_self_test

NAME = "Tested__MO_700000000002_000"


@pytest.fixture(scope="module")
def folder(kim_driver, tmp_path_factory):
    """Return the folder of an exported model."""
    options = ExportOptions(name=NAME, species=("Si", "C"))
    target = tmp_path_factory.mktemp("tested") / NAME
    return export_potential(make_potential("gcn"), options, target, provenance={}).folder


def test_an_installed_model_passes_and_a_wrong_one_does_not_stay(folder):
    assert install_model(folder, "environment").name == NAME
    assert run_self_test(folder, NAME) <= 1e-10
    path = folder / SELF_TEST
    record = json.loads(path.read_text())
    record["structures"][0]["forces"][0][0] += 1e-6
    path.write_text(json.dumps(record))
    with pytest.raises(ExportError, match=r"forces of .* differ by 1\.0e-06"):
        install_model(folder, "environment", force=True)
    assert find_item(NAME) is None


def test_a_damaged_self_test_says_so(folder):
    (folder / SELF_TEST).write_text("{")
    with pytest.raises(DataError, match="damaged"):
        run_self_test(folder, NAME)
