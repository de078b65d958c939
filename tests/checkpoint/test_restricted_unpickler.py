"""Whatever a pickle asks for, nothing is imported, called or changed."""

from __future__ import annotations

import builtins
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from collections import OrderedDict, defaultdict

import pytest
import torch

from adatom.checkpoint import restricted_unpickler
from adatom.checkpoint.format import load_potential, read_description
from adatom.checkpoint.omegaconf_records import plain
from adatom.checkpoint.restricted_unpickler import ALLOWED_GLOBALS, read_pickle
from adatom.checkpoint.torch_archive import open_archive
from adatom.core.errors import CheckpointError

#: Offset, shape and stride that do not fit a storage of 12 numbers.
WRONG_VIEWS = [
    (0, (13,), (1,)),
    (9, (4,), (1,)),
    (-1, (2,), (1,)),
    (0, (2,), (12,)),
    (0, (2, 2), (1,)),
    (0, (10**15,), (0,)),
    ("0", (2,), (1,)),
    (0, 2, (1,)),
]


class Call:
    """Pickles as a call of ``function``."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.fixture
def marker(tmp_path):
    """Yield the name of a file that the attacks would make, and that must not exist afterwards."""
    file = tmp_path / "executed"
    yield file
    assert not file.exists()


def archive(path, program):
    """Write a zip file as torch.save would, around any pickle."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as file:
        file.writestr("evil/data.pkl", program)
        file.writestr("evil/byteorder", "little")
        file.writestr("evil/data/0", struct.pack("<4f", 1, 2, 3, 4))
    return path


@pytest.mark.parametrize("protocol", range(6))
def test_calls_are_refused_with_the_name_of_the_global(tmp_path, marker, protocol):
    attacks = {
        f"{os.system.__module__}.system": Call(os.system, f"touch {marker}"),
        "eval": Call(builtins.eval, f"open({str(marker)!r}, 'w')"),
        "exec": Call(builtins.exec, f"open({str(marker)!r}, 'w')"),
        "Popen": Call(subprocess.Popen, ["touch", str(marker)]),
        "getattr": Call(getattr, "text", "upper"),
        "import_module": Call(__import__("importlib").import_module, "antigravity"),
    }
    for name, attack in attacks.items():
        for contents in (attack, {"model_config": [attack]}, OrderedDict(a=(1, attack))):
            file = archive(tmp_path / "evil.pt", pickle.dumps(contents, protocol=protocol))
            for read in (load_potential, read_description):
                with pytest.raises(CheckpointError, match=rf"asks for '[^']*{name}'") as caught:
                    read(file)
                assert "nothing in the file was executed" in str(caught.value)
    assert "antigravity" not in sys.modules


def test_a_pickle_written_by_torch_is_refused_just_so(tmp_path, marker):
    torch.save({"weights": torch.zeros(2), "x": Call(os.system, f"touch {marker}")}, tmp_path / "x")
    with pytest.raises(CheckpointError, match=r"asks for '(posix|nt)\.system'"):
        load_potential(tmp_path / "x")


@pytest.mark.parametrize(
    "name",
    [
        "collections OrderedDict.fromkeys",
        "collections OrderedDict.__init__.__globals__",
        "torch load",
        "torch._utils _rebuild_tensor_v2.__globals__",
        "torch.storage _load_from_bytes",
        "builtins __import__",
        "omegaconf.nodes AnyNode.__init__",
        "adatom.checkpoint.restricted_unpickler read_pickle",
    ],
)
def test_names_near_the_allowed_ones_are_refused(name):
    module, attribute = name.split()
    old = f"c{module}\n{attribute}\n)R.".encode()
    new = pickle.PROTO + b"\x04" + b"".join(
        pickle.SHORT_BINUNICODE + bytes([len(part)]) + part.encode() for part in (module, attribute)
    ) + b"\x93)R."  # fmt: skip
    for program in (old, new):
        with pytest.raises(CheckpointError, match="asks for"):
            read_pickle(program, "x")


def test_the_extension_registry_is_refused():
    with pytest.raises(CheckpointError, match="extension registry"):
        read_pickle(b"\x80\x02\x82\x01.", "x")


@pytest.mark.parametrize("name", sorted(ALLOWED_GLOBALS))
def test_classes_and_names_on_the_list_cannot_be_changed(name):
    """BUILD sets attributes of whatever lies on the stack: here of the records' classes."""
    module, _, attribute = name.rpartition(".")
    before = {n: dict(vars(v)) for n, v in ALLOWED_GLOBALS.items() if isinstance(v, type)}
    state = pickle.dumps((None, {"__reduce__": 1, "state": 2, "view": 3}), protocol=2)[2:-1]
    plain_state = pickle.dumps({"state": 2, "view": 3}, protocol=2)[2:-1]
    for change in (state, plain_state):
        with pytest.raises(CheckpointError):
            read_pickle(f"c{module}\n{attribute}\n".encode() + change + b"b.", "x")
    after = {n: dict(vars(v)) for n, v in ALLOWED_GLOBALS.items() if isinstance(v, type)}
    assert before == after


def test_names_of_types_cannot_be_called():
    for name in ("__builtin__ dict", "torch FloatStorage", "typing Any"):
        module, attribute = name.split()
        with pytest.raises(CheckpointError, match="damaged"):
            read_pickle(f"c{module}\n{attribute}\n)R.".encode(), "x")


