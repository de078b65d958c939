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

import numpy as np
import torch
from ase import Atoms
from ase.data import atomic_numbers, covalent_radii
from torch import nn

from adatom.core.errors import ConfigError, DataError, unknown_name
from adatom.data.ase_convert import from_ase
from adatom.data.atomic_data import collate
from adatom.deploy.kim.configuration import make_configuration
from adatom.deploy.kim.description import ModelDescription
from adatom.deploy.kim.descriptor_file import descriptor_file_text, read_descriptor_file
from adatom.deploy.kim.descriptor_function import descriptor_function
from adatom.deploy.kim.emulator import emulate
from adatom.deploy.kim.portable_model import write_portable_model
from adatom.deploy.kim.scripted_model import quiet_torchscript, save_torchscript
from adatom.models.descriptor_network import DescriptorNetwork
from adatom.models.energy_head import EnergyHead
from adatom.nn.experts import MixedLinear
from adatom.tasks.potential import Potential

#: How far the portable model may be from the potential, in eV and eV/angstrom.
TOLERANCE = 1e-10
_INSTEAD = "Export with the pattern raw or graph, whose models are told the species."


class DescriptorEnergies(nn.Module):
    """From descriptor values ``[C, width]`` to energies ``[C]`` in eV.

    Args:
        layers: From values to one number per atom.
        scale: In eV.
        reference: Of each atom, in eV.
    """

    def __init__(self, layers: nn.Sequential, scale: float, reference: float) -> None:
        super().__init__()
        self.layers = layers
        self.scale = scale
        self.reference = reference

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Return the energies of atoms."""
        return self.layers(values).squeeze(1) * self.scale + self.reference  # type: ignore[no-any-return]


def descriptor_energies(
    potential: Potential, species: Sequence[str], dataset: str | None = None
) -> DescriptorEnergies:
    """Return the part of a potential behind its descriptor, in float64.

    Args:
        potential: With a :class:`~adatom.models.descriptor_network.DescriptorNetwork`.
        species: That the model is to have.
        dataset: Whose energies; None takes the only one.

    Raises:
        ConfigError: If the potential is no such one, or its energies depend on species.
        UnknownNameError: If the dataset is unknown.
    """
    backbone, head = potential.backbone, potential.head
    if not isinstance(backbone, DescriptorNetwork):
        raise ConfigError(
            f"{type(backbone).__name__} has no descriptor",
            expected="a DescriptorNetwork",
            fix="Export with the pattern graph.",
        )
    if not isinstance(head, EnergyHead) or head.mean_energy or head.energy_block.expert_of:
        raise ConfigError(
            f"The head is {type(head).__name__}",
            expected="an EnergyHead that sums over atoms and has no dataset_mapping",
        )
    if backbone.networks > 1:
        raise ConfigError(
            f"The network has layers of its own for each of {', '.join(species)}, and a model of "
            "the pattern descriptor is not told the species",
            expected="per_element: false, or a single species",
            fix=_INSTEAD,
        )
    if backbone.max_neighbors is not None:
        raise ConfigError(
            f"The potential takes at most {backbone.max_neighbors} neighbors",
            expected="no limit: a simulator gives all of them",
        )
    normalizer = potential.normalizer_for(_dataset(potential, dataset), "energy")
    if normalizer.mean != 0.0:
        raise ConfigError(
            f"The energy has the mean {normalizer.mean} eV per system, which is no sum over atoms"
        )
    reference = _reference(potential, species, _dataset(potential, dataset))
    layers = _layers(backbone, head).double().eval().requires_grad_(False)
    return DescriptorEnergies(layers, normalizer.rmsd, reference)


def export_descriptor_model(
    potential: Potential,
    folder: str | os.PathLike[str],
    name: str,
    *,
    dataset: str | None = None,
    provenance: Mapping[str, Any] | None = None,
    title: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a portable model whose descriptor the driver computes.

    The model is compared with the potential on random structures before anything is written.

    Args:
        potential: See :func:`descriptor_energies`.
        folder: Where to; see :func:`adatom.deploy.kim.portable_model.write_portable_model`.
        name: KIM's name of the model.
        dataset: Whose energies; None takes the only one.
        provenance: Where the weights come from: plain JSON values.
        title: One line about the model.
        overwrite: Whether an earlier model in the folder may be replaced.

    Returns:
        The folder.

    Raises:
        ConfigError: If the file or the pattern cannot say what the potential does.
        DataError: If the portable model gives something else than the potential.
        FileAccessError: If files cannot be written.
        UnknownNameError: If the dataset is unknown.
    """
    potential = copy.deepcopy(potential).double().eval()
    backbone = potential.backbone
    if not isinstance(backbone, DescriptorNetwork):
        raise ConfigError(f"{type(backbone).__name__} has no descriptor")
    species = backbone.descriptor.species
    energies = descriptor_energies(potential, species, dataset)
    description = ModelDescription(
        name=name,
        species=species,
        pattern="descriptor",
        cutoff=backbone.cutoff,
        descriptor=backbone.descriptor.kind,
    )
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "descriptor.dat"
        file.write_text(descriptor_file_text(backbone.descriptor), encoding="utf-8")
        network = save_torchscript(energies, Path(scratch) / description.model_file)
        _verify(potential, _dataset(potential, dataset), description, network, file)
        return write_portable_model(
            folder,
            description,
            network,
            provenance=provenance or {},
            descriptor_file=file,
            title=title,
            overwrite=overwrite,
        )


