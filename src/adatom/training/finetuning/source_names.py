"""Which level of theory each file of a fine-tuning belongs to."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from adatom.core.errors import ConfigError, unknown_name
from adatom.training.data_source import DataSource, Sources, as_sources

#: Of a source whose dataset was not named.
_UNNAMED = "default"


def named_sources(sources: Sources, known: Sequence[str], name: str | None) -> list[DataSource]:
    """Return sources that all say their dataset.

    Args:
        sources: As given.
        known: Datasets of the base.
        name: For those without one; None takes the name of the first file.

    Raises:
        ConfigError: If the name of the file is that of a dataset of the base: whether the level of
            theory is the same must be said.
    """
    found = as_sources(sources)
    unnamed = [source for source in found if source.dataset == _UNNAMED]
    if not unnamed:
        return found
    if name is None:
        first = unnamed[0].path
        stem = Path(first if isinstance(first, str) else first[0]).name.split(".")[0]
        name = re.sub(r"\W+", "_", stem) or "new"
        if name in known:
            raise ConfigError(
                f"The data are called {name!r} as a dataset of the base",
                fix=f"Say --dataset {name} if they were computed in the same way, or another name.",
            )
    return [replace(s, dataset=name) if s.dataset == _UNNAMED else s for s in found]


def sources_of_base(sources: Sources, known: Sequence[str], what: str) -> list[DataSource]:
    """Return sources whose datasets are all among those of the base.

    Args:
        sources: As given; without a name they are of the only dataset of the base.
        known: Datasets of the base.
        what: For messages.

    Raises:
        UnknownNameError: If one is not.
        ConfigError: If one is not named and the base has several.
    """
    found = []
    for source in as_sources(sources):
        named = source
        if source.dataset == _UNNAMED and _UNNAMED not in known:
            if len(known) > 1:
                raise ConfigError(
                    f"{what} does not say which dataset {str(source.path)!r} belongs to",
                    expected=f"a source with dataset among: {', '.join(known)}",
                )
            named = replace(source, dataset=known[0])
        if named.dataset not in known:
            raise unknown_name(f"dataset of {what}", named.dataset, known)
        found.append(named)
    return found


def like_of(like: str | dict[str, str] | None, new: str, known: Sequence[str]) -> str:
    """Return the dataset of the base that a new one begins as.

    Args:
        like: As given.
        new: The new dataset.
        known: Datasets of the base.

    Raises:
        ConfigError: If it has to be chosen.
        UnknownNameError: If the base does not know it.
    """
    chosen = like.get(new) if isinstance(like, dict) else like
    if chosen is None:
        if len(known) > 1:
            raise ConfigError(
                f"The dataset {new!r} is new, and the base has {len(known)} datasets to begin from",
                expected=f"--like with one of: {', '.join(known)}",
                fix=f"Take the level of theory nearest to that of {new!r}.",
            )
        chosen = known[0]
    if chosen not in known:
        raise unknown_name("dataset of the base", chosen, known)
    return chosen
