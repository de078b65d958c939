"""The potential: backbone, heads and tasks as one object."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from adatom.core.errors import ConfigError, GraphError, unknown_name
from adatom.data.atomic_data import AtomicData
from adatom.models.base import Backbone, Head, Neighborhood
from adatom.models.gradients import cell_volume, edge_gradients, forces_from, virial_from
from adatom.tasks.domain import Domain
from adatom.tasks.task import Normalizer, Task

#: Properties any energy model can give, by differentiation.
PROPERTIES = ("energy", "forces", "stress", "energies")


class Potential(nn.Module):
    """What is trained, saved, loaded and exported.

    Args:
        backbone: Geometry to node features.
        head: Node features and batch to per-atom energies ``[N]`` in network units.
        tasks: At most one per (dataset, property).
        domains: What each dataset contained; every dataset of ``tasks`` needs one.
        metadata: Plain JSON values kept with the checkpoint (name, licence, data fingerprints,
            model card).

    Raises:
        ConfigError: If two tasks claim the same property of one dataset, or a domain is missing.
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
        missing = sorted(set(self.datasets) - set(self.domains))
        if missing:
            raise ConfigError(f"No domain is given for the datasets {missing}")

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

    def properties(self, dataset: str) -> list[str]:
        """Return the properties that are predicted for ``dataset``, sorted."""
        return sorted(prop for name, prop in self._task_of if name == dataset)

    def task_for(self, dataset: str, prop: str) -> Task:
        """Return the task for a property of a dataset.

        Raises:
            UnknownNameError: If the dataset or the property is not among the trained ones.
        """
        if dataset not in self.datasets:
            raise unknown_name("task", dataset, self.datasets)
        if (dataset, prop) not in self._task_of:
            raise unknown_name(f"property of {dataset!r}", prop, self.properties(dataset))
        return self._task_of[dataset, prop]

    def normalizer_for(self, dataset: str, prop: str) -> Normalizer:
        """Return the scale of a property of a dataset.

        Forces and stress without a task of their own are still derivatives of the energy, hence
        scale as it does.

        Raises:
            UnknownNameError: If the dataset or the property is not among the trained ones.
        """
        if prop in ("forces", "stress") and (dataset, prop) not in self._task_of:
            return Normalizer(0.0, self.task_for(dataset, "energy").normalizer.rmsd)
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
    ) -> dict[str, torch.Tensor]:
        """Predict in network units; see :meth:`denormalize` for physical ones.

        Args:
            data: A batch with edges.
            properties: Among ``energy``, ``forces``, ``stress``, ``energies`` (per atom).
            create_graph: Keep the graph of the derivatives (training on forces, Hessians).

        Returns:
            ``energy [B]`` float64, ``energies [N]``, ``forces [N, 3]`` in the model's dtype,
            ``stress [B, 3, 3]`` float64 (``dE/d(strain) / volume``, NaN where there is no cell).

        Raises:
            GraphError: If ``data`` has no edges.
        """
        unknown = sorted(set(properties) - set(PROPERTIES))
        if unknown:
            raise unknown_name("property", unknown[0], PROPERTIES)
        derivatives = bool({"forces", "stress"} & set(properties))
        with torch.set_grad_enabled(derivatives or torch.is_grad_enabled()):
            edges = self._neighborhood(data, derivatives=derivatives)
            layers = [edges] * self.backbone.num_message_layers
            energies = self.head(self.backbone(data, layers), data)
            energy = energies.new_zeros(data.num_systems, dtype=torch.float64)
            energy = energy.index_add(0, data.batch, energies.double())
            out = {"energy": energy, "energies": energies}
            if derivatives:
                gradients = edge_gradients(energy, [edges], create_graph=create_graph)
                out["forces"] = forces_from(gradients, [edges], data.num_atoms)
                if "stress" in properties:
                    volume = cell_volume(data.cell)
                    volume = torch.where(volume > 0, volume, torch.nan)
                    virial = virial_from(gradients, [edges], data.num_systems)
                    out["stress"] = virial / volume[:, None, None]
        return {name: out[name] for name in PROPERTIES if name in properties}

    def denormalize(
        self, raw: Mapping[str, torch.Tensor], data: AtomicData
    ) -> dict[str, torch.Tensor]:
        """Convert predictions from network units to eV, eV/angstrom and eV/angstrom^3.

        Each system uses the normalizer and element references of its own dataset's task.
        """
        out = {}
        for name, value in raw.items():
            prop = "energy" if name == "energies" else name
            normalizers = [self.normalizer_for(dataset, prop) for dataset in data.dataset]
            scale = value.new_tensor([n.rmsd for n in normalizers])
            mean = value.new_tensor([n.mean for n in normalizers])
            if name == "energies":
                mean = mean / data.natoms.to(mean.dtype)
            if name in ("energies", "forces"):
                scale, mean = scale[data.batch], mean[data.batch]
            shape = (-1, *([1] * (value.dim() - 1)))
            out[name] = value * scale.view(shape) + mean.view(shape)
        if "energy" in out or "energies" in out:
            self._add_references(out, data)
        return out

    def reference_energies(self, data: AtomicData) -> torch.Tensor:
        """Return each atom's element reference ``[N]`` in eV, float64 (zeros without a table)."""
        references = torch.zeros(data.num_atoms, dtype=torch.float64, device=data.pos.device)
        starts = torch.cumsum(data.natoms, 0) - data.natoms
        for i, dataset in enumerate(data.dataset):
            table = self.task_for(dataset, "energy").element_references
            if table is not None:
                atoms = slice(int(starts[i]), int(starts[i] + data.natoms[i]))
                references[atoms] = table.to(references)[data.atomic_numbers[atoms]]
        return references

    def _add_references(self, out: dict[str, torch.Tensor], data: AtomicData) -> None:
        references = self.reference_energies(data)
        if "energy" in out:
            out["energy"] = out["energy"].index_add(0, data.batch, references)
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
