"""Which files hold labelled structures, as a configuration says it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(slots=True, kw_only=True)
class DataSource:
    """One data file, or several, of one level of theory.

    Attributes:
        path: A file or folder, or a list of them.
        dataset: Name of the level of theory. Sources of the same name share their element
            references.
        label_keys: From ``energy``, ``forces``, ``stress`` to the key in the file; null finds the
            usual names.
        units: From ``energy``, ``forces``, ``stress``, ``length`` to a unit; null means what the
            file declares, else eV and angstrom.
        index: Which structures of each file, such as ``"::10"``; null means all.
        key_map: Names of other things in the file, such as ``atomic_numbers`` and ``pos`` of an
            npz; see :func:`adatom.data.open_dataset`.
    """

    path: str | list[str]
    dataset: str = "default"
    label_keys: dict[str, str] | None = None
    units: dict[str, str] | None = None
    index: str | None = None
    key_map: dict[str, str] | None = None


#: One path, one source, or several of them.
Sources = str | DataSource | list[str | DataSource]


def as_sources(sources: Sources) -> list[DataSource]:
    """Return a list of sources from any of the forms a configuration may use."""
    several: Sequence[str | DataSource] = sources if isinstance(sources, list) else [sources]
    return [DataSource(path=s) if isinstance(s, str) else s for s in several]
