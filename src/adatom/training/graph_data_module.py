"""The data modules of the Open Catalyst way: one path for each part."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any, ClassVar, Literal

from adatom.core.errors import ConfigError
from adatom.training.batch_loader import BatchLoader
from adatom.training.batching import Balance, StructureSizes
from adatom.training.data_module import AtomisticDataModule
from adatom.training.data_source import DataSource, Sources, as_sources
from adatom.training.graph_loader import Framework, GraphLoader, with_edges
from adatom.training.lazy_systems import LazySystems

#: Fields of a source that options of the data module fill in.
_SHARED = (
    "dataset",
    "label_keys",
    "units",
    "key_map",
    "frames",
    "energy",
    "reference_energies",
)


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
        frames: ``relaxation`` makes one structure of each file (IS2RE of trajectories): its first
            frame, with energy and positions of its last one as labels.
        energy: ``total`` or ``adsorption``, which energies these are; kept in the checkpoint.
        reference_energies: Table of energies by sid. They are subtracted from the file's with
            ``energy: adsorption``, and added to them with ``energy: total``.
        **options: The others of :class:`AtomisticDataModule`.

    Raises:
        ConfigError: If a number is out of range.
    """

    #: Whose graphs ``graph_dataloader`` gives; trainings always use adatom's own.
    framework: ClassVar[Framework] = "native"

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
        frames: Literal["all", "relaxation"] = "all",
        energy: Literal["total", "adsorption"] | None = None,
        reference_energies: str | None = None,
        **options: Any,
    ) -> None:
        common = DataSource(
            path="",
            dataset=dataset,
            label_keys=label_keys,
            units=units,
            key_map=key_map,
            frames=frames,
            energy=energy,
            reference_energies=reference_energies,
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

    def graph_dataloader(
        self, part: str, *, cutoff: float | None = None, max_neighbors: int | None = None
    ) -> GraphLoader:
        """Return batches as graphs of :attr:`framework`, for a training loop of one's own.

        Training batches are shuffled anew in each iteration, others come in the order of the file.
        Each process of a trainer gets its own batches, anything else all of them.

        Args:
            part: ``"train"``, ``"val"``, ``"test"`` or ``"predict"``; :meth:`setup` read it.
            cutoff: In angstrom; None takes those of the trainer's network.
            max_neighbors: See :func:`adatom.graph.neighbors.neighbor_list`.

        Raises:
            ConfigError: If :meth:`setup` did not read the part, or there is no cutoff.
        """
        if cutoff is None and self.trainer is None:
            raise ConfigError(
                "There is no cutoff for the graphs", fix="Call graph_dataloader(part, cutoff=6.0)."
            )
        reach = self._reach if cutoff is None else (cutoff, max_neighbors)
        found = self._part(part)
        graphs = with_edges(found.systems, *reach, f"Neighbor lists ({part})")
        if isinstance(graphs, LazySystems):
            sizes, workers = self._lazy_sizes(part, graphs, *reach), self._num_workers
        else:
            sizes, workers = StructureSizes.of(graphs), 0
        plan = self._shuffled(sizes) if part == "train" else self._in_order(sizes)
        batches = BatchLoader(
            graphs,
            plan,
            rank=0 if self.trainer is None else self.trainer.global_rank,
            world=1 if self.trainer is None else self.trainer.world_size,
            workers=workers,
        )
        return GraphLoader(batches, self.framework)


class PyGDataModule(GraphDataModule):
    """A :class:`GraphDataModule` whose ``graph_dataloader`` gives graphs of PyTorch Geometric."""

    framework = "pyg"


class DGLDataModule(GraphDataModule):
    """A :class:`GraphDataModule` whose ``graph_dataloader`` gives graphs of DGL.

    Where DGL does not import with the PyTorch that is there, call
    :func:`adatom.data.frameworks.import_dgl.import_dgl` before; trainings do not need it.
    """

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
