"""Metrics for Weights & Biases, which is an extra; nothing here needs an account."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch.loggers.logger import Logger

from adatom.core.errors import ConfigError, MissingExtraError
from adatom.core.files import atomic_write


@dataclass(slots=True, kw_only=True)
class WandbSettings:
    """Which run of Weights & Biases follows a training.

    Attributes:
        project: Made if there is none of this name.
        name: Of the run; null takes that of the run directory.
        entity: User or team; null takes the default one of the account.
        mode: ``online``; ``offline`` writes to the run directory only, without an account
            (``wandb sync`` uploads it later).
        tags: For searching.
    """

    project: str = "adatom"
    name: str | None = None
    entity: str | None = None
    mode: Literal["online", "offline"] = "online"
    tags: list[str] | None = None


class WandbMetrics(Logger):
    """Scalars for one run of Weights & Biases, which a resumed training continues.

    Args:
        settings: Where they go.
        folder: Of the run; it keeps the id in ``wandb_id.txt`` and files in ``wandb/``.
        config: Resolved, shown beside the curves.

    Raises:
        MissingExtraError: If wandb is not installed.
    """

    def __init__(self, settings: WandbSettings, folder: Path, config: Mapping[str, Any]) -> None:
        super().__init__()
        self._wandb = _import_wandb()
        self._settings, self._folder, self._config = settings, folder, dict(config)
        self._run: Any = None

    @property
    def name(self) -> str:
        """Name of the logger."""
        return "wandb"

    @property
    def version(self) -> str:
        """There is one version."""
        return ""

    def start(self) -> None:
        """Begin or continue the run; the first metrics do so too.

        Raises:
            ConfigError: If W&B refuses, for example without an account.
        """
        if self._run is not None:
            return
        settings = self._settings
        try:
            self._run = self._wandb.init(
                project=settings.project,
                name=settings.name or self._folder.name,
                entity=settings.entity,
                mode=settings.mode,
                tags=settings.tags,
                dir=str(self._folder),
                id=self._id(),
                resume="allow",
                config=self._config,
                # Our own output stays as it is.
                settings=self._wandb.Settings(console="off", silent=True),
            )
        except self._wandb.errors.Error as error:
            raise ConfigError(
                f"Weights & Biases cannot be started: {str(error).splitlines()[0]}",
                fix="Run 'wandb login', or set wandb.mode: offline.",
            ) from error

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Send scalars."""
        self.start()
        self._run.log(dict(metrics), step=step)

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the configuration is sent when the run begins."""

    def finalize(self, status: str) -> None:
        """End the run."""
        if self._run is not None:
            self._run.finish(exit_code=0 if status == "success" else 1)
            self._run = None

    def _id(self) -> str:
        """Return the id of the run in this folder; a resumed training has the same one."""
        path = self._folder / "wandb_id.txt"
        if not path.exists():
            with atomic_write(path) as part:
                part.write_text(secrets.token_hex(6) + "\n")
        return path.read_text().strip()


def _import_wandb() -> Any:
    try:
        import wandb
    except ImportError as error:
        raise MissingExtraError("wandb", "wandb") from error
    return wandb
