"""Which files hold labelled structures, as a configuration says it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

from adatom.core.errors import ConfigError

if TYPE_CHECKING:
    from adatom.data.structure_dataset import StructureDataset


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
        where: From key to value, or a list of values: only structures of which the file says so,
            such as ``{split: train}``.
        frames: ``relaxation`` makes one structure of each file: its first frame, with energy and
            positions of its last frame as labels.
        relaxed: A file or folder with the relaxed structures of those in ``path``, or a list.
        energy: ``total`` or ``adsorption``, which energies these are; kept in the checkpoint.
        reference_energies: Table of energies by sid, which make total of adsorption energies or
            the reverse; see :func:`adatom.data.open_dataset`.
    """

    path: str | list[str]
    dataset: str = "default"
    label_keys: dict[str, str] | None = None
    units: dict[str, str] | None = None
    index: str | None = None
    key_map: dict[str, str] | None = None
    where: dict[str, str | int | float | list[str | int | float]] | None = None
    frames: Literal["all", "relaxation"] = "all"
    relaxed: str | list[str] | None = None
    energy: Literal["total", "adsorption"] | None = None
    reference_energies: str | None = None


#: One path, one source, or several of them.
Sources = str | DataSource | list[str | DataSource]


def as_sources(sources: Sources) -> list[DataSource]:
    """Return a list of sources from any of the forms a configuration may use."""
    several: Sequence[str | DataSource] = sources if isinstance(sources, list) else [sources]
    return [DataSource(path=s) if isinstance(s, str) else s for s in several]


def open_source(source: DataSource) -> StructureDataset:
    """Open the files of a source; see :func:`adatom.data.open_dataset` for the errors."""
    # Here: the help of verbs that take sources needs no torch.
    from adatom.data.open_dataset import open_dataset

    return open_dataset(**asdict(source))


def refuse_mixed_energies(sources: Sequence[DataSource]) -> None:
    """Refuse sources of one dataset with different kinds of energies.

    Args:
        sources: Of all parts of a training.

    Raises:
        ConfigError: Naming the two.
    """
    first: dict[str, DataSource] = {}
    for source in sources:
        other = first.setdefault(source.dataset, source)
        if source.energy != other.energy:
            raise ConfigError(
                f"Dataset {source.dataset!r} has {other.energy or 'unnamed'} energies in "
                f"{other.path!r} and {source.energy or 'unnamed'} energies in {source.path!r}",
                expected="one kind for each dataset",
                fix="Set the same energy for both, or name one of them another dataset.",
            )
