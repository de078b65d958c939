"""``adatom export``: potentials in the forms that other programs read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

#: What a portable model repeats of a checkpoint's metadata.
_TOLD = ("name", "title", "licence", "training_data")


def main(arguments: list[str]) -> None:
    """Run ``adatom export kim``."""
    from adatom.cli.arguments import run_functions, with_lists

    functions: dict[str, Callable[..., None]] = {"kim": kim}
    run_functions(functions, with_lists(arguments, "--species"), "adatom export")


def kim(
    checkpoint: str,
    name: str | None = None,
    pattern: Literal["raw", "graph", "descriptor"] = "graph",
    backend: Literal["script", "aoti"] = "script",
    task: str | None = None,
    species: list[str] | None = None,
    composition: str | None = None,
    charge: int = 0,
    spin: int = 0,
    dtype: Literal["float32", "float64"] | None = None,
    output: str | None = None,
    overwrite: bool = False,
) -> None:
    """Write a portable model of OpenKIM, after comparing it with the potential.

    Args:
        checkpoint: Checkpoint file or name.
        name: KIM's name, such as Silicon__MO_123456789012_000; has to be given.
        pattern: How the driver calls the network: staged graphs, raw neighbor lists (networks with
            one message layer) or descriptors (descriptor networks).
        backend: What runs the network: TorchScript anywhere, or AOTInductor, compiled for the
            machine by adatom kim install.
        task: Level of theory, where the potential has several.
        species: Elements of the model, such as Si O; all that the task has if not given.
        composition: Formula, such as SiC, that experts are merged for. The model is right for
            this composition only.
        charge: Total charge of every system.
        spin: Spin multiplicity of every system; 0 for "not given".
        dtype: What the network computes in; that of the checkpoint if not given.
        output: Folder; the model's name if not given.
        overwrite: Replace an earlier model in the folder.
    """
    import torch

    from adatom.checkpoint.format import load_potential
    from adatom.core.console import say
    from adatom.core.errors import ConfigError
    from adatom.deploy.kim.export import ExportOptions, export_potential

    if name is None:
        raise ConfigError(
            "The model has no name",
            fix="Give one in KIM's form, such as --name Silicon__MO_123456789012_000.",
        )
    options = ExportOptions(
        name=name,
        pattern=pattern,
        backend="torchscript" if backend == "script" else "aotinductor",
        dataset=task,
        species=tuple(species or ()),
        composition=composition,
        charge=charge,
        spin=spin,
        dtype=None if dtype is None else getattr(torch, dtype),
    )
    potential = load_potential(checkpoint)
    found = export_potential(
        potential,
        options,
        output or name,
        provenance=_provenance(checkpoint, potential.metadata),
        overwrite=overwrite,
    )
    for quantity, difference in found.differences.items():
        say(f"Compared with the potential: {quantity} differ by at most {difference:.1e}.")
    if composition is not None:
        say(f"The weights are for {composition} only: other compositions would be wrong.")
    say(f"Wrote {found.folder}. Install it with: adatom kim install {found.folder}")


def _provenance(checkpoint: str, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return where the weights come from; what else a checkpoint tells stays there."""
    told = {name: metadata[name] for name in _TOLD if name in metadata}
    return {"checkpoint": checkpoint, **told}
