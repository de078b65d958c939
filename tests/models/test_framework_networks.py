"""One network in three frameworks, and networks that PyTorch Geometric and DGL have themselves."""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys

import pytest
import torch
from ase.io import read

from adatom.core.errors import MissingExtraError
from adatom.data.atomic_data import AtomicData, collate
from adatom.data.frameworks.import_dgl import import_dgl
from adatom.data.frameworks.pyg import import_pyg
from adatom.models.contract import CHECKS, Subject
from adatom.models.graph_network import as_backbone
from adatom.tasks.domain import Domain
from adatom.tasks.potential import Potential
from adatom.tasks.task import Normalizer, OutputSpec, Task

#: Import path of each network of the examples, and the framework that it needs.
NETWORKS = {
    "own_network.RadialNetwork": "native",
    "pyg_networks.PyGRadialNetwork": "pyg",
    "pyg_networks.PyGSchNet": "pyg",
    "dgl_networks.DGLRadialNetwork": "dgl",
    "dgl_networks.DGLMessagePassing": "dgl",
}
SAME = [path for path in NETWORKS if "RadialNetwork" in path]
#: Given a part of the edges, or built outside of the allowed classes; see test_graph_network.
NOT_HERE = {"state_dict_round_trip", "nested_edges"}


@pytest.fixture
def network(monkeypatch, repository):
    """Return a function from an import path to the class, or skip."""
    monkeypatch.syspath_prepend(repository / "examples")

    def find(path: str):
        try:
            if NETWORKS[path] == "pyg":
                import_pyg()
            if NETWORKS[path] == "dgl":
                import_dgl(without_graphbolt=True)
        except MissingExtraError as error:
            pytest.skip(str(error))
        module, name = path.split(".")
        return getattr(importlib.import_module(module), name)

    return find


def potential(cls, dtype=torch.float64) -> Potential:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        backbone = as_backbone(cls(cutoff=4.5))
    task = Task("e", "system", "energy", OutputSpec((1,), "float64"), Normalizer(), ["default"])
    domains = {"default": Domain((1, 6, 8, 14))}
    return Potential(backbone, backbone.default_head(), [task], domains).to(dtype)


@pytest.fixture
def real(repository) -> AtomicData:
    """Return real structures: crystals, some of their atoms outside of the cell, and molecules."""
    data = repository / "examples" / "data"
    silicon = read(data / "silicon_train.extxyz", index=":2")
    silicon[1].positions[3] += 2 * silicon[1].cell[0] - silicon[1].cell[2]
    molecules = read(data / "acac_train.extxyz", index=":2")
    systems = [AtomicData.from_ase(atoms) for atoms in [*silicon, *molecules]]
    for system in systems:
        system.labels = {}
    return collate(systems).with_edges(4.5)


@pytest.mark.parametrize("path", SAME[1:])
@pytest.mark.parametrize(("dtype", "accuracy"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_the_same_network_in_another_framework_gives_the_same(network, real, path, dtype, accuracy):
    native, other = potential(network(SAME[0]), dtype), potential(network(path), dtype)
    other.load_state_dict(native.state_dict())
    wanted = ("energy", "forces", "stress")
    expected, found = native(real, wanted), other(real, wanted)
    assert float(expected["forces"].abs().max()) > 1e-2
    for name in wanted:
        torch.testing.assert_close(
            found[name], expected[name], rtol=accuracy, atol=accuracy, equal_nan=True
        )


@pytest.mark.parametrize("path", SAME[1:])
def test_training_steps_on_forces_are_those_of_the_native_network(network, real, path):
    losses = {}
    for name in (SAME[0], path):
        trained = potential(network(name))
        optimizer = torch.optim.Adam(trained.parameters(), lr=1e-2)
        losses[name] = []
        for _ in range(4):
            out = trained(real, ["energy", "forces"], create_graph=True)
            loss = ((out["energy"] / real.natoms + 1) ** 2).sum() + (out["forces"] ** 2).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses[name].append(float(loss.detach()))
    assert losses[path] == pytest.approx(losses[SAME[0]], rel=1e-9)
    assert losses[path][-1] < 0.9 * losses[path][0]


@pytest.mark.parametrize("check", [name for name in CHECKS if name not in NOT_HERE])
@pytest.mark.parametrize("path", NETWORKS)
def test_example_keeps_the_promises_of_a_backbone(network, path, check):
    def make():
        backbone = as_backbone(network(path)(cutoff=4.0))
        return backbone, backbone.default_head()

    CHECKS[check](Subject(make))


_IMPORTS = """
import sys
from adatom.core.errors import ConfigError
from adatom.data.frameworks.import_dgl import import_dgl
try:
    import_dgl()
except ConfigError as error:
    print(error)
    assert not [name for name in sys.modules if name == "dgl.graphbolt"]
else:
    sys.exit(3)
dgl = import_dgl(without_graphbolt=True)
import dgl.nn
assert import_dgl() is dgl
import os
assert "DGLBACKEND" not in os.environ
"""


def test_dgl_leaves_a_part_out_only_when_asked_to_and_says_so():
    pytest.importorskip("pandas", reason="needs adatom[dgl]")
    if importlib.util.find_spec("dgl") is None:
        pytest.skip("needs adatom[dgl]")
    done = subprocess.run(
        [sys.executable, "-c", _IMPORTS], capture_output=True, text=True, check=False
    )
    if done.returncode == 3:
        pytest.skip("this DGL imports as it is")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("DGL does not import with PyTorch")
    assert "No module named 'torchdata" in done.stdout
    assert "import_dgl(without_graphbolt=True)" in done.stdout
    assert "as asked for, it is used without its part dgl.graphbolt" in done.stderr
