"""``adatom models``: which potentials there are, what a checkpoint holds, conversion."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_COLUMNS = ("property", "value")


def main(arguments: list[str]) -> None:
    """Run ``adatom models list``, ``info`` or ``convert``."""
    from adatom.cli.arguments import run_functions

    run_functions(
        {"list": list_models, "info": show_info, "convert": convert}, arguments, "adatom models"
    )


def list_models() -> None:
    """List the potentials that come with the package."""
    from adatom.checkpoint.format import read_description
    from adatom.checkpoint.names import EMBEDDED
    from adatom.core.console import print_table

    rows: list[Sequence[object]] = []
    for name, path in EMBEDDED.items():
        if not path.is_file():
            rows.append((name, "not part of this installation", None, None, None, None))
            continue
        about = read_description(path)
        rows.append(
            (
                name,
                about["metadata"].get("title", about["backbone"]["class_path"].split(".")[-1]),
                ", ".join(about["domains"]),
                _elements(about["elements"]),
                about["num_parameters"],
                f"{path.stat().st_size / 1e6:.1f} MB",
            )
        )
    columns = ("name", "about", "tasks", "elements", "parameters", "size")
    print_table("Potentials", columns, rows)


def show_info(file: str) -> None:
    """Show what a checkpoint holds, after checking that it is whole.

    Args:
        file: An adatom checkpoint, an official fairchem inference checkpoint (.pt), or the name of
            an embedded potential.
    """
    from adatom.checkpoint.format import read_description, verify
    from adatom.checkpoint.names import resolve_checkpoint
    from adatom.core.console import print_table, show

    path = resolve_checkpoint(file)
    about = read_description(path)
    verify(path)
    print_table(str(path), _COLUMNS, _overview(about, path))
    print_table("Tasks", ("task", "datasets", "mean", "rmsd", "references", ""), _tasks(about))
    domains = [
        (name, _elements(d["elements"]), _integers(d["charges"]), _integers(d["spins"]))
        for name, d in about["domains"].items()
    ]
    print_table("Domain", ("dataset", "elements", "charges", "spins"), domains)
    for part in ("backbone", "head"):
        settings = [(key, _short(value)) for key, value in about[part]["init_args"].items()]
        print_table(about[part]["class_path"], ("argument", "value"), settings)
    metadata = dict(about["metadata"])
    card = metadata.pop("model_card", None)
    if metadata:
        print_table("About", _COLUMNS, [(key, _short(value)) for key, value in metadata.items()])
    if isinstance(card, str):
        show(card)


def convert(source: str, output: str, dtype: str | None = None) -> None:
    """Convert a checkpoint, such as an official fairchem one, to adatom's format.

    Args:
        source: The checkpoint to read; no code in it is executed.
        output: The .safetensors file to write.
        dtype: float32 or float64; by default that of the stored weights.
    """
    from adatom.checkpoint.format import load_potential, save_potential
    from adatom.core.console import say
    from adatom.core.files import require_writable

    wanted = _dtype(dtype)
    require_writable(output)
    save_potential(load_potential(source, dtype=wanted), output)
    say(f"Wrote {output} ({Path(output).stat().st_size / 1e6:.1f} MB)")


def _dtype(name: str | None) -> torch.dtype | None:
    import torch

    from adatom.core.errors import unknown_name

    known = {"float32": torch.float32, "float64": torch.float64}
    if name is None:
        return None
    if name not in known:
        raise unknown_name("dtype", name, known)
    return known[name]


def _overview(about: Mapping[str, Any], path: Path) -> list[Sequence[object]]:
    units = ", ".join(f"{quantity} {unit}" for quantity, unit in about["units"].items())
    return [
        ("backbone", about["backbone"]["class_path"].split(".")[-1]),
        ("head", about["head"]["class_path"].split(".")[-1]),
        ("parameters", f"{about['num_parameters']:,}"),
        ("weights", about["dtype"]),
        ("cutoff", f"{about['cutoff']:g} angstrom"),
        ("max neighbors", str(about["max_neighbors"] or "no limit")),
        ("elements", _elements(about["elements"])),
        ("units", units),
        ("format", f"version {about['format_version']}, adatom {about['adatom_version']}"),
        ("file", f"{path.stat().st_size / 1e6:.1f} MB, checked"),
    ]


def _tasks(about: Mapping[str, Any]) -> list[Sequence[object]]:
    return [
        (
            task["name"],
            ", ".join(task["datasets"]),
            task["normalizer"]["mean"],
            task["normalizer"]["rmsd"],
            "per element" if task["element_references"] else None,
            "never trained" if task["inference_only"] else None,
        )
        for task in about["tasks"]
    ]


def _elements(numbers: Sequence[int]) -> str:
    from ase.data import chemical_symbols

    symbol: Callable[[int], str] = chemical_symbols.__getitem__
    return f"{_integers(numbers, symbol)} ({len(numbers)})"


def _integers(values: Sequence[int], name: Callable[[int], str] = str) -> str:
    from adatom.tasks.domain import as_ranges

    return as_ranges(values, name) or "any"


def _short(value: object) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 200 else text[:197] + "..."
