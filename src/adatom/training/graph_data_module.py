"""The data modules of the Open Catalyst way: one path for each part."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any, ClassVar, Literal

from adatom.training.batching import Balance
from adatom.training.data_module import AtomisticDataModule
from adatom.training.data_source import DataSource, Sources, as_sources

#: Fields of a source that options of the data module fill in.
_SHARED = ("dataset", "label_keys", "units", "key_map")


class GraphDataModule(AtomisticDataModule):
    """Structures for energies and forces (S2EF) or for relaxed energies (IS2RE).

    Any format that adatom reads will do: Open Catalyst LMDB (a file or a folder of them), extended
    XYZ, ASE databases and trajectories. Which labels are needed is up to the model.

    Args:
        train_path: A path, a source ``{path, dataset, where, ...}``, or a list of them.
        val_path: As ``train_path``; null splits ``val_fraction`` off the training structures.
        test_path: As ``train_path``, for ``test``.
        predict_path: As ``train_path``, for ``predict``; labels are not needed.
        batch_size: Structures per batch of a process; null for no limit.
        num_workers: Processes that read structures and find their neighbors, where these are
            not kept in memory.
        balance: What the processes of a step get alike: ``systems``, ``atoms`` or ``edges``; null
            takes edges where they are counted, else atoms.
        dataset: Name of the level of theory, for sources that do not name theirs.
        label_keys: From ``energy``, ``forces``, ``relaxed_energy``, ... to the key in the file,
            for sources without their own; null finds the usual names.
        units: From ``energy``, ``forces``, ``length`` to a unit, for sources without their own.
        key_map: Names of other things in the file, for sources without their own.
        **options: The others of :class:`AtomisticDataModule`.

    Raises:
        ConfigError: If a number is out of range.
    """

    #: Whose graphs ``graph_dataloader`` gives; trainings always use adatom's own.
    framework: ClassVar[Literal["native", "pyg", "dgl"]] = "native"

    def __init__(
        self,
        train_path: Sources | None = None,
        val_path: Sources | None = None,
        test_path: Sources | None = None,
        predict_path: Sources | None = None,
        *,
        batch_size: int | None = 32,
        num_workers: int = 0,
        balance: Balance | None = None,
        dataset: str = "default",
        label_keys: dict[str, str] | None = None,
        units: dict[str, str] | None = None,
        key_map: dict[str, str] | None = None,
        **options: Any,
    ) -> None:
        common = DataSource(
            path="", dataset=dataset, label_keys=label_keys, units=units, key_map=key_map
        )
        super().__init__(
            train=_filled(train_path, common),
            val=_filled(val_path, common),
            test=_filled(test_path, common),
            predict=_filled(predict_path, common),
            batch_size=batch_size,
            num_workers=num_workers,
            balance=balance,
            **options,
        )


class PyGDataModule(GraphDataModule):
    """A :class:`GraphDataModule` whose ``graph_dataloader`` gives graphs of PyTorch Geometric."""

    framework = "pyg"


class DGLDataModule(GraphDataModule):
    """A :class:`GraphDataModule` whose ``graph_dataloader`` gives graphs of DGL."""

    framework = "dgl"


def _filled(sources: Sources | None, common: DataSource) -> list[str | DataSource] | None:
    """Return the sources with what they leave open taken from ``common``."""
    if sources is None:
        return None
    defaults = {field.name: field.default for field in fields(DataSource)}
    filled: list[str | DataSource] = []
    for source in as_sources(sources):
        left_open = [name for name in _SHARED if getattr(source, name) == defaults[name]]
        filled.append(replace(source, **{name: getattr(common, name) for name in left_open}))
    return filled
