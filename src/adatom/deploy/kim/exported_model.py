"""Networks as exported programs, which are compiled where they run.

Derivatives become part of the program, since compiled code cannot be differentiated: it returns
energies of particles, forces and, where the network takes edge vectors, virials of particles.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from adatom.core.errors import ConfigError
from adatom.core.files import atomic_write
from adatom.deploy.kim.configuration import Configuration
from adatom.deploy.kim.description import ModelDescription
from adatom.deploy.kim.inputs import make_inputs
from adatom.deploy.kim.traced_program import TracedProgram, sum_gradients, trace


def save_exported(
    module: torch.nn.Module,
    description: ModelDescription,
    example: Configuration,
    path: str | os.PathLike[str],
) -> Path:
    """Trace energy and derivatives of a graph network and save the program.

    Args:
        module: As for TorchScript: ``forward`` returns energies of particles ``[N]``. If virials
            of particles are among the outputs, it has to take edge vectors at the end.
        description: Says ``graph``, ``aotinductor`` and what the program returns.
        example: Any particles; every size of the program stays free. There must be ghosts, and
            layers of different sizes.
        path: Ends in ``.ep``; see :func:`adatom.deploy.kim.compiled_model.exported_name`.

    Returns:
        The path.

    Raises:
        ConfigError: If the pattern is not ``graph``, or PyTorch cannot export the module.
        FileAccessError: If the file cannot be written.
    """
    _require_graph(description)
    module = module.eval().requires_grad_(False)
    arguments = tuple(argument.detach() for argument in make_inputs(description, example).arguments)
    virials = "particle_virial" in description.outputs
    function = _with_derivatives(module, description.layers, virials=virials)
    program = trace(function, arguments, type(module).__name__)
    return save_traced_program(program, description, path)


def save_traced_program(
    program: TracedProgram, description: ModelDescription, path: str | os.PathLike[str]
) -> Path:
    """Export a traced program, and save it.

    Args:
        program: Of a graph network; every size stays free.
        description: Says ``graph``.
        path: Ends in ``.ep``; see :func:`adatom.deploy.kim.compiled_model.exported_name`.

    Returns:
        The path.

    Raises:
        ConfigError: If the pattern is not ``graph``, or PyTorch cannot export the program.
        FileAccessError: If the file cannot be written.
    """
    _require_graph(description)
    with warnings.catch_warnings(), atomic_write(path) as part:
        # Exporting warns about its own parts.
        warnings.simplefilter("ignore")
        try:
            exported = torch.export.export(
                program.graph,
                program.arguments,
                dynamic_shapes=_free_sizes(description.layers),
                strict=False,
            )
        # Export fails in any way on what it does not understand.
        except Exception as error:
            raise ConfigError(f"The program cannot be exported: {error}") from error
        # By name it would insist on the suffix .pt2, which is that of compiled files here.
        with part.open("wb") as stream:
            torch.export.save(exported, stream)
    return Path(path)


def load_exported(path: str | os.PathLike[str]) -> Callable[..., Any]:
    """Return an exported program as a function, not compiled."""
    with warnings.catch_warnings(), Path(path).open("rb") as stream:
        warnings.simplefilter("ignore")
        return torch.export.load(stream).module()


def _require_graph(description: ModelDescription) -> None:
    if description.pattern != "graph":
        raise ConfigError(
            f"A {description.pattern} model is to be compiled",
            expected="a graph model: lists of other patterns have sizes that depend on values",
        )


def _with_derivatives(
    module: torch.nn.Module, layers: int, *, virials: bool
) -> Callable[..., tuple[torch.Tensor, ...]]:
    def forces(*arguments: torch.Tensor) -> tuple[torch.Tensor, ...]:
        species, coordinates, *rest = arguments
        with torch.enable_grad():
            leaf = coordinates.detach().requires_grad_()
            energies: torch.Tensor = module(species, leaf, *rest)
            (gradient,) = torch.autograd.grad(energies.sum(), leaf)
        return energies.detach(), -gradient

    def forces_and_virials(*arguments: torch.Tensor) -> tuple[torch.Tensor, ...]:
        coordinates, graph = arguments[1], arguments[2 : 2 + layers]
        ends = [(edges[0], edges[1]) for edges in graph]
        with torch.enable_grad():
            vectors = [
                (coordinates[first] - coordinates[second]).detach().requires_grad_()
                for first, second in ends
            ]
            energies: torch.Tensor = module(*arguments, *vectors)
            gradients = torch.autograd.grad(energies.sum(), vectors)
        return (energies.detach(), *sum_gradients(coordinates, ends, vectors, gradients))

    return forces_and_virials if virials else forces


def _free_sizes(layers: int) -> tuple[dict[int, Any], ...]:
    """Return which axes of the arguments have any size; at least 2, as the driver pads."""
    particles = torch.export.Dim("particles", min=2)
    edges = [torch.export.Dim(f"edges_{k}") for k in range(layers)]
    return ({0: particles}, {0: particles}, *({1: edge} for edge in edges), {0: particles})
