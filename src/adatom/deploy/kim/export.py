"""From a potential to the folder of a portable model that gives the same numbers."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from ase import Atoms
from ase.data import atomic_numbers, chemical_symbols
from ase.formula import Formula

from adatom.checkpoint.merge import merged_potential
from adatom.core.errors import ConfigError, UnknownNameError
from adatom.data.ase_convert import from_ase
from adatom.deploy.kim.configuration import make_configuration
from adatom.deploy.kim.description import Backend, ModelDescription, Pattern
from adatom.deploy.kim.emulator import Forward
from adatom.deploy.kim.export_check import (
    SELF_TEST,
    Expected,
    predict_natively,
    require_agreement,
)
from adatom.deploy.kim.exported_model import load_exported, save_traced_program
from adatom.deploy.kim.portable_model import require_free, write_portable_model
from adatom.deploy.kim.sample_structures import sample_structures
from adatom.deploy.kim.scripted_model import quiet_torchscript, save_traced
from adatom.deploy.kim.self_test import self_test_text
from adatom.deploy.kim.traced_program import OUTPUTS, TracedProgram, trace_program
from adatom.deploy.staged_potential import StagedPotential
from adatom.inference.predict_unit import MLIPPredictUnit
from adatom.tasks.composition import Composition
from adatom.tasks.potential import Potential

#: How many of the structures that were compared go into the self-test.
_SELF_TESTS = 3


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """What is made of a potential.

    Attributes:
        name: KIM's name, ``Prefix__MO_123456789012_000``.
        pattern: ``"graph"``; ``"raw"`` for networks with one message layer; ``"descriptor"`` for
            descriptor networks.
        backend: What runs the network.
        dataset: Level of theory; None takes the only one.
        species: Chemical symbols; none means all that the dataset has, or the composition's.
        composition: Formula such as ``"SiC"`` that experts are merged for; None where the weights
            do not depend on the composition.
        charge: Total charge of every system.
        spin: Multiplicity of every system, 0 for "not given".
        dtype: What the network computes in; None keeps that of the potential.
    """

    name: str
    pattern: Pattern = "graph"
    backend: Backend = "torchscript"
    dataset: str | None = None
    species: tuple[str, ...] = ()
    composition: str | None = None
    charge: int = 0
    spin: int = 0
    dtype: torch.dtype | None = None


@dataclass(frozen=True)
class ExportedModel:
    """What was written, and how well it agrees with the potential.

    Attributes:
        folder: Of the portable model.
        description: What the network takes and gives.
        differences: The largest difference by quantity; see
            :func:`adatom.deploy.kim.export_check.require_agreement`.
    """

    folder: Path
    description: ModelDescription
    differences: Mapping[str, float]


def export_potential(
    potential: Potential,
    options: ExportOptions,
    folder: str | os.PathLike[str],
    *,
    provenance: Mapping[str, Any],
    title: str | None = None,
    overwrite: bool = False,
) -> ExportedModel:
    """Write a portable model, after comparing it with the potential on random structures.

    Args:
        potential: Left as it is.
        options: What to make.
        folder: Where to; see :func:`adatom.deploy.kim.portable_model.write_portable_model`.
        provenance: Where the weights come from: plain JSON values.
        title: One line about the model.
        overwrite: Whether an earlier model in the folder may be replaced.

    Raises:
        ConfigError: If the potential cannot be exported this way; says why.
        ExportError: If the exported model gives other numbers than the potential.
        OutOfDomainError: If the potential was not trained on an element, the charge or the spin.
        UnknownNameError: If there is no such dataset or species.
        FileAccessError: If the folder cannot be written.
    """
    require_free(folder, overwrite=overwrite)
    dataset = _dataset(potential, options.dataset)
    facts = {
        **provenance,
        "dataset": dataset,
        "charge": options.charge,
        "spin": options.spin,
        "composition": options.composition,
    }
    if options.pattern == "descriptor":
        return _export_descriptor(potential, options, folder, facts, title, overwrite=overwrite)
    composition = _composition(potential, options)
    species = _species(potential, dataset, options, composition)
    dtype = options.dtype or potential.dtype
    known = _known_system(potential, dataset, species, composition, options)
    merged = potential
    if _experts(potential):
        merged = merged_potential(potential, known, dtype=dtype)
    numbers = [atomic_numbers[symbol] for symbol in species]
    staged = StagedPotential(
        merged, dataset, numbers, charge=options.charge, spin=options.spin, dtype=dtype
    )
    description = _description(staged, species, options, composition, potential.max_neighbors)
    formula = species if composition is None else _symbols(composition)
    repeats = composition is None or composition.multiples
    structures = sample_structures(formula, staged.backbone.cutoff, repeats=repeats)
    with tempfile.TemporaryDirectory(prefix="adatom-export-") as scratch:
        network, forward = _saved(staged, description, structures["bulk"], Path(scratch))
        expected = _expected(potential, structures, dataset, options, dtype)
        differences = require_agreement(forward, description, structures, expected)
        facts |= {"largest_differences": differences}
        written = write_portable_model(
            folder,
            description,
            network,
            provenance=facts,
            title=title or _title(options, dataset),
            overwrite=overwrite,
        )
    few = dict(list(structures.items())[-_SELF_TESTS:])
    (written / SELF_TEST).write_text(
        self_test_text(few, expected, description.dtype), encoding="utf-8"
    )
    return ExportedModel(written, description, differences)


def _dataset(potential: Potential, name: str | None) -> str:
    known = potential.datasets
    if name is None and len(known) != 1:
        raise ConfigError(
            "This potential has several tasks and none was chosen",
            expected=f"a task among: {', '.join(known)}",
        )
    dataset = known[0] if name is None else name
    potential.properties(dataset)  # refuses what is unknown
    return dataset


def _experts(potential: Potential) -> int:
    return int(getattr(potential.backbone, "init_args", {}).get("num_experts") or 0)


def _composition(potential: Potential, options: ExportOptions) -> Composition | None:
    """Return the composition that experts are merged for, or None where it does not matter."""
    depends = getattr(potential.backbone, "composition_embedding", None) is not None
    if not depends:
        if options.composition is not None:
            raise ConfigError(
                f"The composition {options.composition!r} was given, but the weights of this "
                "potential do not depend on it",
                fix="Leave it out; choose elements with species.",
            )
        return None
    if options.composition is None:
        raise ConfigError(
            "The experts of this potential depend on the composition of the system, which a "
            "process that holds a part of it does not know",
            fix="Name the one that the model is for, such as --composition SiC.",
        )
    try:
        counts = Formula(options.composition).count()
    except ValueError as error:
        raise ConfigError(
            f"The composition is {options.composition!r}", expected="a formula such as H2O"
        ) from error
    numbers = [_number(symbol) for symbol, count in counts.items() for _ in range(count)]
    exact = bool(getattr(potential.backbone, "composition_mean_counts_zero", False))
    return Composition.of(numbers, multiples=not exact)


def _number(symbol: str) -> int:
    if symbol not in chemical_symbols[1:]:
        raise UnknownNameError(f"There is no element {symbol!r}", expected="a chemical symbol")
    return int(atomic_numbers[symbol])


def _symbols(composition: Composition) -> tuple[str, ...]:
    """Return the symbols of one formula unit."""
    return tuple(chemical_symbols[z] for z, count in composition.counts for _ in range(count))


def _species(
    potential: Potential, dataset: str, options: ExportOptions, composition: Composition | None
) -> tuple[str, ...]:
    if composition is not None:
        own = tuple(dict.fromkeys(_symbols(composition)))
        if options.species and set(options.species) != set(own):
            raise ConfigError(
                f"The species are {', '.join(options.species)}, and the composition has "
                f"{', '.join(own)}",
                fix="Leave the species out.",
            )
        return options.species or own
    if options.species:
        for symbol in options.species:
            _number(symbol)
        return options.species
    return tuple(chemical_symbols[z] for z in potential.domains[dataset].elements)


def _known_system(
    potential: Potential,
    dataset: str,
    species: tuple[str, ...],
    composition: Composition | None,
    options: ExportOptions,
) -> Any:
    """Return a system of the elements, charge and spin, after asking whether they are known."""
    atoms = Atoms(species if composition is None else _symbols(composition))
    atoms.info = {"charge": options.charge, "spin": options.spin, "sid": options.name}
    data = from_ase(atoms, dataset=dataset, label_keys={})
    potential.check_input(data)
    return data


def _description(
    staged: StagedPotential,
    species: tuple[str, ...],
    options: ExportOptions,
    composition: Composition | None,
    max_neighbors: int | None,
) -> ModelDescription:
    if options.pattern == "raw" and staged.num_layers > 1:
        raise ConfigError(
            f"The network has {staged.num_layers} message layers, and raw lists reach one",
            fix="Export with the pattern graph.",
        )
    return ModelDescription(
        name=options.name,
        species=species,
        pattern=options.pattern,
        cutoff=staged.backbone.cutoff,
        layers=staged.num_layers,
        model_file="model.pt" if options.backend == "torchscript" else "model.pt2",
        backend=options.backend,
        outputs=OUTPUTS,
        dtype=str(staged.dtype).removeprefix("torch."),
        directed_edges=options.pattern == "graph",
        max_neighbors=max_neighbors,
        composition=_counts(composition, species),
        composition_multiples=composition is None or composition.multiples,
    )


def _counts(composition: Composition | None, species: tuple[str, ...]) -> tuple[int, ...] | None:
    if composition is None:
        return None
    of = dict(composition.counts)
    return tuple(of[atomic_numbers[symbol]] for symbol in species)


def _saved(
    staged: StagedPotential, description: ModelDescription, example: Atoms, folder: Path
) -> tuple[Path, Forward]:
    """Trace and save, and return what comes back from the file."""
    codes = {symbol: code for code, symbol in enumerate(description.species)}
    configuration = make_configuration(example, codes, description.influence_distance)
    program: TracedProgram = trace_program(staged, description, configuration)
    if description.backend == "torchscript":
        path = save_traced(program, folder / description.model_file)
        with quiet_torchscript():
            return path, torch.jit.load(path)
    path = save_traced_program(program, description, folder / "model.ep")
    return path, load_exported(path)


def _expected(
    potential: Potential,
    structures: Mapping[str, Atoms],
    dataset: str,
    options: ExportOptions,
    dtype: torch.dtype,
) -> dict[str, Expected]:
    unit = MLIPPredictUnit(potential, "traineval", dtype=dtype)
    # A limit that would matter is refused where the model runs.
    unit.potential.backbone.max_neighbors = None
    return {
        kind: predict_natively(unit, atoms, dataset, options.charge, options.spin)
        for kind, atoms in structures.items()
    }


def _title(options: ExportOptions, dataset: str) -> str:
    prefix = options.name.split("__MO_")[0].replace("_", " ")
    of = f" for {options.composition} only (any number of formula units)"
    return f"{prefix}: adatom potential, task {dataset}{of if options.composition else ''}"


def _export_descriptor(
    potential: Potential,
    options: ExportOptions,
    folder: str | os.PathLike[str],
    provenance: Mapping[str, Any],
    title: str | None,
    *,
    overwrite: bool,
) -> ExportedModel:
    from adatom.deploy.kim.descriptor_export import export_descriptor_model

    if options.backend != "torchscript":
        raise ConfigError(
            "Descriptors are computed by the driver, which differentiates the network",
            expected="the backend script for the pattern descriptor",
        )
    return export_descriptor_model(
        potential, options, folder, provenance=provenance, title=title, overwrite=overwrite
    )
