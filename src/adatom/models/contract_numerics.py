"""Contract checks on derivatives, precision and bookkeeping; each raises ContractError."""

from __future__ import annotations

import copy
import json
from dataclasses import fields
from typing import Any

import torch

from adatom.data.atomic_data import AtomicData, collate
from adatom.graph.edges import Edges
from adatom.models.contract_subject import (
    ContractError,
    Model,
    Subject,
    moved,
    neighborhood,
    require_close,
)

#: Step and weights of the fourth-order central difference (angstrom or strain).
STEP = 2e-4
STENCIL = {-2: 1 / 12, -1: -2 / 3, 1: 2 / 3, 2: -1 / 12}
#: Relative distance below the cutoff at which an atom must no longer be felt.
EDGE_OF_CUTOFF = 1e-5


def input_not_mutated(subject: Subject) -> None:
    """Check that evaluation changes neither the batch nor the global state of torch."""
    model = subject.model()
    data = model.with_edges(collate(subject.structures()))
    before = copy.deepcopy(data)
    state = (
        torch.get_default_dtype(),
        torch.is_grad_enabled(),
        torch.random.get_rng_state(),
    )
    model.evaluate(data)
    after = (
        torch.get_default_dtype(),
        torch.is_grad_enabled(),
        torch.random.get_rng_state(),
    )
    for item in fields(data):
        if not _same(getattr(before, item.name), getattr(data, item.name)):
            raise ContractError(f"The model changed data.{item.name} of its input")
    if state[:2] != after[:2] or not torch.equal(state[2], after[2]):
        raise ContractError(
            "The model changed the default dtype, the grad mode or the random state of torch"
        )


def forces_are_gradients(subject: Subject) -> None:
    """Check forces against finite differences of the energy, for every coordinate."""
    model = subject.model()
    for system in subject.structures():
        forces = model.evaluate(system).forces
        directions = torch.eye(3 * system.num_atoms, dtype=torch.float64)
        slopes = _slopes(
            model,
            system,
            [(d.view(-1, 3), torch.zeros(1, 3, 3).double()) for d in directions],
        )
        _require_alive(forces, "Forces of a structure without symmetry", system)
        require_close(
            f"Forces of {system.sid[0]} against finite differences",
            forces,
            -slopes.view(-1, 3),
            1e-6,
            floor=1e-2,
        )


def stress_is_gradient(subject: Subject) -> None:
    """Check the virial against finite differences of the energy under strain."""
    model = subject.model()
    for system in (subject.crystal(1), subject.slab(2)):
        virial = model.evaluate(system).virial[0]
        strains = torch.eye(9, dtype=torch.float64).view(9, 3, 3)
        strains = 0.5 * (strains + strains.transpose(1, 2))
        slopes = _slopes(model, system, [(system.pos @ e, system.cell @ e) for e in strains])
        require_close(
            f"Virial of {system.sid[0]} against finite differences",
            virial,
            slopes.view(3, 3),
            1e-6,
            floor=1e-2,
        )


def smooth_at_cutoff(subject: Subject) -> None:
    """Check that energy and forces are continuous as an atom crosses the cutoff."""
    model = subject.model()
    cutoff = model.backbone.cutoff
    molecule = subject.molecule()
    direction = torch.tensor([0.48, 0.6, 0.64], dtype=torch.float64)
    pos = molecule.pos.clone()
    pos[-1] = pos[0] + cutoff * (1.0 - EDGE_OF_CUTOFF) * direction
    system = moved(molecule, pos)
    inside = model.evaluate(system.with_edges(cutoff))
    outside = model.evaluate(system.with_edges(cutoff * (1.0 - 2.0 * EDGE_OF_CUTOFF)))
    require_close("Energy across the cutoff", inside.energy, outside.energy, 1e-8, floor=1e-2)
    require_close("Forces across the cutoff", inside.forces, outside.forces, 1e-4, floor=1e-2)


def single_and_double_precision(subject: Subject) -> None:
    """Check that float32 and float64 agree, and that each gives its own dtype."""
    double, single = subject.model(torch.float64), subject.model(torch.float32)
    data = collate(subject.structures())
    expected, found = double.evaluate(data), single.evaluate(data)
    for outcome, dtype in ((expected, torch.float64), (found, torch.float32)):
        if outcome.energies.dtype != dtype or outcome.forces.dtype != dtype:
            raise ContractError(
                f"A {dtype} model gives energies in {outcome.energies.dtype} and forces in "
                f"{outcome.forces.dtype}",
                expected=str(dtype),
            )
    require_close("Energies in float32", found.energies, expected.energies, 1e-4, floor=1e-2)
    require_close("Forces in float32", found.forces, expected.forces, 1e-3, floor=1e-2)


