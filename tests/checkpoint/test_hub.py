"""The real client against a small hub on this machine; every failure is one sentence."""

from __future__ import annotations

import errno
import time

import pytest
from huggingface_hub import constants

from adatom.checkpoint import hub
from adatom.checkpoint.format import load_potential, save_potential
from adatom.checkpoint.hub import cache_folders, fetch, find_cached
from adatom.checkpoint.names import resolve_checkpoint
from adatom.checkpoint.published import PUBLISHED, published
from adatom.core.errors import CheckpointError, FileAccessError, UnknownNameError
from local_hub import REPO, serve_hub
from toy_backbone import ToyBackbone, ToyHead, toy_potential

FILE = "checkpoints/uma-s-1p1.pt"


@pytest.fixture
def local_hub(monkeypatch, tmp_path):
    with serve_hub(monkeypatch, tmp_path) as state:
        yield state


def test_a_file_is_downloaded_once(local_hub, tmp_path, monkeypatch):
    local_hub.files[FILE] = b"weights" * 1000
    assert find_cached(REPO, FILE) is None
    path = fetch(REPO, FILE)
    assert path.read_bytes() == b"weights" * 1000
    assert (tmp_path / "cache" / "hub") in path.parents
    asked = local_hub.requests
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert fetch(REPO, FILE) == find_cached(REPO, FILE) == path
    assert local_hub.requests == asked


def test_a_published_name_gives_a_potential(local_hub, tmp_path):
    save_potential(toy_potential(("gold",)), tmp_path / "toy.safetensors")
    local_hub.files[FILE] = (tmp_path / "toy.safetensors").read_bytes()
    assert load_potential("uma-s-1p1", allow=[ToyBackbone, ToyHead]).datasets == ["gold"]
    other = resolve_checkpoint("uma-s-1p1", cache_dir=tmp_path / "elsewhere")
    assert tmp_path / "elsewhere" in other.parents


def test_a_local_file_goes_before_a_published_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "uma-s-1p1").write_bytes(b"mine")
    assert resolve_checkpoint("uma-s-1p1").read_bytes() == b"mine"


def test_a_download_goes_on_where_it_stopped(local_hub, monkeypatch):
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 2**18)
    local_hub.files[FILE] = bytes(range(256)) * 8192
    local_hub.cut = 2**20
    assert fetch(REPO, FILE).read_bytes() == local_hub.files[FILE]
    assert local_hub.ranges[0] is None
    assert any(asked and asked != "bytes=0-" for asked in local_hub.ranges[1:])


def test_a_wrong_checksum_is_seen_and_nothing_stays(local_hub):
    local_hub.files[FILE] = b"altered on the way"
    local_hub.digest = "0" * 64
    with pytest.raises(CheckpointError, match="does not match its SHA-256, so it was removed"):
        fetch(REPO, FILE)
    assert find_cached(REPO, FILE) is None
    local_hub.digest = None
    assert fetch(REPO, FILE).read_bytes() == b"altered on the way"


def test_without_a_token_the_way_to_one_is_said(local_hub):
    local_hub.token = "hf_right"
    with pytest.raises(FileAccessError, match=r"no token .* Ask for access on https://hugg.*/UMA"):
        fetch(REPO, FILE)


def test_a_token_without_access_is_told_apart(local_hub, monkeypatch):
    local_hub.token = "hf_right"
    local_hub.files[FILE] = b"weights"
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    with pytest.raises(FileAccessError, match=r"gives no access .* wait until it is granted"):
        fetch(REPO, FILE)
    monkeypatch.setenv("HF_TOKEN", "hf_right")
    assert fetch(REPO, FILE).read_bytes() == b"weights"


def test_a_file_that_is_gone_is_named(local_hub):
    with pytest.raises(FileAccessError, match="was renamed or withdrawn"):
        fetch(REPO, FILE)


@pytest.mark.parametrize(("forbidden", "reason"), [(True, "forbidden"), (False, "HF_HUB_OFFLINE")])
def test_offline_is_said(local_hub, monkeypatch, forbidden, reason):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", not forbidden)
    with pytest.raises(FileAccessError, match=f"is not in .*cache/hub', and .*{reason}"):
        fetch(REPO, FILE, local_files_only=forbidden)
    assert local_hub.requests == 0


def test_no_network_is_said(local_hub, monkeypatch):
    template = "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    # The client tries several times, and waits between.
    monkeypatch.setattr(time, "sleep", lambda _: None)
    with pytest.raises(FileAccessError, match=r"127\.0\.0\.1:9 cannot be reached"):
        fetch(REPO, FILE)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "does not fit on the disk"),
        (PermissionError(errno.EACCES, "Permission denied"), "folder that you can write to"),
        (RuntimeError("the proxy said 502\nand more"), "the proxy said 502. Try again"),
        (RuntimeError(), "RuntimeError"),
    ],
)
def test_other_failures_have_their_sentence(local_hub, monkeypatch, error, message):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fail)
    with pytest.raises(FileAccessError, match=message):
        fetch(REPO, FILE)


def test_folders_are_those_of_the_environment(monkeypatch, tmp_path):
    monkeypatch.delenv("ADATOM_CACHE_DIR", raising=False)
    monkeypatch.setenv("FAIRCHEM_CACHE_DIR", str(tmp_path / "theirs"))
    assert cache_folders() == [tmp_path / "theirs"]
    monkeypatch.setenv("ADATOM_CACHE_DIR", str(tmp_path / "ours"))
    assert cache_folders() == [tmp_path / "ours" / "hub", tmp_path / "theirs"]
    assert cache_folders(tmp_path) == [tmp_path]
    monkeypatch.delenv("ADATOM_CACHE_DIR")
    monkeypatch.delenv("FAIRCHEM_CACHE_DIR")
    assert str(cache_folders()[0]) == constants.HF_HUB_CACHE


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("uma-s-1p3", "did you mean 'uma-s-1p"),
        ("uma-sm", "was renamed"),
        ("uma-s-1", "UMA 1.0"),
        ("uma-m", "Use 'uma-m-1p1'"),
        ("allscaip-md-direct-all-omol", "another architecture"),
        ("mace", "one of: .*default"),
    ],
)
def test_unknown_names_are_explained(name, message):
    with pytest.raises(UnknownNameError, match=message):
        resolve_checkpoint(name)


def test_every_published_name_is_complete():
    for name in PUBLISHED:
        where = published(name)
        assert where.repo_id.startswith("facebook/")
        assert where.filename.endswith(".pt")
        assert where.atom_refs is None or where.atom_refs.endswith(".yaml")
    assert hub.cache_folders("~")[0].is_absolute()
