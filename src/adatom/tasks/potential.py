"""The potential: backbone, heads and tasks as one object."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from adatom.core.errors import ConfigError, DataError, GraphError, UnknownNameError, unknown_name
from adatom.data.atomic_data import AtomicData
from adatom.models.base import Backbone, Head, Neighborhood
from adatom.models.gradients import (
    Gradients,
    atomic_virials_from,
    cell_volume,
    energy_gradients,
    forces_from,
    hessian_from,
    virial_from,
)
from adatom.models.placement import displaced
from adatom.tasks.domain import Domain
from adatom.tasks.task import Normalizer, Task

#: What may be predicted; see :meth:`Potential.forward` for shapes and units. Any energy model gives
#: all but the last, ``relaxed_energy``, which takes the place of the energy: it is that of the
#: structure which a relaxation ends in, so no derivative of it is a force.
PROPERTIES = (
    "energy",
    "forces",
    "stress",
    "energies",
    "virials",
    "hessian",
    "embeddings",
    "relaxed_energy",
)
#: Those that are predicted when none are named.
DEFAULT_PROPERTIES = ("energy", "forces", "stress", "energies")
#: Those that are derivatives of the energy, unless a head gives them.
_DERIVATIVES = ("forces", "stress", "virials", "hessian")
_PER_ATOM = ("forces", "energies", "virials")


class Potential(nn.Module):
    """What is trained, saved, loaded and exported.

    Args:
        backbone: Geometry to node features.
        head: Node features and batch to per-atom energies in network units, and to forces or
            stress where these are predicted directly.
        tasks: At most one per (dataset, property).
        domains: What each dataset contained; every dataset of ``tasks`` needs one.
        metadata: Plain JSON values kept with the checkpoint (name, licence, data fingerprints,
            model card).

    Raises:
        ConfigError: If two tasks claim the same property of one dataset, or its energy and its
            relaxed energy; if a domain is missing, or the head gives no energies.
    """

    def __init__(
        self,
        backbone: Backbone,
        head: Head,
        tasks: Sequence[Task],
        domains: Mapping[str, Domain],
        *,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.tasks = list(tasks)
        self.domains = dict(domains)
        self.metadata = dict(metadata or {})
        self._task_of: dict[tuple[str, str], Task] = {}
        for task in self.tasks:
            for dataset in task.datasets:
                if (dataset, task.property) in self._task_of:
                    other = self._task_of[dataset, task.property].name
                    raise ConfigError(
                        f"Tasks {other!r} and {task.name!r} both predict the {task.property} of "
                        f"dataset {dataset!r}",
                        fix="Give each property of a dataset to one task.",
                    )
                self._task_of[dataset, task.property] = task
        for dataset in self.datasets:
            if self.is_relaxed(dataset) and (dataset, "energy") in self._task_of:
                raise ConfigError(
                    f"Dataset {dataset!r} has tasks for the energy and for the relaxed energy, "
                    "which one network cannot both give",
                    fix="Give the two another dataset name each.",
                )
        missing = sorted(set(self.datasets) - set(self.domains))
        if missing:
            raise ConfigError(f"No domain is given for the datasets {missing}")
        if "energies" not in head.gives:
            raise ConfigError(f"The head gives {', '.join(head.gives)}", expected="energies too")

    @property
    def cutoff(self) -> float:
        """Neighbor cutoff in angstrom."""
        return self.backbone.cutoff

    @property
    def max_neighbors(self) -> int | None:
        """Neighbor limit, or None."""
        return self.backbone.max_neighbors

    @property
    def dtype(self) -> torch.dtype:
        """Floating dtype of the parameters."""
        return next(self.parameters()).dtype

    @property
    def datasets(self) -> list[str]:
        """Dataset names that have a task, sorted."""
        return sorted({dataset for task in self.tasks for dataset in task.datasets})

    @property
    def direct_properties(self) -> list[str]:
        """What heads predict that would otherwise be derivatives of the energy."""
        return [name for name in _DERIVATIVES if name in self.head.gives]

    def is_relaxed(self, dataset: str) -> bool:
        """Tell whether systems of ``dataset`` are given relaxed energies instead of energies."""
        return (dataset, "relaxed_energy") in self._task_of

    def properties(self, dataset: str) -> list[str]:
        """Return those of :data:`PROPERTIES` that systems of ``dataset`` can be given.

        Derivatives of the energy need no task of their own; what a head predicts directly does.

        Raises:
            UnknownNameError: If no task serves the dataset.
        """
        if dataset not in self.datasets:
            raise unknown_name("task", dataset, self.datasets)
        without = self._without() | {
            name for name in self.direct_properties if (dataset, name) not in self._task_of
        }
        if (dataset, "energy") not in self._task_of:
            without |= {"energy", "energies", *_DERIVATIVES} - set(self.direct_properties)
        if not self.is_relaxed(dataset):
            without |= {"relaxed_energy"}
        return [name for name in PROPERTIES if name not in without]

    def task_for(self, dataset: str, prop: str) -> Task:
        """Return the task for a property of a dataset.

        Raises:
            UnknownNameError: If the dataset or the property is not among the trained ones.
        """
        if dataset not in self.datasets:
            raise unknown_name("task", dataset, self.datasets)
        if (dataset, prop) not in self._task_of:
            trained = [name for of, name in self._task_of if of == dataset]
            raise unknown_name(f"property of {dataset!r}", prop, trained)
        return self._task_of[dataset, prop]

    def normalizer_for(self, dataset: str, prop: str) -> Normalizer:
        """Return the scale of a property of a dataset.

        Derivatives of the energy without a task of their own scale as that which they are
        derived from: forces and stress as the energy, virials as the stress, the Hessian as the
        forces.

        Raises:
            UnknownNameError: If the dataset or the property is not among the trained ones.
        """
        if (dataset, prop) in self._task_of or prop in self.head.gives:
            return self.task_for(dataset, prop).normalizer
        origin = {"virials": "stress", "hessian": "forces", "forces": "energy", "stress": "energy"}
        if prop in origin:
            return Normalizer(0.0, self.normalizer_for(dataset, origin[prop]).rmsd)
        return self.task_for(dataset, prop).normalizer

    def check_input(self, data: AtomicData) -> None:
        """Refuse systems whose dataset, elements, charge or spin were never seen.

        Raises:
            UnknownNameError: Unknown dataset name.
            OutOfDomainError: Unseen element, charge or spin.
        """
        for i, numbers in enumerate(torch.split(data.atomic_numbers, data.natoms.tolist())):
            dataset = data.dataset[i]
            if dataset not in self.domains:
                raise unknown_name("task", dataset, self.datasets)
            self.domains[dataset].check(
                numbers, int(data.charge[i]), int(data.spin[i]), data.sid[i]
            )

    def forward(
        self,
        data: AtomicData,
        properties: Collection[str] = ("energy", "forces"),
        *,
        create_graph: bool = False,
        hessian_vmap: bool = True,
    ) -> dict[str, torch.Tensor]:
        """Predict in network units; see :meth:`denormalize` for physical ones.

        Args:
            data: A batch with edges.
            properties: Among :data:`PROPERTIES`.
            create_graph: Keep the graph of the derivatives (training on forces).
            hessian_vmap: Compute many rows of a Hessian at once, or one after the other.

        Returns:
            ``energy [B]`` float64, ``energies [N]`` (per atom), ``forces [N, 3]`` in the model's
            dtype, ``stress [B, 3, 3]`` float64 (``dE/d(strain) / volume``, NaN where there is no
            cell), ``virials [N, 3, 3]`` float64 (``dE/d(strain)`` shared among the atoms, see
            :func:`adatom.models.gradients.atomic_virials_from`; their sum is volume times
            stress), ``hessian [3N, 3N]`` (second derivatives with respect to positions),
            ``embeddings`` (features of each atom, ``[N, (lmax + 1)^2, C]``, or ``[N, C]`` where
            the backbone has scalars only), ``relaxed_energy [B]`` float64.

        Raises:
            GraphError: If ``data`` has no edges.
            UnknownNameError: If a property is not known, or would be a derivative of an energy
                that the forces are not derivatives of.
            DataError: If a Hessian is asked for and there is not exactly one system.
        """
        self.check_properties(properties, data)
        derived = set(properties) & set(_DERIVATIVES) - set(self.head.gives)
        with torch.set_grad_enabled(bool(derived) or torch.is_grad_enabled()):
            edges = self._neighborhood(data, derivatives=bool(derived))
            backbone = self._differentiable_twice() if "hessian" in derived else self.backbone
            placed, placement = data, None
            if derived and backbone.uses_positions:
                placed, placement = displaced(data)
            features = backbone(placed, [edges] * backbone.num_message_layers)
            out = self.head(features, placed)
            if "embeddings" in properties:
                spherical = features.spherical
                out["embeddings"] = features.scalars if spherical is None else spherical
            del features  # their memory, for the derivatives
            energy = out["energies"].new_zeros(data.num_systems, dtype=torch.float64)
            out["energy"] = energy.index_add(0, data.batch, out["energies"].double())
            if derived:
                again = create_graph or "hessian" in derived
                gradients = energy_gradients(out["energy"], [edges], placement, create_graph=again)
                out |= _from_gradients(gradients, edges, data, derived)
                if "hessian" in derived:
                    out["hessian"] = hessian_from(
                        out["forces"],
                        [edges],
                        placement,
                        vectorized=hessian_vmap,
                        create_graph=create_graph,
                    )
            if self.head.mean_energy:
                out["energy"] = out["energy"] / data.natoms
                out["energies"] = out["energies"] / data.natoms[data.batch]
        out["relaxed_energy"] = out["energy"]
        if "stress" in out:
            empty = (cell_volume(data.cell) == 0)[:, None, None]
            out["stress"] = out["stress"].masked_fill(empty, torch.nan)
        return {name: out[name] for name in PROPERTIES if name in properties}

    def denormalize(
        self, raw: Mapping[str, torch.Tensor], data: AtomicData
    ) -> dict[str, torch.Tensor]:
        """Convert predictions from network units to physical ones.

        These are eV, eV/angstrom (forces), eV/angstrom^3 (stress), eV (virials) and
        eV/angstrom^2 (Hessian); embeddings stay as they are. Each system uses the normalizers and
        element references of its own dataset's tasks; rows of systems whose dataset does not
        have a property (see :meth:`properties`) are NaN.
        """
        out = {}
        for name, value in raw.items():
            if name == "embeddings":
                out[name] = value
                continue
            normalizers = [self._normalizer_or_none(dataset, name) for dataset in data.dataset]
            scale = value.new_tensor([n.rmsd if n else torch.nan for n in normalizers])
            mean = value.new_tensor([n.mean if n else torch.nan for n in normalizers])
            if name == "energies":
                mean = mean / data.natoms.to(mean.dtype)
            if name in _PER_ATOM:
                scale, mean = scale[data.batch], mean[data.batch]
            shape = (-1, *([1] * (value.dim() - 1)))
            out[name] = value * scale.view(shape) + mean.view(shape)
        if {"energy", "energies", "relaxed_energy"} & set(out):
            self._add_references(out, data)
        return out

    def reference_energies(self, data: AtomicData) -> torch.Tensor:
        """Return each atom's element reference ``[N]`` in eV, float64 (zeros without a table).

        For datasets with relaxed energies it is that of these.
        """
        references = torch.zeros(data.num_atoms, dtype=torch.float64, device=data.pos.device)
        starts = torch.cumsum(data.natoms, 0) - data.natoms
        for i, dataset in enumerate(data.dataset):
            prop = "relaxed_energy" if self.is_relaxed(dataset) else "energy"
            table = self.task_for(dataset, prop).element_references
            if table is not None:
                atoms = slice(int(starts[i]), int(starts[i] + data.natoms[i]))
                references[atoms] = table.to(references)[data.atomic_numbers[atoms]]
        return references

    def _without(self) -> set[str]:
        """Derivatives of the energy that are not to be had."""
        if "forces" in self.head.gives:
            return {"stress", "virials", "hessian"} - set(self.head.gives)
        shared = "stress" not in self.head.gives and not self.backbone.uses_positions
        return set() if shared else {"virials"}

    def check_properties(self, properties: Collection[str], data: AtomicData) -> None:
        """Refuse what cannot be predicted for these systems; see :meth:`forward`.

        Raises:
            UnknownNameError: If a property is not known, or not to be had.
            DataError: If a Hessian is asked for and there is not exactly one system.
        """
        for name in properties:
            if name not in PROPERTIES:
                raise unknown_name("property", name, PROPERTIES)
            if name in self._without():
                known = [n for n in PROPERTIES if n not in self._without()]
                why = "takes geometry from positions as well as from edge vectors"
                if self.direct_properties:
                    why = f"predicts {' and '.join(self.direct_properties)} directly, not as "
                    why += "derivatives of its energy"
                raise UnknownNameError(
                    f"This potential {why}, so it has no {name}",
                    expected=f"one of: {', '.join(known)}",
                )
        if "hessian" in properties and data.num_systems != 1:
            raise DataError(
                f"A Hessian is asked for {data.num_systems} systems at once",
                expected="one system",
                fix="Predict one structure at a time.",
            )

    def _normalizer_or_none(self, dataset: str, name: str) -> Normalizer | None:
        own = name in self.direct_properties or name == "relaxed_energy" or self.is_relaxed(dataset)
        if own and (dataset, name) not in self._task_of:
            return None
        return self.normalizer_for(dataset, "energy" if name == "energies" else name)

    def _differentiable_twice(self) -> Backbone:
        """Return the backbone, sharing all weights, in the execution that Hessians need."""
        backbone = copy.copy(self.backbone)
        backbone.execution = replace(backbone.execution, mode="general")
        return backbone

    def _add_references(self, out: dict[str, torch.Tensor], data: AtomicData) -> None:
        references = self.reference_energies(data)
        for name in {"energy", "relaxed_energy"} & set(out):
            out[name] = out[name].index_add(0, data.batch, references)
        if "energies" in out:
            out["energies"] = out["energies"].double() + references

    def _neighborhood(self, data: AtomicData, *, derivatives: bool) -> Neighborhood:
        if data.edges is None:
            raise GraphError(
                "The batch has no edges",
                fix="Call data.with_edges(potential.cutoff, "
                "max_neighbors=potential.max_neighbors) first.",
            )
        # Differences of float64 positions keep float32 models accurate far from the origin.
        vectors = data.edges.vectors(data.pos, data.cell).to(self.dtype)
        if derivatives and not vectors.requires_grad:
            vectors.requires_grad_(True)
        source, target = data.edges.index
        return Neighborhood(source, target, vectors, data.edges.counts)


def _from_gradients(
    gradients: Gradients,
    edges: Neighborhood,
    data: AtomicData,
    derived: Collection[str],
) -> dict[str, torch.Tensor]:
    """Return those of forces, stress and virials that are wanted."""
    out = {}
    if {"forces", "hessian"} & set(derived):
        out["forces"] = forces_from(gradients, [edges], data.num_atoms)
    if "stress" in derived:
        volume = cell_volume(data.cell)
        # Without a cell the row is NaN later; a division by zero would spoil the gradients.
        volume = torch.where(volume > 0, volume, 1.0)
        virial = virial_from(gradients, [edges], data.num_systems)
        out["stress"] = virial / volume[:, None, None]
    if "virials" in derived:
        out["virials"] = atomic_virials_from(gradients, [edges], data.num_atoms)
    return out