def test_harmless_containers_are_read():
    contents = {"a": OrderedDict(x=1), "b": defaultdict(dict, y=[2.5, None, True])}
    for protocol in range(6):
        found = read_pickle(pickle.dumps(contents, protocol=protocol), "x")
        assert found == {"a": {"x": 1}, "b": {"y": [2.5, None, True]}}


def test_tensors_are_views_with_checked_bounds(tmp_path):
    whole = torch.arange(12, dtype=torch.float32).reshape(3, 4)
    tensors = {"t": whole.T[1:], "d": whole.double(), "n": torch.tensor(7), "e": torch.zeros(0, 3)}
    torch.save(tensors, tmp_path / "x.pt")
    with open_archive(tmp_path / "x.pt") as file:
        records = file.contents()
        for name, tensor in tensors.items():
            read = file.tensor(records[name])
            assert read.dtype == tensor.dtype
            assert torch.equal(read, tensor)
        storage, *_ = records["t"].view
        for offset, shape, stride in WRONG_VIEWS:
            records["t"].view = (storage, offset, shape, stride)
            with pytest.raises(CheckpointError, match="damaged"):
                file.tensor(records["t"])


@pytest.mark.parametrize("stem", ["plain", "größe", "水"])
def test_archives_are_named_after_their_file_in_any_language(tmp_path, stem):
    torch.save({"a": torch.arange(5)}, tmp_path / f"{stem}.pt")
    with open_archive(tmp_path / f"{stem}.pt") as file:
        assert file.tensor(file.contents()["a"]).tolist() == [0, 1, 2, 3, 4]


def test_an_entry_under_the_name_of_another_is_refused(tmp_path):
    """Its checksum would be right, but its weights those of another layer."""
    torch.save({"a": torch.zeros(5), "b": torch.ones(5)}, tmp_path / "x.pt")
    whole = (tmp_path / "x.pt").read_bytes()
    directory = whole.index(b"PK\x01\x02")
    swapped = whole[directory:].replace(b"x/data/1", b"x/data/0")
    (tmp_path / "x.pt").write_bytes(whole[:directory] + swapped)
    with pytest.raises(CheckpointError, match="same name"), open_archive(tmp_path / "x.pt"):
        pass
    swapped = whole[directory:].replace(b"x/data/1", b"x/data/2").replace(b"x/data/0", b"x/data/1")
    (tmp_path / "x.pt").write_bytes(whole[:directory] + swapped.replace(b"data/2", b"data/0"))
    with open_archive(tmp_path / "x.pt") as file:
        contents = file.contents()
        with pytest.raises(CheckpointError, match="another name where it lies"):
            file.tensor(contents["a"])


def test_a_memo_larger_than_the_program_is_refused_before_it_is_made():
    program = b"\x80\x02Nr\xff\xff\xff\xff."
    with pytest.raises(CheckpointError, match="remembers an object in place 4294967295"):
        read_pickle(program, "x")


def test_more_numbers_than_the_file_holds_are_refused(tmp_path):
    torch.save({"a": torch.zeros(10**5)}, tmp_path / "x.pt")
    with open_archive(tmp_path / "x.pt") as file:
        record = file.contents()["a"]
        with pytest.raises(CheckpointError, match="more numbers than it holds"):
            [file.tensor(record) for _ in range(10)]


def test_tensors_that_share_a_storage_do_not_share_memory(tmp_path):
    whole = torch.arange(10.0)
    torch.save({"a": whole, "b": whole[:5]}, tmp_path / "x.pt")
    with open_archive(tmp_path / "x.pt") as file:
        contents = file.contents()
        a, b = file.tensor(contents["a"]), file.tensor(contents["b"])
    a.zero_()
    assert b.tolist() == [0, 1, 2, 3, 4]


def test_damaged_archives_are_named(tmp_path):
    torch.save({"a": torch.arange(1000)}, tmp_path / "whole.pt")
    whole = (tmp_path / "whole.pt").read_bytes()
    for keep in (10, len(whole) // 2, len(whole) - 1):
        (tmp_path / "cut.pt").write_bytes(whole[:keep])
        with pytest.raises(CheckpointError, match=r"cut\.pt"):
            load_potential(tmp_path / "cut.pt")
    position = whole.index(struct.pack("<3q", 500, 501, 502))
    (tmp_path / "bad.pt").write_bytes(whole[:position] + b"\xff" + whole[position + 1 :])
    with open_archive(tmp_path / "bad.pt") as file, pytest.raises(CheckpointError, match="CRC"):
        file.tensor(file.contents()["a"])


def test_compressed_and_foreign_zip_files_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("x/data.pkl", pickle.dumps("0" * 10**6))
    with pytest.raises(CheckpointError, match="is compressed"):
        load_potential(tmp_path / "bomb.pt")
    with zipfile.ZipFile(tmp_path / "notes.zip", "w") as file:
        file.writestr("notes.txt", "nothing")
    with pytest.raises(CheckpointError, match=r"not one that torch.save wrote"):
        load_potential(tmp_path / "notes.zip")


def test_settings_without_end_are_refused():
    endless: list[object] = []
    endless.append(endless)
    with pytest.raises(CheckpointError, match="nested"):
        plain(read_pickle(pickle.dumps(endless), "x"))
    node = restricted_unpickler.ValueRecord()
    node.state = {"_val": "${oc.env:HOME}"}
    with pytest.raises(CheckpointError, match="interpolation"):
        plain({"a": node})
    with pytest.raises(CheckpointError, match="MetadataRecord in settings, a"):
        plain({"a": restricted_unpickler.MetadataRecord()}, "settings")
