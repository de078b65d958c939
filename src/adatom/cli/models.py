"""``adatom models``: which potentials there are, what a checkpoint holds, conversion."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import torch
    from ase import Atoms

    from adatom.tasks.potential import Potential

_COLUMNS = ("property", "value")


def main(arguments: list[str]) -> None:
    """Run ``adatom models list``, ``info`` or ``convert``."""
    from adatom.cli.arguments import run_functions

    run_functions(
        {"list": list_models, "info": show_info, "convert": convert}, arguments, "adatom models"
    )


def list_models() -> None:
    """List the potentials that come with the package and those that can be downloaded."""
    from adatom.checkpoint.names import EMBEDDED
    from adatom.checkpoint.published import PUBLISHED
    from adatom.core.console import print_table

    print_table(
        "Potentials of this installation",
        ("name", "about", "tasks", "elements", "parameters", "size"),
        [_embedded_row(name, path) for name, path in EMBEDDED.items()],
    )
    print_table(
        "Published potentials (access has to be asked for)",
        ("name", "repository on huggingface.co", "downloaded to", "size"),
        [_published_row(name) for name in PUBLISHED],
    )


def _embedded_row(name: str, path: Path) -> Sequence[object]:
    from adatom.checkpoint.format import read_description

    if not path.is_file():
        return (name, "not part of this installation", None, None, None, None)
    about = read_description(path)
    return (
        name,
        about["metadata"].get("title", about["backbone"]["class_path"].split(".")[-1]),
        ", ".join(about["domains"]),
        _elements(about["elements"]),
        about["num_parameters"],
        _megabytes(path),
    )


def _published_row(name: str) -> Sequence[object]:
    from adatom.checkpoint.hub import find_cached
    from adatom.checkpoint.published import published

    where = published(name)
    path = find_cached(where.repo_id, where.filename, revision=where.revision)
    return (name, where.repo_id, path and str(path), path and _megabytes(path))


def show_info(file: str) -> None:
    """Show what a checkpoint holds, after checking that it is whole.

    Args:
        file: An adatom checkpoint, an official fairchem inference checkpoint (.pt), or the name of
            an embedded or published potential.
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
    _show_merged(about)
    for part in ("backbone", "head"):
        settings = [(key, _short(value)) for key, value in about[part]["init_args"].items()]
        print_table(about[part]["class_path"], ("argument", "value"), settings)
    metadata = dict(about["metadata"])
    card = metadata.pop("model_card", None)
    if metadata:
        print_table("About", _COLUMNS, [(key, _short(value)) for key, value in metadata.items()])
    if isinstance(card, str):
        show(card)


def convert(
    source: str,
    output: str,
    dtype: str | None = None,
    merge: str | None = None,
    task: str | None = None,
    charge: int | None = None,
    spin: int | None = None,
) -> None:
    """Convert a checkpoint, such as one of fairchem or of a training, to adatom's format.

    Args:
        source: The checkpoint to read, or its name; no code in it is executed. Of a training, the
            folder of a checkpoint or of the run: its averaged weights are converted.
        output: The .safetensors file to write.
        dtype: float32 or float64; by default that of the stored weights.
        merge: A formula such as H2O, or a structure file: sum the experts for this composition,
            which makes the file many times smaller and usable for nothing else.
        task: With merge: the task; needed if the potential has several.
        charge: With merge: the total charge; by default that of the structure file, else 0.
        spin: With merge: the spin multiplicity (0 = not given); by default that of the structure
            file, else 0.
    """
    from adatom.checkpoint.format import load_potential, save_potential
    from adatom.core.console import say
    from adatom.core.errors import ConfigError
    from adatom.core.files import require_writable

    wanted = _dtype(dtype)
    require_writable(output)
    options = {"task": task, "charge": charge, "spin": spin}
    stray = [f"--{name}" for name, value in options.items() if value is not None]
    if merge is None and stray:
        raise ConfigError(f"{stray[0]} has a meaning only with --merge", fix="Give both or none.")
    if Path(source).is_dir():
        if merge is not None or dtype is not None:
            raise ConfigError(
                f"{source!r} is a folder, of which a training checkpoint is converted as it is",
                fix="Convert it first without options, then the written file.",
            )
        _convert_training(source, output)
    elif merge is None:
        save_potential(load_potential(source, dtype=wanted), output)
    else:
        potential = load_potential(source)
        save_potential(_merged(potential, merge, task, charge, spin, wanted), output)
    say(f"Wrote {output} ({_megabytes(Path(output))})")


def _convert_training(source: str, output: str) -> None:
    from adatom.core.console import say
    from adatom.training.export import convert_train_checkpoint_to_inference_checkpoint

    found = convert_train_checkpoint_to_inference_checkpoint(source, output)
    say(f"Converted {found}")


def _merged(
    potential: Potential,
    merge: str,
    task: str | None,
    charge: int | None,
    spin: int | None,
    dtype: torch.dtype | None,
) -> Potential:
    """Return the potential merged for one formula or structure."""
    from adatom.checkpoint.merge import merged_potential
    from adatom.core.errors import ConfigError, unknown_name
    from adatom.data.ase_convert import from_ase

    known = potential.datasets
    if task is None and len(known) > 1:
        raise ConfigError(
            "This potential has several tasks and none was chosen",
            expected=f"--task with one of: {', '.join(known)}",
        )
    if task is not None and task not in known:
        raise unknown_name("task", task, known)
    atoms = _atoms_of(merge)
    for key, value in (("charge", charge), ("spin", spin)):
        if value is not None:
            atoms.info[key] = value
    system = from_ase(atoms, dataset=task or known[0], sid=merge, label_keys={})
    return merged_potential(potential, system, dtype=dtype)


def _atoms_of(merge: str) -> Atoms:
    """Return the first structure of a file, or atoms at no particular places for a formula."""
    from ase import Atoms
    from ase.formula import Formula

    from adatom.core.errors import ConfigError, DataError

    if Path(merge).is_file():
        import ase.io

        try:
            found = ase.io.read(merge, index=0)
        # ASE's readers fail in any way on a foreign file.
        except Exception as error:
            raise DataError(f"{merge!r} is not a structure file: {error}") from error
        return cast("Atoms", found)
    try:
        symbols = list(Formula(merge))
        atoms = Atoms(symbols, positions=[(3.0 * i, 0.0, 0.0) for i in range(len(symbols))])
    except (ValueError, KeyError) as error:
        raise ConfigError(
            f"{merge!r} is neither a formula nor a structure file",
            expected="a formula such as H2O, or the path of a file that ASE reads",
        ) from error
    if not symbols:
        raise ConfigError("The formula to merge for is empty", expected="such as H2O")
    return atoms


def _show_merged(about: Mapping[str, Any]) -> None:
    from adatom.checkpoint.tasks_json import domain_from_json
    from adatom.core.console import print_table

    rows = []
    for name, value in about["domains"].items():
        domain = domain_from_json(value, name)
        if domain.composition is not None:
            size = "any number of formula units" if domain.composition.multiples else "this size"
            rows.append((name, str(domain.composition), size, domain.charges[0], domain.spins[0]))
    if rows:
        columns = ("dataset", "composition", "size", "charge", "spin")
        print_table("Experts merged for", columns, rows)


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
        ("file", f"{_megabytes(path)}, checked"),
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


def _megabytes(path: Path) -> str:
    return f"{path.stat().st_size / 1e6:.1f} MB"
