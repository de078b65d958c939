"""Experts summed for one composition, charge, spin and dataset.

The coefficients of the experts depend on nothing else (Wood et al., UMA, 2025), so for one kind of
system a mixture is an ordinary dense network: for UMA-S 23 times fewer numbers.
"""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from torch import nn

from adatom.checkpoint.construction import without_initial_weights
from adatom.core.errors import ConfigError
from adatom.core.mapped_file import release_pages
from adatom.core.precision import default_dtype
from adatom.data.atomic_data import AtomicData
from adatom.models.base import Head
from adatom.models.escn_md import eSCNMDBackbone
from adatom.nn.experts import MixedLinear
from adatom.tasks.composition import Composition
from adatom.tasks.domain import Domain
from adatom.tasks.potential import Potential


def merged_potential(
    potential: Potential, data: AtomicData, *, dtype: torch.dtype | None = None
) -> Potential:
    """Return a dense potential for systems like the given one; its energies are the same.

    Coefficients and sums are computed in float64. The original stays as it is; memory that its
    experts were mapped to is given back.

    Args:
        potential: With experts.
        data: One system, or several of the same composition, charge, spin and dataset. Edges and
            positions play no part.
        dtype: Floating dtype of the result; None keeps that of ``potential``.

    Returns:
        A frozen potential in evaluation mode. It shares every weight that is not an expert's,
        where the dtype stays, and refuses other compositions, charges, spins and datasets.

    Raises:
        ConfigError: If the potential has no experts.
        OutOfDomainError: If it does not know the system, or the systems differ.
        UnknownNameError: If it does not know the dataset.
    """
    backbone = potential.backbone
    if not isinstance(backbone, eSCNMDBackbone) or not backbone.init_args["num_experts"]:
        raise ConfigError(
            f"This potential ({type(backbone).__name__}) has no experts, so there is nothing to "
            "merge",
            expected="a mixture of experts such as UMA",
            fix="Use it as it is.",
        )
    potential.check_input(data)
    system = data.unbatch()[0] if data.num_systems > 1 else data
    dataset = system.dataset[0]
    merged = Potential(
        _merged_backbone(backbone, system, dtype or potential.dtype),
        _shared_head(potential.head, dtype or potential.dtype),
        [replace(task, datasets=[dataset]) for task in potential.tasks if dataset in task.datasets],
        {dataset: _narrowed(system, multiples=not backbone.composition_mean_counts_zero)},
        metadata=potential.metadata,
    )
    merged.backbone.execution = backbone.execution
    merged.check_input(data)
    return merged.eval().requires_grad_(requires_grad=False)


def _narrowed(system: AtomicData, *, multiples: bool) -> Domain:
    """Return the domain of systems like the given one."""
    numbers = system.atomic_numbers.tolist()
    return Domain(
        tuple(sorted(set(numbers))),
        (int(system.charge[0]),),
        (int(system.spin[0]),),
        Composition.of(numbers, multiples=multiples),
    )


def _merged_backbone(
    backbone: eSCNMDBackbone, system: AtomicData, dtype: torch.dtype
) -> eSCNMDBackbone:
    coefficients = _coefficients(backbone, system)
    experts = {
        f"{name}.weight" if name else "weight": layer.weights
        for name, layer in backbone.named_modules()
        if isinstance(layer, MixedLinear) and layer.num_experts
    }
    # The neighbor limit may have been changed after construction.
    changed = {"num_experts": 0, "max_neighbors": backbone.max_neighbors}
    # The caller's random numbers must not notice.
    with default_dtype(dtype), torch.random.fork_rng(devices=[]), without_initial_weights():
        dense = eSCNMDBackbone(**{**backbone.init_args, **changed})
    stored = backbone.state_dict()
    state = {}
    for name in dense.state_dict():
        if name in experts:
            state[name] = _weighted_sum(experts[name].detach(), coefficients).to(dtype)
            release_pages(experts[name])
        else:
            state[name] = stored[name].detach().to(dtype)
    dense.load_state_dict(state, assign=True)
    return dense.to(stored["mix_csd.weight"].device)


def _coefficients(backbone: eSCNMDBackbone, system: AtomicData) -> list[float]:
    """Return the weight of each expert, computed in float64 on the CPU."""
    # A copy of everything but the blocks, which hold nearly all of the memory.
    router = copy.deepcopy(backbone, {id(backbone.blocks): nn.ModuleList()}).cpu().double()
    system = system.to(torch.device("cpu"))
    with torch.no_grad():
        _, coefficients = router.route(system, router.embed_system(system))
    if coefficients is None:
        raise ConfigError("The backbone has no experts")
    values: list[float] = coefficients[0].tolist()
    return values


def _weighted_sum(weights: torch.Tensor, coefficients: list[float]) -> torch.Tensor:
    """Return the float64 sum over the first axis, without a float64 copy of the weights."""
    total = torch.zeros(weights.shape[1:], dtype=torch.float64, device=weights.device)
    for weight, coefficient in zip(weights, coefficients, strict=True):
        total.add_(weight, alpha=coefficient)
    return total


def _shared_head(head: Head, dtype: torch.dtype) -> Head:
    """Return a copy of the head that uses the same weights, where the dtype stays."""
    shared: dict[int, torch.Tensor] = {id(buffer): buffer for buffer in head.buffers()}
    for parameter in head.parameters():
        shared[id(parameter)] = nn.Parameter(parameter.detach(), requires_grad=False)
    return copy.deepcopy(head, shared).to(dtype)
