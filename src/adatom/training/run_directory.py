"""The directory of one run: it explains itself, and the same command continues it."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

from adatom.core.errors import ConfigError
from adatom.core.files import atomic_write, require_writable
from adatom.training.checkpointing.directory import newest_checkpoint

#: Packages whose versions may change results.
_PACKAGES = ("adatom", "torch", "lightning", "numpy", "ase", "vesin", "jsonargparse")

#: On how many and which processors a run goes on may change; its numbers do not.
_WHERE = {f"trainer.{name}" for name in ("accelerator", "devices", "num_nodes", "strategy")}
_WHERE |= {"model.train_strategy", "binding.bind", "devices", "strategy"}


class RunDirectory:
    """``config.yaml``, ``versions.json``, ``data.json``, ``metrics.csv``, checkpoints, result.

    Args:
        path: Of the directory; made when something is written.

    Raises:
        FileAccessError: If nothing can be written there.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser()
        require_writable(self.path / "config.yaml")

    @property
    def last_checkpoint(self) -> Path | None:
        """The state to resume from, or None if the run has saved none yet."""
        return newest_checkpoint(self.path / "checkpoints")

    @property
    def result(self) -> dict[str, Any] | None:
        """What :meth:`finish` wrote, or None if the run has not finished."""
        found: dict[str, Any] | None = self._read("result.json")
        return found

    def begin(self, config: Mapping[str, Any]) -> None:
        """Write down the configuration of a new run, or compare it with that of an old one.

        Args:
            config: Resolved, as plain values.

        Raises:
            ConfigError: If the directory belongs to a run with another configuration.
        """
        stored = self.path / "config.yaml"
        if stored.exists() and self.last_checkpoint is not None:
            old = yaml.safe_load(stored.read_text())
            for key, before, now in differences(old, dict(config)):
                if key in _WHERE:
                    continue
                raise ConfigError(
                    f"{str(self.path)!r} holds a run with another configuration: {key} was "
                    f"{before!r} and is now {now!r}",
                    fix="Set another run_dir for a new run, or take back the change to continue.",
                )
            return
        with atomic_write(stored) as part:
            part.write_text(yaml.safe_dump(dict(config), sort_keys=False))
        self._write("versions.json", _versions())

    def check_data(self, fingerprints: Mapping[str, Any]) -> None:
        """Write down what was read, or refuse to continue with other data.

        Raises:
            ConfigError: If the run began with other data.
        """
        now = json.loads(json.dumps(fingerprints))
        old = self._read("data.json")
        if old is not None and self.last_checkpoint is not None and old != now:
            raise ConfigError(
                f"The data have changed since the run in {str(self.path)!r} began",
                expected="the files that data.json there describes",
                fix="Put the files back to continue, or set another run_dir for a new run.",
            )
        self._write("data.json", now)

    def finish(self, result: Mapping[str, Any]) -> None:
        """Write down that the run is complete, and how it ended."""
        self._write("result.json", dict(result))

    def contents(self) -> dict[str, Any]:
        """Return what the JSON files of the directory hold, by name, and the ``name`` of the run.

        Files that do not exist are left out.
        """
        names = ("data", "preflight", "result", "versions")
        found = {name: self._read(f"{name}.json") for name in names}
        return {"name": self.path.resolve().name} | {k: v for k, v in found.items() if v}

    def _read(self, name: str) -> Any:
        path = self.path / name
        return json.loads(path.read_text()) if path.exists() else None

    def _write(self, name: str, content: Any) -> None:
        with atomic_write(self.path / name) as part:
            part.write_text(json.dumps(content, indent=1) + "\n")


def differences(old: Any, new: Any, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield (dotted key, old, new) for every value that differs between two configurations."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(key for key in new if key not in old)]:
            yield from differences(old.get(key), new.get(key), f"{prefix}{key}.")
    elif old != new:
        yield prefix.removesuffix("."), old, new


def _versions() -> dict[str, str]:
    found = {"python": sys.version.split()[0], "platform": platform.platform()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "(not installed as a package)"
    return found