def _dataset(potential: Potential, dataset: str | None) -> str:
    datasets = potential.datasets
    if dataset is None:
        if len(datasets) != 1:
            raise ConfigError(
                f"The potential has the datasets {', '.join(datasets)}", fix="Choose one of them."
            )
        return datasets[0]
    if dataset not in datasets:
        raise unknown_name("dataset", dataset, datasets)
    return dataset


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


class _Standardize(nn.Module):
    def __init__(self, mean: torch.Tensor, scale: torch.Tensor) -> None:
        super().__init__()
        # TorchScript takes these as they are, and annotated buffers not.
        self.mean = nn.Parameter(mean.detach().clone())
        self.scale = nn.Parameter(scale.detach().clone())

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return (values - self.mean) / self.scale


def _layers(backbone: DescriptorNetwork, head: EnergyHead) -> nn.Sequential:
    layers: list[nn.Module] = [_Standardize(backbone.mean, backbone.scale)]
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


def _verify(
    potential: Potential, dataset: str, description: ModelDescription, network: Path, file: Path
) -> None:
    """Compare the written files with the potential, as the driver will evaluate them."""
    with quiet_torchscript():
        forward = torch.jit.load(network)
    read = read_descriptor_file(file, description.descriptor or "")
    function = descriptor_function(read.descriptor(description.species))
    codes = {symbol: code for code, symbol in enumerate(description.species)}
    for seed in range(4):
        atoms = _random_structure(description.species, seed)
        configuration = make_configuration(atoms, codes, description.influence_distance)
        found = emulate(forward, description, configuration, descriptor=function)
        if found.forces is None:
            raise DataError("The emulated model gives no forces")
        data = collate([from_ase(atoms, dataset=dataset)]).with_edges(potential.cutoff)
        expected = potential.denormalize(potential(data, ["energy", "forces"]), data)
        forces = configuration.onto_atoms(found.forces) - expected["forces"].detach().numpy()
        energy = found.energy - float(expected["energy"].detach())
        worst = max(abs(energy), float(np.abs(forces).max()))
        if not worst <= TOLERANCE * max(1.0, float(np.abs(found.forces).max())):
            raise DataError(
                f"The portable model and the potential differ by {worst:.1e} on a random structure",
                expected=f"at most {TOLERANCE:.0e}",
            )


def _random_structure(species: Sequence[str], seed: int) -> Atoms:
    """Return eight atoms near the corners and face centers of a cubic cell."""
    rng = np.random.default_rng(seed)
    radius = max(float(covalent_radii[atomic_numbers[symbol]]) for symbol in species)
    fractions = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)]) / 2
    return Atoms(
        rng.choice(list(species), len(fractions)),
        scaled_positions=fractions + rng.uniform(-0.08, 0.08, fractions.shape),
        cell=4.2 * radius * np.eye(3),
        pbc=[True, True, bool(seed % 2)],
    )