def double_backward(subject: Subject) -> None:
    """Check derivatives of a force loss by the weights against finite differences."""
    model = subject.model()
    data = model.with_edges(collate([subject.molecule(), subject.slab(2)]))
    generator = torch.Generator().manual_seed(2)
    weights = torch.randn(data.num_atoms, 3, generator=generator, dtype=torch.float64)
    parameters = [p for p in model.parameters() if p.requires_grad]
    direction = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in parameters]
    loss = (model.evaluate(data, create_graph=True).forces * weights).sum()
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    slope = sum(
        (float((g * d).sum()) for g, d in zip(gradients, direction, strict=True) if g is not None),
        start=0.0,
    )
    difference = 0.0
    for multiple, weight in STENCIL.items():
        with torch.no_grad():
            for p, d in zip(parameters, direction, strict=True):
                p.add_(d, alpha=multiple * STEP)
        difference += weight * float((model.evaluate(data).forces * weights).sum()) / STEP
        with torch.no_grad():
            for p, d in zip(parameters, direction, strict=True):
                p.sub_(d, alpha=multiple * STEP)
    require_close(
        "Derivative of a force loss along a direction in weight space",
        torch.tensor([slope]),
        torch.tensor([difference]),
        1e-5,
        floor=1e-3,
    )


def state_dict_round_trip(subject: Subject) -> None:
    """Check that constructor arguments (JSON) and state dict are the whole model."""
    model, other = subject.model(seed=1), subject.model(seed=2)
    data = collate(subject.structures())
    expected = model.evaluate(data)
    for part in (model.backbone, model.head):
        try:
            arguments = json.loads(json.dumps(part.init_args))
        except TypeError as error:
            raise ContractError(
                f"Constructor arguments of {type(part).__name__} are not plain JSON: {error}",
                expected="numbers, strings, lists and dictionaries",
            ) from error
        rebuilt = type(part)(**arguments)
        if rebuilt.state_dict().keys() != part.state_dict().keys():
            raise ContractError(f"{type(part).__name__} rebuilt from init_args has other weights")
    other.load_state_dict(model.state_dict())
    found = other.evaluate(data)
    require_close("Energies after loading a state dict", found.energies, expected.energies, 0.0)
    require_close("Forces after loading a state dict", found.forces, expected.forces, 0.0)


def deterministic(subject: Subject) -> None:
    """Check that the same input twice gives the same bits."""
    model = subject.model(torch.float32)
    data = collate(subject.structures())
    first, second = model.evaluate(data), model.evaluate(data)
    for name in ("energies", "forces", "virial"):
        if not torch.equal(getattr(first, name), getattr(second, name)):
            raise ContractError(f"The same input twice gives different {name}")


def _slopes(
    model: Model,
    system: AtomicData,
    directions: list[tuple[torch.Tensor, torch.Tensor]],
) -> torch.Tensor:
    """Differentiate the energy along (position, cell) directions, all in one batch.

    Returns:
        One slope per direction, float64.
    """
    displaced = [
        moved(system, system.pos + k * STEP * pos, system.cell + k * STEP * cell)
        for pos, cell in directions
        for k in STENCIL
    ]
    with torch.no_grad():
        data = model.with_edges(collate(displaced))
        energy = _energy(model, data).view(len(directions), len(STENCIL))
    return energy @ torch.tensor(list(STENCIL.values()), dtype=torch.float64) / STEP


def _energy(model: Model, data: AtomicData) -> torch.Tensor:
    layers = [neighborhood(data, model.dtype)] * model.backbone.num_message_layers
    energies = model.head(model.backbone(data, layers), data)["energies"]
    energy = torch.zeros(data.num_systems, dtype=torch.float64)
    return energy.index_add(0, data.batch, energies.double())


def _require_alive(forces: torch.Tensor, what: str, system: AtomicData) -> None:
    """Refuse a model that passes because it is constant."""
    if system.num_atoms > 1 and float(forces.detach().abs().max()) < 1e-8:
        raise ContractError(
            f"{what} are all below 1e-8",
            expected="an energy that depends on the positions",
            fix="Initialize the model under test so that no layer is all zeros.",
        )


def _same(before: Any, after: Any) -> bool:
    if isinstance(before, torch.Tensor):
        return before.dtype == after.dtype and torch.equal(before, after)
    if isinstance(before, Edges):
        return all(
            torch.equal(getattr(before, name), getattr(after, name))
            for name in ("index", "offsets", "counts")
        )
    if isinstance(before, dict):
        return before.keys() == after.keys() and all(_same(before[k], after[k]) for k in before)
    return bool(before == after)
