"""Open Catalyst LMDB: the pickles of PyTorch Geometric, written by stub classes of its names.

``graph_of_torch_geometric_2_8_1.pkl`` was written by that package itself (see the test).
"""

from __future__ import annotations

import os
import pickle
import sys
import types
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.io.jsonio import encode

from adatom.core.errors import DataError
from adatom.data import open_dataset


class Data:
    """Stands for ``torch_geometric.data.data.Data``."""


class GlobalStorage:
    """Stands for ``torch_geometric.data.storage.GlobalStorage``."""


class DataEdgeAttr:
    """Stands for the class that newer versions mention."""


@pytest.fixture(autouse=True)
def geometric(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("torch_geometric", "torch_geometric.data"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    for kind, name in ((Data, "data"), (DataEdgeAttr, "data"), (GlobalStorage, "storage")):
        module = sys.modules.get(f"torch_geometric.data.{name}") or types.ModuleType(name)
        setattr(module, kind.__name__, kind)
        monkeypatch.setitem(sys.modules, f"torch_geometric.data.{name}", module)
        monkeypatch.setattr(kind, "__module__", f"torch_geometric.data.{name}")


def old_layout(values: dict[str, Any], protocol: int = 4) -> bytes:
    graph = Data()
    graph.__dict__.update(values)
    return pickle.dumps(graph, protocol=protocol)


def new_layout(values: dict[str, Any], protocol: int = 5) -> bytes:
    graph, store = Data(), GlobalStorage()
    store.__dict__.update({"_mapping": values, "_parent": graph})
    graph.__dict__.update({"_edge_attr_cls": DataEdgeAttr, "_store": store})
    return pickle.dumps(graph, protocol=protocol)


LAYOUTS = [old_layout, new_layout]


def graph(*, edges: bool = False, **more: Any) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    values = {
        "pos": torch.tensor(rng.uniform(0, 4, (3, 3)), dtype=torch.float32),
        "cell": torch.diag(torch.tensor([4.0, 4.0, 9.0]))[None],
        "atomic_numbers": torch.tensor([78.0, 8.0, 1.0]),
        "natoms": 3,
        "tags": torch.tensor([0, 1, 2]),
        "fixed": torch.tensor([1.0, 0.0, 0.0]),
        "y": -1.5,
        "force": torch.tensor(rng.normal(size=(3, 3))),
        "sid": 7,
        "fid": 3,
    }
    if edges:
        values |= {"edge_index": torch.tensor([[0, 1], [1, 0]]), "cell_offsets": torch.zeros(2, 3)}
    return values | more


def write(path: Path, programs: list[bytes], **entries: bytes) -> Path:
    rows = {str(i): program for i, program in enumerate(programs)} | entries
    with (
        lmdb.open(str(path), subdir=False, lock=False, map_size=2**24) as environment,
        environment.begin(write=True) as transaction,
    ):
        for key, value in rows.items():
            transaction.put(key.encode(), value)
    return path


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("edges", [False, True])
@pytest.mark.parametrize("with_length", [False, True])
def test_structures(
    tmp_path: Path, layout: Any, protocol: int, edges: bool, with_length: bool
) -> None:
    values = graph(edges=edges)
    extra = {"length": pickle.dumps(2)} if with_length else {}
    path = write(tmp_path / "data.0000.lmdb", [layout(values, protocol)] * 2, **extra)
    data = open_dataset(path, required=["energy", "forces"])
    assert len(data) == 2
    system = data[1]
    assert system.sid == ["7-frame-3"]
    assert system.atomic_numbers.tolist() == [78, 8, 1]
    assert system.tags.tolist() == [0, 1, 2]
    assert system.fixed.tolist() == [True, False, False]
    assert system.pbc.all()
    assert system.edges is None
    torch.testing.assert_close(system.pos, values["pos"].double())
    torch.testing.assert_close(system.cell, values["cell"].double())
    assert system.labels["energy"].tolist() == [-1.5]
    torch.testing.assert_close(system.labels["forces"], values["force"])
    assert data.label_keys == {"energy": "y", "forces": "force"}


def test_distances_are_those_of_the_nearest_images(tmp_path: Path) -> None:
    values = graph()
    system = open_dataset(write(tmp_path / "a.lmdb", [old_layout(values)]))[0].with_edges(6.0)
    assert system.edges is not None
    atoms = Atoms("PtOH", values["pos"].numpy(), cell=values["cell"][0].numpy(), pbc=True)
    source, target = system.edges.index.numpy()
    lengths = system.edges.vectors(system.pos, system.cell).norm(dim=1).numpy()
    for i, j in ((0, 1), (0, 2), (1, 2)):
        nearest = lengths[(source == i) & (target == j)].min()
        assert nearest == pytest.approx(atoms.get_distance(i, j, mic=True), abs=1e-5)


def test_initial_structures_and_relaxed_energies(tmp_path: Path) -> None:
    values = graph(y_init=-1.0, y_relaxed=-2.0, pos_relaxed=torch.zeros(3, 3))
    for name in ("y", "force", "fid"):
        del values[name]
    data = open_dataset(write(tmp_path / "is2re.lmdb", [new_layout(values)]))
    assert data[0].labels["energy"].tolist() == [-1.0]
    assert data[0].labels["relaxed_energy"].tolist() == [-2.0]
    assert data[0].sid == ["7"]


def test_arrays_and_numbers_of_numpy(tmp_path: Path) -> None:
    values = graph(y=np.float64(-2.5), force=np.asfortranarray(np.ones((3, 3), np.float32)))
    for protocol in (2, 5):
        path = write(tmp_path / f"{protocol}.lmdb", [old_layout(values, protocol)])
        labels = open_dataset(path)[0].labels
        assert labels["energy"].tolist() == [-2.5]
        assert labels["forces"].tolist() == [[1.0] * 3] * 3


def test_views_into_larger_storages(tmp_path: Path) -> None:
    whole = torch.arange(40.0).reshape(4, 10)
    values = graph(force=whole[1:, 2:8:2], pos=whole[:3, :3].T)
    system = open_dataset(write(tmp_path / "a.lmdb", [old_layout(values)]))[0]
    torch.testing.assert_close(system.labels["forces"], values["force"].double())
    torch.testing.assert_close(system.pos, values["pos"].double())


def test_written_by_the_package_itself(tmp_path: Path) -> None:
    program = Path(__file__).with_name("graph_of_torch_geometric_2_8_1.pkl").read_bytes()
    system = open_dataset(write(tmp_path / "a.lmdb", [program]))[0]
    assert system.sid == ["7-frame-3"]
    assert system.atomic_numbers.tolist() == [8, 1, 1]
    assert system.labels["energy"].tolist() == [-1.5]
    assert system.labels["forces"].shape == (3, 3)


class Attack:
    def __reduce__(self) -> Any:
        return os.system, ("touch /tmp/adatom_was_here",)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_nothing_is_executed(tmp_path: Path, layout: Any) -> None:
    path = write(tmp_path / "a.lmdb", [old_layout(graph()), layout(graph(sid=Attack()))])
    with pytest.raises(DataError, match=r"Structure 1 of .*system.*nothing in it was executed"):
        open_dataset(path, lazy=True)[1]
    assert not Path("/tmp/adatom_was_here").exists()
    with pytest.raises(DataError, match="nothing in it was executed"):
        open_dataset(write(tmp_path / "b.lmdb", [], length=pickle.dumps(Attack())))


def test_numbers_are_not_executed_either(tmp_path: Path) -> None:
    tensor = torch.ones(3, 3)
    rebuild, arguments = tensor.__reduce_ex__(2)
    attack = pickle.dumps(Attack())

    class Hidden:
        def __reduce__(self) -> Any:
            return torch.storage._load_from_bytes, (attack,)

    class Tensor:
        def __reduce__(self) -> Any:
            return rebuild, (Hidden(), *arguments[1:])

    path = write(tmp_path / "a.lmdb", [old_layout(graph()), old_layout(graph(force=Tensor()))])
    with pytest.raises(DataError, match="nothing in it was executed"):
        open_dataset(path, lazy=True)[1]
    assert not Path("/tmp/adatom_was_here").exists()


def test_damage_is_named(tmp_path: Path) -> None:
    whole = old_layout(graph())
    programs = [whole, whole[:-40], pickle.dumps([1]), old_layout(graph(pos=torch.ones(2, 3)))]
    programs += [old_layout(graph(atomic_numbers=torch.tensor([1.5, 1.0, 1.0])))]
    path = write(tmp_path / "a.lmdb", programs, length=pickle.dumps(6))
    data = open_dataset(path, lazy=True)
    for i, message in enumerate(
        ["damaged", "not a graph of atoms", "3 atoms, positions", "not whole numbers", "missing"]
    ):
        with pytest.raises(DataError, match=message):
            data[i + 1]


def test_an_ase_database_with_this_ending(tmp_path: Path) -> None:
    import zlib

    path = write(tmp_path / "a.lmdb", [], nextid=zlib.compress(encode(2).encode()))
    with pytest.raises(DataError, match="is an ASE database"):
        open_dataset(path)


def is2re(**more: Any) -> dict[str, Any]:
    values = graph() | {"y_init": 0.5, "y_relaxed": -0.75, "pos_relaxed": torch.ones(3, 3)} | more
    del values["y"], values["force"], values["fid"]
    return values


def test_relaxed_structures_are_labels(tmp_path: Path) -> None:
    path = write(tmp_path / "is2re.lmdb", [old_layout(is2re())])
    (system,) = open_dataset(path)
    assert float(system.labels["relaxed_energy"]) == -0.75
    assert float(system.labels["energy"]) == 0.5
    assert system.labels["relaxed_pos"].tolist() == [[1.0] * 3] * 3
    refs = tmp_path / "references.txt"
    refs.write_text("random7 -100.0\n")
    (total,) = open_dataset(path, energy="total", reference_energies=refs)
    assert [float(total.labels[n]) for n in ("energy", "relaxed_energy")] == [-99.5, -100.75]


def test_kinds_are_not_mixed(tmp_path: Path) -> None:
    write(tmp_path / "data.0000.lmdb", [old_layout(graph())])
    write(tmp_path / "data.0001.lmdb", [old_layout(is2re())])
    with pytest.raises(DataError, match=r"0000\.lmdb' has the labels energy, forces, and .*0001"):
        open_dataset(tmp_path)
    one = write(tmp_path / "one.lmdb", [old_layout(graph()), new_layout(is2re())])
    with pytest.raises(DataError, match=r"Structure 1 of .* has no force, which the first"):
        list(open_dataset(one))


def test_other_lmdb_files_are_refused(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.lmdb"
    with lmdb.open(str(foreign), subdir=False, lock=False) as file, file.begin(write=True) as new:
        new.put(b"molecule", b"benzene")
    with pytest.raises(DataError, match=r"not one of the Open Catalyst Project: .* entry '0'"):
        open_dataset(foreign)
    empty = write(tmp_path / "empty.lmdb", [])
    with pytest.raises(DataError, match="has no structures"):
        open_dataset(empty)
    cut = write(tmp_path / "cut.lmdb", [old_layout(graph())] * 20)
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    with pytest.raises(DataError, match="is cut off"):
        open_dataset(cut)
