"""A trained descriptor network as a portable model of the pattern ``descriptor``.

``forward`` gets the values of the descriptor and nothing else. So the network may depend on the
element of an atom only through these values: one network for all elements, and element references
that are all the same. With a single species nothing is lost.
"""

from __future__ import annotations

import copy
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ase import Atoms
from ase.data import atomic_numbers
from torch import nn

from adatom.core.errors import ConfigError, unknown_name
from adatom.data.ase_convert import from_ase
from adatom.deploy.kim.description import ModelDescription
from adatom.deploy.kim.descriptor_file import descriptor_file_text, read_descriptor_file
from adatom.deploy.kim.descriptor_function import descriptor_function
from adatom.deploy.kim.export import ExportedModel, ExportOptions
from adatom.deploy.kim.export_check import SELF_TEST, predict_natively, require_agreement
from adatom.deploy.kim.portable_model import write_portable_model
from adatom.deploy.kim.sample_structures import sample_structures
from adatom.deploy.kim.scripted_model import quiet_torchscript, save_torchscript
from adatom.deploy.kim.self_test import self_test_text
from adatom.inference.predict_unit import MLIPPredictUnit
from adatom.models.descriptor_network import DescriptorNetwork
from adatom.models.energy_head import EnergyHead
from adatom.nn.experts import MixedLinear
from adatom.tasks.potential import Potential

_INSTEAD = "Export with the pattern raw or graph, whose models are told the species."


