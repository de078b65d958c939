"""A network of the user's own in the verbs of the command line, by ``--allow``."""

from __future__ import annotations

import numpy as np
import pytest
from ase.io import read

from adatom.checkpoint.format import load_potential, save_potential
from adatom.cli.main import main
from adatom.core.precision import seeded
from adatom.data.atomic_data import AtomicData
from adatom.models.graph_network import as_backbone
from adatom.tasks.domain import Domain
from adatom.tasks.potential import Potential
from adatom.tasks.task import Normalizer, OutputSpec, Task

NAME = "own_network.RadialNetwork"


@pytest.fixture
def model(tmp_path, monkeypatch, repository):
    """Save an untrained potential of the example."""
    monkeypatch.syspath_prepend(repository / "examples")
    from own_network import RadialNetwork

    with seeded(1):
        backbone = as_backbone(RadialNetwork(cutoff=4.5))
    task = Task("e", "system", "energy", OutputSpec((1,), "float64"), Normalizer(), ["si"])
    potential = Potential(backbone, backbone.default_head(), [task], {"si": Domain((14,))})
    path = tmp_path / "own.safetensors"
    save_potential(potential, path)
    return path


@pytest.fixture
def silicon(repository):
    return repository / "examples" / "structures" / "silicon_64_300K.extxyz"


def test_predict_relax_and_md_with_an_own_network(model, silicon, tmp_path, capsys):
    predicted, relaxed = tmp_path / "predicted.extxyz", tmp_path / "relaxed.extxyz"

    def run(verb: str, *arguments: str) -> int:
        use = [verb, str(silicon), "--model", str(model), *arguments]
        return main(["--allow", NAME, *use])

    assert run("predict", "-o", str(predicted)) == 0
    found = read(predicted).calc.results
    data = AtomicData.from_ase(read(silicon), dataset="si").with_edges(4.5)
    expected = load_potential(model, allow=[NAME])(data, ["energy", "forces", "stress"])
    assert found["energy"] == pytest.approx(float(expected["energy"].detach()), rel=1e-5)
    np.testing.assert_allclose(found["forces"], expected["forces"].detach(), atol=1e-5)

    run("relax", "-o", str(relaxed), "--steps", "2")
    assert read(relaxed).get_potential_energy() < found["energy"]
    trajectory = tmp_path / "md.traj"
    assert run("md", "-o", str(trajectory), "--steps", "2", "--interval", "1") == 0
    assert len(read(trajectory, ":")) == 3
    capsys.readouterr()


def test_an_own_network_is_loaded_only_if_allowed(model, silicon, tmp_path, capsys):
    command = ["predict", str(silicon), "--model", str(model), "-o", str(tmp_path / "out.xyz")]
    assert main(command) == 2
    assert NAME in capsys.readouterr().err
