"""Networks as TorchScript: the portable form that the driver runs everywhere."""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import fx

from adatom.core.errors import ConfigError
from adatom.core.files import atomic_write
from adatom.deploy.kim.traced_program import TracedProgram


def save_torchscript(module: torch.nn.Module, path: str | os.PathLike[str]) -> Path:
    """Script a module and save it.

    Args:
        module: With a ``forward`` as :mod:`adatom.deploy.kim.inputs` describes, and all that
            TorchScript asks for: annotated arguments, no attributes of other types. Its
            parameters stay as they are.
        path: Ends in ``.pt``.

    Returns:
        The path.

    Raises:
        ConfigError: If TorchScript refuses the module; says why.
        FileAccessError: If the file cannot be written.
    """
    with quiet_torchscript():
        try:
            scripted = torch.jit.script(module.eval())
        except (RuntimeError, TypeError, NotImplementedError) as error:
            raise ConfigError(
                f"TorchScript refuses {type(module).__name__}: {error}",
                expected="a module that torch.jit.script accepts",
            ) from error
        with atomic_write(path) as part:
            torch.jit.save(scripted, part)
    return Path(path)


def save_traced(program: TracedProgram, path: str | os.PathLike[str]) -> Path:
    """Save a traced program as TorchScript; it runs on the device of its coordinates.

    Args:
        program: Its second argument are the coordinates.
        path: Ends in ``.pt``.

    Returns:
        The path.

    Raises:
        ConfigError: If TorchScript lacks one of the program's operations.
        FileAccessError: If the file cannot be written.
    """
    module = copy.copy(program.graph)
    module = fx.GraphModule(module, copy.deepcopy(module.graph))
    _constants_to_buffers(module)
    _to_torchscript(module.graph)
    module.recompile()
    return save_torchscript(module, path)


def _constants_to_buffers(module: fx.GraphModule) -> None:
    """Make weights and tables move with the module, and never ask for gradients."""
    constants = {node.target for node in module.graph.nodes if node.op == "get_attr"}
    for name in sorted(constants):
        value = getattr(module, name).detach()
        delattr(module, name)
        module.register_buffer(name, value)


def _to_torchscript(graph: fx.Graph) -> None:
    """Replace what TorchScript has no words for: overloads, devices, numbers of no known type."""
    places = [node for node in graph.nodes if node.op == "placeholder"]
    with graph.inserting_after(places[-1]):
        device = graph.call_function(getattr, (places[1], "device"))
    for node in list(graph.nodes):
        if isinstance(node.target, torch._ops.OpOverload):  # noqa: SLF001 - it has no other name
            node.target = node.target.overloadpacket
        given = {name: value for name, value in node.kwargs.items() if value is not None}
        given.pop("pin_memory", None)
        if "device" in given:
            given["device"] = device
        node.kwargs = given
        if node.target is torch.ops.aten._local_scalar_dense:  # noqa: SLF001
            with graph.inserting_after(node):
                whole = graph.call_function(int, (node,))
            node.replace_all_uses_with(
                whole, delete_user_cb=lambda user, new=whole: user is not new
            )
    graph.eliminate_dead_code()
    graph.lint()


@contextmanager
def quiet_torchscript() -> Iterator[None]:
    """Keep PyTorch from warning that TorchScript is deprecated: KIM has no other portable form."""
    with warnings.catch_warnings():
        for name in ("script", "save", "load", "freeze", "trace"):
            warnings.filterwarnings("ignore", rf".*`torch\.jit\.{name}`", DeprecationWarning)
        # Of PyTorch's own graph modules.
        warnings.filterwarnings("ignore", "The TorchScript type system doesn't support instance")
        yield