class DescriptorEnergies(nn.Module):
    """From descriptor values ``[C, width]`` to energies ``[C]`` in eV, both float64.

    Args:
        mean: ``[width]``, of the values.
        spread: ``[width]``, what they are divided by.
        layers: From standard values to one number per atom, in any dtype.
        scale: In eV.
        reference: Of each atom, in eV.
    """

    def __init__(
        self,
        mean: torch.Tensor,
        spread: torch.Tensor,
        layers: nn.Sequential,
        scale: float,
        reference: float,
    ) -> None:
        super().__init__()
        # TorchScript takes parameters as they are, and annotated buffers not.
        self.mean = nn.Parameter(mean.detach().double())
        self.spread = nn.Parameter(spread.detach().double())
        self.layers = layers
        self.dtype = next(layers.parameters()).dtype
        self.scale = scale
        self.reference = reference
        self.requires_grad_(False)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Return the energies of atoms."""
        standard = ((values - self.mean) / self.spread).to(self.dtype)
        energies = self.layers(standard).squeeze(1).to(torch.float64)
        return energies * self.scale + self.reference  # type: ignore[no-any-return]


def descriptor_energies(
    potential: Potential, dataset: str, dtype: torch.dtype
) -> DescriptorEnergies:
    """Return the part of a potential behind its descriptor.

    Args:
        potential: With a :class:`~adatom.models.descriptor_network.DescriptorNetwork`.
        dataset: Whose energies.
        dtype: Of the layers.

    Raises:
        ConfigError: If the potential is no such one, or its energies depend on species.
    """
    backbone, head = _network(potential), potential.head
    species = ", ".join(backbone.descriptor.species)
    if not isinstance(head, EnergyHead) or head.mean_energy or head.energy_block.expert_of:
        raise ConfigError(
            f"The head is {type(head).__name__}",
            expected="an EnergyHead that sums over atoms and has no dataset_mapping",
        )
    if backbone.networks > 1:
        raise ConfigError(
            f"The network has layers of its own for each of {species}, and a model of the pattern "
            "descriptor is not told the species",
            expected="per_element: false, or a single species",
            fix=_INSTEAD,
        )
    if backbone.max_neighbors is not None:
        raise ConfigError(
            f"The potential takes at most {backbone.max_neighbors} neighbors",
            expected="no limit: a simulator gives all of them",
        )
    normalizer = potential.normalizer_for(dataset, "energy")
    if normalizer.mean != 0.0:
        raise ConfigError(
            f"The energy has the mean {normalizer.mean} eV per system, which is no sum over atoms"
        )
    reference = _reference(potential, backbone.descriptor.species, dataset)
    layers = _layers(backbone, head).to(dtype).eval()
    return DescriptorEnergies(backbone.mean, backbone.scale, layers, normalizer.rmsd, reference)


def export_descriptor_model(
    potential: Potential,
    options: ExportOptions,
    folder: str | os.PathLike[str],
    *,
    provenance: Mapping[str, Any],
    title: str | None = None,
    overwrite: bool = False,
) -> ExportedModel:
    """Write a portable model whose descriptor the driver computes.

    The model is compared with the potential on random structures before anything is written.

    Args:
        potential: See :func:`descriptor_energies`; left as it is.
        options: Says the pattern ``descriptor`` and the backend ``torchscript``.
        folder: Where to; see :func:`adatom.deploy.kim.portable_model.write_portable_model`.
        provenance: Where the weights come from: plain JSON values.
        title: One line about the model.
        overwrite: Whether an earlier model in the folder may be replaced.

    Raises:
        ConfigError: If the file or the pattern cannot say what the potential does.
        ExportError: If the portable model gives something else than the potential.
        FileAccessError: If files cannot be written.
        OutOfDomainError: If the potential was not trained on an element, the charge or the spin.
        UnknownNameError: If the dataset is unknown.
    """
    dataset = _dataset(potential, options.dataset)
    backbone, dtype = _network(potential), options.dtype or potential.dtype
    species = backbone.descriptor.species
    _check_options(potential, options, dataset)
    energies = descriptor_energies(potential, dataset, dtype)
    description = ModelDescription(
        name=options.name,
        species=species,
        pattern="descriptor",
        cutoff=backbone.cutoff,
        descriptor=backbone.descriptor.kind,
        dtype=str(dtype).removeprefix("torch."),
    )
    structures = sample_structures(species, backbone.cutoff)
    unit = MLIPPredictUnit(potential, "traineval", dtype=dtype)
    expected = {
        kind: predict_natively(unit, atoms, dataset, options.charge, options.spin)
        for kind, atoms in structures.items()
    }
    with tempfile.TemporaryDirectory(prefix="adatom-export-") as scratch:
        file = Path(scratch) / "descriptor.dat"
        file.write_text(descriptor_file_text(backbone.descriptor), encoding="utf-8")
        network = save_torchscript(energies, Path(scratch) / description.model_file)
        with quiet_torchscript():
            forward = torch.jit.load(network)
        read = read_descriptor_file(file, backbone.descriptor.kind).descriptor(species)
        differences = require_agreement(
            forward, description, structures, expected, descriptor_function(read)
        )
        written = write_portable_model(
            folder,
            description,
            network,
            provenance={**provenance, "largest_differences": differences},
            descriptor_file=file,
            title=title,
            overwrite=overwrite,
        )
    text = self_test_text(structures, expected, description.dtype)
    (written / SELF_TEST).write_text(text, encoding="utf-8")
    return ExportedModel(written, description, differences)


def _network(potential: Potential) -> DescriptorNetwork:
    if not isinstance(potential.backbone, DescriptorNetwork):
        raise ConfigError(
            f"{type(potential.backbone).__name__} has no descriptor",
            expected="a DescriptorNetwork",
            fix="Export with the pattern graph.",
        )
    return potential.backbone


def _dataset(potential: Potential, dataset: str | None) -> str:
    datasets = potential.datasets
    if dataset is None:
        if len(datasets) != 1:
            raise ConfigError(
                f"The potential has the tasks {', '.join(datasets)}", fix="Choose one of them."
            )
        return datasets[0]
    if dataset not in datasets:
        raise unknown_name("task", dataset, datasets)
    return dataset


def _check_options(potential: Potential, options: ExportOptions, dataset: str) -> None:
    species = _network(potential).descriptor.species
    if options.species and sorted(options.species) != sorted(species):
        raise ConfigError(
            f"The species are {', '.join(options.species)}",
            expected=f"those of the descriptor, {', '.join(species)}, all of which its file names",
            fix="Leave the species out.",
        )
    if options.composition is not None:
        raise ConfigError(
            f"The composition {options.composition!r} was given, and no weights depend on it",
            fix="Leave it out.",
        )
    atoms = Atoms(species)
    atoms.info = {"charge": options.charge, "spin": options.spin, "sid": options.name}
    potential.check_input(from_ase(atoms, dataset=dataset, label_keys={}))


def _reference(potential: Potential, species: Sequence[str], dataset: str) -> float:
    table = potential.task_for(dataset, "energy").element_references
    if table is None:
        return 0.0
    values = [float(table[atomic_numbers[symbol]]) for symbol in species]
    if len(set(values)) != 1:
        raise ConfigError(
            f"The element references of {', '.join(species)} differ, and a model of the pattern "
            "descriptor is not told the species",
            expected="the same one for all, or a single species",
            fix=_INSTEAD,
        )
    return values[0]


def _layers(backbone: DescriptorNetwork, head: EnergyHead) -> nn.Sequential:
    layers: list[nn.Module] = []
    for parallel in backbone.dense_layers():
        layers += [_linear(parallel.weight[0].T, parallel.bias[0, 0]), copy.deepcopy(backbone.act)]
    for module in head.energy_block:
        if isinstance(module, MixedLinear):
            layers.append(_linear(module.weight, module.bias))
        else:
            layers.append(copy.deepcopy(module))
    return nn.Sequential(*layers)


def _linear(weight: torch.Tensor, bias: torch.Tensor | None) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, dtype=weight.dtype)
    with torch.no_grad():
        layer.weight.copy_(weight)
        if bias is not None:
            layer.bias.copy_(bias)
    return layer
