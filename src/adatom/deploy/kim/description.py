"""What a portable model takes and gives: what its parameter file and adatom.json say."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal, get_args

from ase.data import chemical_symbols

from adatom.core.errors import ConfigError, unknown_name

Pattern = Literal["raw", "descriptor", "graph"]
Backend = Literal["torchscript", "aotinductor"]
Output = Literal["energy", "forces", "particle_energies", "particle_virial"]
SpeciesInput = Literal["code", "atomic_number"]

#: The driver's name in KIM; a portable model says that it needs this one.
DRIVER_NAME = "AdatomTorch__MD_583162720441_000"

_MODEL_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*__MO_\d{12}_\d{3}")
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_SUFFIX: dict[Backend, str] = {"torchscript": ".pt", "aotinductor": ".pt2"}


@dataclass(frozen=True, kw_only=True)
class ModelDescription:
    """One portable model.

    Attributes:
        name: KIM's name, ``Prefix__MO_123456789012_000``.
        species: Chemical symbols; the position is the species code that ``forward`` gets.
        pattern: How ``forward`` is called; see :mod:`adatom.deploy.kim.inputs`.
        cutoff: In angstrom.
        layers: Message-passing layers, 1 unless the pattern is ``"graph"``.
        model_file: Name of the network's file, ``.pt`` (TorchScript) or ``.pt2`` (AOTInductor).
        backend: What runs the file.
        outputs: What ``forward`` returns, in this order. ``"energy"`` is first: one number, or one
            per atom if ``"particle_energies"`` is listed too (which is then no tensor of its
            own). ``"forces"`` (eV/angstrom, of ghosts too) is the second tensor; without it the
            driver differentiates. ``"particle_virial"`` ``[N, 6]`` in eV is the third.
        species_input: Whether ``species`` are codes or atomic numbers.
        edge_vectors: Whether ``forward`` also takes vectors between atoms at the end (by default
            None), which it then uses instead of coordinates; the driver makes virials of atoms
            of their gradients.
        descriptor: Kind of descriptor, such as ``"SymmetryFunctions"``; None unless the pattern is
            ``"descriptor"``.
        dtype: What the network computes in; inputs and outputs are float64 anyway.
        directed_edges: Graphs only: layers hold no edges but those that their atoms receive. The
            published convention has both directions of each.
        max_neighbors: More neighbors than this within the cutoff are an error; None is any number.
        composition: How many atoms of each species a formula unit has, where the weights are for
            one composition only. The driver refuses others in a single process; it cannot see the
            whole system where there are several.
        composition_multiples: Whether any number of formula units is meant.

    Raises:
        ConfigError: If the values do not go together.
        UnknownNameError: If a species or a choice is unknown.
    """

    name: str
    species: tuple[str, ...]
    pattern: Pattern
    cutoff: float
    layers: int = 1
    model_file: str = "model.pt"
    backend: Backend = "torchscript"
    outputs: tuple[Output, ...] = ("energy", "particle_energies")
    species_input: SpeciesInput = "code"
    edge_vectors: bool = False
    descriptor: str | None = None
    dtype: str = "float64"
    directed_edges: bool = False
    max_neighbors: int | None = None
    composition: tuple[int, ...] | None = None
    composition_multiples: bool = True

    def __post_init__(self) -> None:
        """Check that the values go together."""
        _check_name(self.name)
        _check_species(self.species)
        for kind, value, choices in (
            ("pattern", self.pattern, get_args(Pattern)),
            ("backend", self.backend, get_args(Backend)),
            ("species input", self.species_input, get_args(SpeciesInput)),
            ("dtype", self.dtype, ("float32", "float64")),
            *(("output", output, get_args(Output)) for output in self.outputs),
        ):
            if value not in choices:
                raise unknown_name(kind, value, choices)
        if not (math.isfinite(self.cutoff) and self.cutoff > 0):
            raise ConfigError(f"The cutoff is {self.cutoff}", expected="a positive length")
        if self.layers < 1 or (self.layers > 1 and self.pattern != "graph"):
            raise ConfigError(
                f"A {self.pattern} model has {self.layers} layers",
                expected="one layer, or a graph model with several",
            )
        if (self.descriptor is None) == (self.pattern == "descriptor"):
            raise ConfigError(
                f"A {self.pattern} model has the descriptor {self.descriptor}",
                expected="a descriptor for the pattern 'descriptor', and None for others",
            )
        self._check_file()
        self._check_outputs()
        self._check_limits()

    @property
    def influence_distance(self) -> float:
        """How far away an atom can change the energy of another, in angstrom."""
        return self.cutoff * self.layers

    @property
    def returns_forces(self) -> bool:
        """Whether ``forward`` returns forces as its second tensor."""
        return "forces" in self.outputs

    @property
    def num_inputs(self) -> int:
        """Number of tensors that ``forward`` takes, without edge vectors."""
        return {"raw": 5, "descriptor": 1, "graph": 3 + self.layers}[self.pattern]

    def _check_limits(self) -> None:
        if self.directed_edges and self.pattern != "graph":
            raise ConfigError(f"A {self.pattern} model promises directed edges of graphs")
        if self.max_neighbors is not None and self.max_neighbors < 1:
            raise ConfigError(
                f"max_neighbors is {self.max_neighbors}", expected="at least 1, or None"
            )
        if self.composition is None:
            return
        if len(self.composition) != len(self.species) or min(self.composition) < 1:
            raise ConfigError(
                f"The composition is {list(self.composition)} for {list(self.species)}",
                expected="a positive number of atoms of each species",
            )

    def _check_file(self) -> None:
        suffix = _SUFFIX[self.backend]
        if not _FILE_NAME.fullmatch(self.model_file) or not self.model_file.endswith(suffix):
            raise ConfigError(
                f"The model file of a {self.backend} model is called {self.model_file!r}",
                expected=f"a plain name that ends in {suffix}",
            )

    def _check_outputs(self) -> None:
        if self.outputs[:1] != ("energy",) or len(set(self.outputs)) != len(self.outputs):
            raise ConfigError(
                f"The outputs are {self.outputs}", expected="'energy' first, each name once"
            )
        if "particle_virial" in self.outputs and not self.returns_forces:
            raise ConfigError("A model that returns virials of atoms does not return forces")
        if self.backend == "aotinductor" and not self.returns_forces:
            raise ConfigError(
                "A compiled model does not return forces",
                expected="'forces' among the outputs: compiled code cannot be differentiated",
            )
        if self.edge_vectors and (self.returns_forces or self.pattern == "descriptor"):
            raise ConfigError(
                "Edge vectors were promised for a model that returns forces or takes descriptors",
                expected="a raw or graph model whose energy the driver differentiates",
            )


def _check_name(name: str) -> None:
    if not _MODEL_NAME.fullmatch(name):
        raise ConfigError(
            f"The model's name is {name!r}",
            expected="letters, digits and underscores, then __MO_, 12 digits, _ and 3 digits, "
            "such as Silicon__MO_123456789012_000",
        )


def _check_species(species: tuple[str, ...]) -> None:
    for symbol in species:
        if symbol not in chemical_symbols[1:]:
            raise unknown_name("species", symbol, chemical_symbols[1:])
    if not species or len(set(species)) != len(species):
        raise ConfigError(f"The species are {list(species)}", expected="at least one, each once")
