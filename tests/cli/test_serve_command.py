"""``adatom serve``: what it refuses before anything is started."""

from __future__ import annotations

import builtins
import socket
import sys
from pathlib import Path

import pytest

from adatom.cli.main import main
from adatom.cli.serve import _named
from adatom.core.errors import ConfigError
from adatom.inference.serving import access, server

sys.path.insert(0, str(Path(__file__).parents[1] / "inference" / "serving"))

from tiny_checkpoint import save_tiny

TOKEN = "0123456789abcdef"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("model") / "small.safetensors")


@pytest.fixture
def refused(model, capsys, monkeypatch):
    """Return what is said to a command that must not start anything."""
    monkeypatch.delenv("ADATOM_TOKEN", raising=False)

    def started(*_):
        raise AssertionError("The service was started")

    monkeypatch.setattr(server, "run", started)

    def refuse(*arguments):
        assert main(["serve", model, *arguments]) == 2
        return capsys.readouterr().err

    return refuse


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_other_machines_need_a_token(refused, host):
    assert f"open to everybody who reaches {host!r}" in refused("--host", host)


def test_a_token_file_is_private_and_long_enough(refused, tmp_path):
    path = tmp_path / "token"
    path.write_text(TOKEN)
    path.chmod(0o644)
    assert "Other users may read the token file" in refused("--token-file", str(path))
    path.chmod(0o600)
    path.write_text("short")
    assert "The token has 5 characters" in refused("--token-file", str(path))
    path.write_text("two words")
    assert "has 2 words" in refused("--token-file", str(path))
    assert "does not exist" in refused("--token-file", str(tmp_path / "none"))


def test_tokens_come_from_file_or_environment(tmp_path, monkeypatch):
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    path.chmod(0o600)
    monkeypatch.setenv("ADATOM_TOKEN", "of-the-environment")
    assert access.token_from(str(path)) == TOKEN
    assert access.token_from(None) == "of-the-environment"
    monkeypatch.delenv("ADATOM_TOKEN")
    assert access.token_from(None) is None
    for host in ("127.0.0.1", "localhost", "::1", "127.9.9.9"):
        access.require_safe(host, None)
    access.require_safe("0.0.0.0", TOKEN)


def test_a_taken_port_is_refused(refused):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"Nothing can listen on 127.0.0.1:{port}" in refused("--port", str(port))
    assert "The port is 0" in refused("--port", "0")


def test_other_mistakes(refused, model, tmp_path):
    assert "replicas is 0" in refused("--replicas", "0")
    assert "max_atoms is 0" in refused("--max-atoms", "0")
    assert "did you mean 'default'" in refused("--settings", "defalt")
    assert "does not exist" in refused(str(tmp_path / "none.safetensors"))
    assert "Two models have the name 'small'" in refused(model)


def test_names_of_models(model):
    assert _named([model, f"b={model}", "default"]) == {
        "small": model,
        "b": model,
        "default": "default",
    }
    with pytest.raises(ConfigError, match="Expected FILE, or NAME=FILE"):
        _named(["=x"])


def test_without_ray_the_extra_is_named(refused, monkeypatch):
    imported = builtins.__import__

    def without(name, *arguments):
        if name.split(".")[0] == "ray":
            raise ImportError(name)
        return imported(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", without)
    assert "pip install 'adatom[ray]'" in refused()
