"""The driver's evaluation in Python: what a model gives under the KIM contract, without KIM."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from adatom.core.errors import DataError, NonFiniteError
from adatom.deploy.kim.configuration import Configuration, Floats
from adatom.deploy.kim.description import ModelDescription
from adatom.deploy.kim.inputs import DescriptorFunction, Inputs, make_inputs
from adatom.deploy.kim.results import COLUMNS, ROWS, Results, virial_of

#: ``forward``: tensors as :mod:`adatom.deploy.kim.inputs` lists them; returns one or several.
Forward = Callable[..., Any]


def emulate(
    forward: Forward,
    description: ModelDescription,
    configuration: Configuration,
    *,
    particle_virial: bool = False,
    descriptor: DescriptorFunction | None = None,
) -> Results:
    """Evaluate a model as the driver does.

    Args:
        forward: The network.
        description: What it takes and gives.
        configuration: Particles, at least to the influence distance.
        particle_virial: Whether virials of particles are wanted; the model must offer them.
        descriptor: Needed for the pattern ``"descriptor"``.

    Returns:
        All results in eV and angstrom; energies of particles are None if the model gives a sum.

    Raises:
        DataError: If the model returns something else than the description promises, gives
            energies to ghosts, or cannot be differentiated.
        NonFiniteError: If energy or forces are not finite.
        ConfigError: As :func:`adatom.deploy.kim.inputs.make_inputs`.
    """
    vectors = particle_virial and description.edge_vectors
    if particle_virial and not (vectors or "particle_virial" in description.outputs):
        raise DataError("Virials of particles were asked for, and the model does not offer them")
    inputs = make_inputs(description, configuration, vectors=vectors, descriptor=descriptor)
    outputs = _outputs(forward(*inputs.arguments), description)
    count = len(configuration.species)
    energy = outputs[0].sum()
    if description.returns_forces:
        forces = _rows(outputs[1], 3, count)
        shares = _rows(outputs[2], 6, count) if particle_virial else None
    else:
        forces, shares = _derived(energy, inputs, count, wanted=particle_virial)
    if not (np.isfinite(forces).all() and torch.isfinite(energy)):
        raise NonFiniteError("The model's energy or forces are not finite")
    return Results(
        energy=float(energy.detach()),
        forces=forces,
        particle_energies=_particle_energies(outputs[0].detach(), inputs, configuration),
        virial=virial_of(forces, configuration.coordinates),
        particle_virial=shares,
    )


def _outputs(returned: Any, description: ModelDescription) -> Sequence[torch.Tensor]:
    outputs = [returned] if isinstance(returned, torch.Tensor) else list(returned)
    promised = 1 + sum(name in description.outputs for name in ("forces", "particle_virial"))
    if len(outputs) < promised or not all(isinstance(out, torch.Tensor) for out in outputs):
        raise DataError(
            f"The model returns {len(outputs)} outputs", expected=f"at least {promised} tensors"
        )
    return outputs


def _rows(output: torch.Tensor, width: int, count: int) -> Floats:
    rows: Floats = output.detach().reshape(-1, width).double().numpy()[:count]
    return rows


def _derived(
    energy: torch.Tensor, inputs: Inputs, count: int, *, wanted: bool
) -> tuple[Floats, Floats | None]:
    """Return forces, and virials of particles, as derivatives of the energy."""
    total = torch.zeros_like(inputs.coordinates).detach()
    shares = torch.zeros(len(total), 6, dtype=total.dtype)
    of_coordinates, *of_vectors = _gradients(energy, inputs)
    if of_coordinates is not None:
        total += of_coordinates
        if wanted and bool(total.any()):
            raise DataError("The model uses coordinates although it was given edge vectors")
    for pair, gradient in zip(inputs.pairs, of_vectors, strict=True):
        if gradient is None:
            continue
        total.index_add_(0, pair.first, gradient).index_add_(0, pair.second, -gradient)
        vectors = pair.vectors.detach()
        symmetric = gradient[:, ROWS] * vectors[:, COLUMNS]
        symmetric = 0.25 * (symmetric + gradient[:, COLUMNS] * vectors[:, ROWS])
        shares.index_add_(0, pair.first, symmetric).index_add_(0, pair.second, symmetric)
    forces: Floats = -total.numpy()[:count]
    return forces, shares.numpy()[:count] if wanted else None


def _gradients(energy: torch.Tensor, inputs: Inputs) -> list[torch.Tensor | None]:
    """Return dE/d(coordinates), then dE/d(vectors) of each pair list; None where there is none."""
    leaves = [inputs.coordinates, *(pair.vectors for pair in inputs.pairs)]
    found: list[torch.Tensor | None] = [None] * len(leaves)
    if energy.requires_grad:
        found = list(torch.autograd.grad(energy, leaves, allow_unused=True))
    if inputs.interacting and all(gradient is None for gradient in found):
        raise DataError(
            "The model's energy has no derivative with respect to coordinates",
            fix="Export it with gradients enabled.",
        )
    return found


def _particle_energies(
    energies: torch.Tensor, inputs: Inputs, configuration: Configuration
) -> Floats | None:
    values = energies.reshape(-1).double().numpy()
    count = len(configuration.species)
    found = np.zeros(count)
    if len(values) == len(inputs.coordinates) and len(values) > 1:
        found[:] = values[:count]
        if found[~configuration.contributing].any():
            raise DataError(
                "The model returns energies for ghost atoms",
                expected="zeros there",
                fix="Multiply energies by the mask of contributing atoms.",
            )
        return found
    if len(values) == configuration.num_atoms:
        found[configuration.contributing] = values
        return found
    return None
