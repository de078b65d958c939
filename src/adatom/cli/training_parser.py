"""The parser of the trainings: Lightning's, with mistakes as one sentence."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import yaml
from lightning.pytorch import Trainer
from lightning.pytorch.cli import LightningArgumentParser

from adatom.cli.arguments import Parser
from adatom.cli.trainer_options import NOT_OPTIONS, explain_missing_option
from adatom.core.errors import ConfigError, unknown_name
from adatom.models.registry import registered_classes
from adatom.training.data_module import AtomisticDataModule
from adatom.training.graph_data_module import DGLDataModule, GraphDataModule, PyGDataModule
from adatom.training.torch_optimizer import unknown_class

#: Data modules that ``data.class_path`` may name without their module.
DATA_CLASSES = (AtomisticDataModule, GraphDataModule, PyGDataModule, DGLDataModule)


class TrainingParser(Parser, LightningArgumentParser):
    """Lightning's parser with mistakes as one sentence."""

    def add_class_arguments(self, *args: Any, **kwargs: Any) -> list[str]:
        """Add the arguments of a class, none of which may be replaced by a file with its value.

        Otherwise ``data.train: structures.xyz`` would read the file as if it were configuration.
        """
        settings = kwargs | {"sub_configs": False}
        is_trainer = isinstance(args[0], type) and issubclass(args[0], Trainer)
        if is_trainer:
            settings["skip"] = set(NOT_OPTIONS)
        added: list[str] = super().add_class_arguments(*args, **settings)
        if is_trainer:
            self._let_strategy_be_null()
        return added

    def add_subclass_arguments(self, *args: Any, **kwargs: Any) -> None:
        """Add a class that is chosen by its path; its arguments are no files either."""
        super().add_subclass_arguments(*args, **kwargs)
        for action in self._actions:
            inner = getattr(action, "sub_add_kwargs", None)
            if inner and action.dest == args[1]:
                inner["sub_configs"] = False

    def refuse_unknown_keys(self, files: Sequence[str | os.PathLike[str]]) -> None:
        """Look for what parsing does not notice: an unknown key with an empty value.

        Raises:
            UnknownNameError: If a configuration file has one.
        """
        known = {action.dest.partition(".")[0] for action in self._actions}
        for file in files:
            for key in yaml.safe_load(Path(os.fspath(file)).read_text(encoding="utf-8")) or {}:
                if key.partition(".")[0] not in known:
                    raise unknown_name("key", key, known)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise the mistake as one sentence; an unknown class name gets the known ones.

        Raises:
            AdatomError: Always.
        """
        missing = explain_missing_option(message)
        if missing is not None:
            raise missing from ex
        unknown = re.search(r"dot import path string: (\S+)|given class_path '([^']+)'", message)
        if unknown:
            key = message.partition('"')[2].partition('"')[0]
            known = (unknown[1] or unknown[2]) in registered_classes()
            # Of a union, the class that was meant complains about something else than its name.
            inner = re.search(r"^ *- (?!Expected a )(.+)$", message, re.MULTILINE)
            if known and inner:
                raise ConfigError(f"In {key!r}: {inner[1]}") from ex
            _refuse_class(key, unknown[1] or unknown[2], ex)
        super().error(message, ex)

    def _let_strategy_be_null(self) -> None:
        """Accept ``trainer.strategy: null``, as configurations of Lightning 1 have it."""
        for action in self._actions:
            if action.dest == "trainer.strategy":
                vars(action)["_typehint"] = vars(action)["_typehint"] | None


def _refuse_class(key: str, name: str, cause: Exception | None) -> None:
    """Raise the error for a class that is not known where it is named, if it can be told."""
    if key == "data":
        known = [kind.__name__ for kind in DATA_CLASSES]
        raise unknown_name("data.class_path", name, known) from cause
    if key in ("optimizer", "lr_scheduler"):
        raise unknown_class(key, name) from cause
    if "." not in name and name in registered_classes():
        part = key.rpartition(".")[2]
        raise ConfigError(f"{name} cannot be the {part} of a model") from cause
    if "." not in name:
        raise unknown_name("model class", name, registered_classes()) from cause


def names_data_class(arguments: Sequence[str]) -> bool:
    """Tell whether the data are given as ``{class_path, init_args}``.

    Args:
        arguments: Of the command line; its configuration files are looked into.
    """
    for i, word in enumerate(arguments):
        name, equals, value = word.partition("=")
        if name in ("--data", "--data.class_path") or name.startswith("--data.init_args"):
            return True
        if name in ("--config", "-c"):
            file = value if equals else (*arguments, "")[i + 1]
            data = _entry(file, "data")
            if isinstance(data, str) or (isinstance(data, dict) and "class_path" in data):
                return True
    return False


def _entry(file: str, key: str) -> Any:
    """Return an entry of a YAML file; None where there is none, which the parser will tell."""
    try:
        content = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return None
    return content.get(key) if isinstance(content, dict) else None
