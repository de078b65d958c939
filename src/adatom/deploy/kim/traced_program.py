"""A staged potential traced, with its derivatives, into one program for both back ends.

Our networks are ordinary Python, which TorchScript cannot read. So what they compute is recorded:
every operation of energy and derivatives, with all sizes free. The program returns energies of
particles, forces and virials of particles; nothing is differentiated when it runs.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from adatom.core.errors import ConfigError
from adatom.deploy.kim.configuration import Configuration
from adatom.deploy.kim.description import ModelDescription, Output
from adatom.deploy.kim.inputs import make_inputs
from adatom.deploy.kim.results import COLUMNS, ROWS
from adatom.deploy.staged_potential import EdgeEnds, StagedPotential

#: What a traced program returns.
OUTPUTS: tuple[Output, ...] = ("energy", "particle_energies", "forces", "particle_virial")

Function = Callable[..., tuple[torch.Tensor, ...]]


@dataclass(frozen=True)
class TracedProgram:
    """A program and the arguments that it was recorded with.

    Attributes:
        graph: Operations of ATen only; called like the network.
        arguments: Any others of these shapes' kind will do.
    """

    graph: fx.GraphModule
    arguments: tuple[torch.Tensor, ...]


def program_function(potential: StagedPotential, description: ModelDescription) -> Function:
    """Return what is traced: from the arguments of ``forward`` to the three outputs.

    Args:
        potential: The network.
        description: Its pattern is ``"graph"`` or ``"raw"``; see :mod:`adatom.deploy.kim.inputs`.
    """
    ends = _graph_ends if description.pattern == "graph" else _raw_ends

    def function(*arguments: torch.Tensor) -> tuple[torch.Tensor, ...]:
        species, coordinates = arguments[0], arguments[1].detach()
        layers, contributing = ends(arguments)
        with torch.enable_grad():
            vectors = [
                (coordinates.index_select(0, source) - coordinates.index_select(0, target))
                .detach()
                .requires_grad_()
                for source, target in layers
            ]
            energies = potential(species, coordinates, layers, vectors, contributing)
            gradients = torch.autograd.grad(energies.sum(), vectors, allow_unused=True)
        return (energies.detach(), *sum_gradients(coordinates, layers, vectors, gradients))

    return function


def trace_program(
    potential: StagedPotential, description: ModelDescription, example: Configuration
) -> TracedProgram:
    """Record a program.

    Args:
        potential: The network.
        description: How it is called.
        example: Any particles with ghosts whose layers have different sizes.

    Raises:
        ConfigError: If the network looks at values or sizes, or the recording fails.
    """
    arguments = tuple(argument.detach() for argument in make_inputs(description, example).arguments)
    name = type(potential.backbone).__name__
    return trace(program_function(potential, description), arguments, name)


def trace(function: Function, arguments: tuple[torch.Tensor, ...], name: str) -> TracedProgram:
    """Record a function of tensors with all sizes free.

    Args:
        function: Looks at no values.
        arguments: An example.
        name: Of what is traced, for messages.

    Raises:
        ConfigError: If the recording fails.
    """
    from torch.fx.experimental import _config as symbols
    from torch.fx.experimental.proxy_tensor import make_fx

    # Tables that networks make once and keep must not be made of tensors without values.
    function(*arguments)
    with warnings.catch_warnings(), symbols.patch(use_duck_shape=False):  # type: ignore[attr-defined]
        warnings.simplefilter("ignore")  # PyTorch warns about its own parts
        try:
            graph = make_fx(function, tracing_mode="symbolic", _allow_non_fake_inputs=True)(
                *arguments
            )
        # Tracing fails in any way on what it does not understand.
        except Exception as error:
            raise ConfigError(
                f"{name} cannot be traced: {error}",
                expected="a network that looks neither at values nor at the size of a dimension",
            ) from error
    graph.graph.eliminate_dead_code()
    graph.recompile()
    return TracedProgram(graph, arguments)


def sum_gradients(
    coordinates: torch.Tensor,
    layers: Sequence[EdgeEnds],
    vectors: Sequence[torch.Tensor],
    gradients: Sequence[torch.Tensor | None],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return forces ``[N, 3]`` and virials of particles ``[N, 6]``.

    Args:
        coordinates: ``[N, 3]`` angstrom.
        layers: Edges.
        vectors: ``[E, 3]`` per layer, ``x[source] - x[target]``.
        gradients: dE/d(vectors); None for layers that the network takes nothing of.
    """
    total = torch.zeros_like(coordinates)
    shares = coordinates.new_zeros(coordinates.shape[0], 6)
    for (source, target), vector, gradient in zip(layers, vectors, gradients, strict=True):
        if gradient is None:
            continue
        total = total.index_add(0, source, gradient).index_add(0, target, -gradient)
        fixed = vector.detach()
        outer = _columns(gradient, ROWS) * _columns(fixed, COLUMNS)
        outer = 0.25 * (outer + _columns(gradient, COLUMNS) * _columns(fixed, ROWS))
        shares = shares.index_add(0, source, outer).index_add(0, target, outer)
    return -total, shares


def _columns(rows: torch.Tensor, which: Sequence[int]) -> torch.Tensor:
    parts = rows.unbind(1)
    return torch.stack([parts[k] for k in which], dim=1)


def _graph_ends(arguments: Sequence[Any]) -> tuple[list[EdgeEnds], torch.Tensor]:
    _, _, *graph, ghosts = arguments
    return [(edges[0], edges[1]) for edges in graph], ghosts == 0


def _raw_ends(arguments: Sequence[Any]) -> tuple[list[EdgeEnds], torch.Tensor]:
    _, _, lengths, lists, mask = arguments
    # Contributing particles first, in order; there are as many as lists.
    contributors = torch.argsort(1 - mask, stable=True)[: lengths.shape[0]]
    which = torch.repeat_interleave(lengths.to(torch.int64), output_size=lists.shape[0])
    return [(lists.to(torch.int64), contributors.index_select(0, which))], mask == 1
