"""Atom-centered symmetry functions.

J. Behler, J. Chem. Phys. 134, 074106 (2011), eqs. 4 to 9. With ``f`` the cosine cutoff of a pair
of species and sums over neighbors j, or over unordered pairs of neighbors j and k:

=== =========================================== ==================================================
g1                                              ``sum_j f(r_ij)``
g2  ``eta`` (1/angstrom^2), ``Rs`` (angstrom)   ``sum_j exp(-eta (r_ij - Rs)^2) f(r_ij)``
g3  ``kappa`` (1/angstrom)                      ``sum_j cos(kappa r_ij) f(r_ij)``
g4  ``zeta``, ``lambda``, ``eta``               ``2^(1-zeta) sum_jk (1 + lambda cos theta_ijk)^zeta
                                                exp(-eta (r_ij^2 + r_ik^2 + r_jk^2))
                                                f(r_ij) f(r_ik) f(r_jk)``
g5  ``zeta``, ``lambda``, ``eta``               as g4 without the two factors of r_jk
=== =========================================== ==================================================

Functions do not tell the species of neighbors apart except by their cutoffs, as in the published
file format, unless they are resolved.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
import torch

from adatom.core.errors import ConfigError, unknown_name
from adatom.nn.descriptors.base import Constants, Descriptor
from adatom.nn.descriptors.pair_cutoffs import cosine_cutoff
from adatom.nn.descriptors.triplets import pairs_of_edges
from adatom.nn.segments import segment_sum

#: Names of the parameters of each function, in the order of the file format.
PARAMETERS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "g1": (),
        "g2": ("eta", "Rs"),
        "g3": ("kappa",),
        "g4": ("zeta", "lambda", "eta"),
        "g5": ("zeta", "lambda", "eta"),
    }
)
_RADIAL = ("g1", "g2", "g3")


class SymmetryFunctions(Descriptor):
    """Symmetry functions g1 to g5, in the order given.

    Args:
        species: See :class:`~adatom.nn.descriptors.base.Descriptor`.
        cutoffs: See there.
        functions: One list per function: its name, then its parameters as the table of this module
            lists them, such as ``["g2", 0.5, 1.0]`` or ``["g4", 2, -1, 0.01]``.
        resolved: Whether there is one function per species of the neighbor (g1 to g3) and one per
            unordered pair of species (g4, g5) in the place of each. Files cannot say this.

    Raises:
        ConfigError: If there are no functions, or parameters are wrong.
        UnknownNameError: If a function is unknown.
    """

    kind = "SymmetryFunctions"
    radial_parameters: torch.Tensor
    angular_powers: torch.Tensor
    angular_decays: torch.Tensor
    power_of: torch.Tensor
    decay_of: torch.Tensor
    pair_codes: torch.Tensor
    column_order: torch.Tensor

    def __init__(
        self,
        species: Sequence[str],
        cutoffs: float | Mapping[str, float],
        functions: Sequence[Sequence[str | float]],
        *,
        resolved: bool = False,
    ) -> None:
        super().__init__(species, cutoffs)
        self.functions = tuple(_checked(function) for function in functions)
        if not self.functions:
            raise ConfigError("There are no symmetry functions", expected="at least one")
        self.resolved = resolved
        names = [name for name, _ in self.functions]
        self._radial = [i for i, name in enumerate(names) if name in _RADIAL]
        self._angular = [i for i, name in enumerate(names) if name not in _RADIAL]
        self._blocks = (1, 1)
        if resolved:
            count = len(self.species)
            self._blocks = (count, count * (count + 1) // 2)
        self.width = sum(self._blocks[name not in _RADIAL] for name in names)
        self.fill_buffers()

    def constants(self) -> Constants:
        """Return parameters of functions, and where each of their numbers goes."""
        count = len(self.species)
        codes = np.zeros((count, count), dtype=np.int64)
        if self.resolved:
            for n, (a, b) in enumerate(zip(*np.triu_indices(count), strict=True)):
                codes[a, b] = codes[b, a] = n
        powers = [values[:2] for name, values in self.functions if name not in _RADIAL]
        decays = [
            (values[2], float(name == "g4"))
            for name, values in self.functions
            if name not in _RADIAL
        ]
        # The same factor of several functions is computed once.
        unique_powers, power_of = np.unique(_rows(powers, 2), axis=0, return_inverse=True)
        unique_decays, decay_of = np.unique(_rows(decays, 2), axis=0, return_inverse=True)
        return {
            "radial_parameters": _rows([_radial(*self.functions[i]) for i in self._radial], 4),
            "angular_powers": unique_powers,
            "angular_decays": unique_decays,
            "power_of": power_of.reshape(-1).astype(np.int64),
            "decay_of": decay_of.reshape(-1).astype(np.int64),
            "pair_codes": codes,
            "column_order": self._column_order(),
        }

    def forward(
        self,
        species: torch.Tensor,
        source: torch.Tensor,
        target: torch.Tensor,
        vectors: torch.Tensor,
    ) -> torch.Tensor:
        """Return ``[N, width]``; see the base class."""
        count = species.shape[0]
        distances = vectors.norm(dim=1)
        weights = cosine_cutoff(distances, self.pair_lengths(species, target, source))
        columns = []
        if self._radial:
            terms = self._radial_terms(distances) * weights.unsqueeze(1)
            block = species.index_select(0, source) if self.resolved else torch.zeros_like(source)
            columns.append(_sums(terms, target, block, count, self._blocks[0]))
        if self._angular:
            first, second = pairs_of_edges(target, count)
            terms = self._angular_terms(species, source, vectors, distances, weights, first, second)
            block = torch.zeros_like(first)
            if self.resolved:
                kinds = species.index_select(0, source)
                block = self.pair_codes[kinds.index_select(0, first), kinds.index_select(0, second)]
            atoms = target.index_select(0, first)
            columns.append(_sums(terms, atoms, block, count, self._blocks[1]))
        return torch.cat(columns, dim=1).index_select(1, self.column_order)

    def _radial_terms(self, distances: torch.Tensor) -> torch.Tensor:
        """Return ``exp(-eta (r - Rs)^2) cos(kappa r)``, of which g1 to g3 are special cases."""
        eta, center, kappa, waves = self.radial_parameters.unbind(1)
        r = distances.unsqueeze(1)
        gauss = torch.exp(-eta * (r - center) ** 2)
        return gauss * (1.0 + waves * (torch.cos(kappa * r) - 1.0))

    def _angular_terms(
        self,
        species: torch.Tensor,
        source: torch.Tensor,
        vectors: torch.Tensor,
        distances: torch.Tensor,
        weights: torch.Tensor,
        first: torch.Tensor,
        second: torch.Tensor,
    ) -> torch.Tensor:
        """Return ``[T, functions]`` of pairs of edges."""
        to_j, to_k = vectors.index_select(0, first), vectors.index_select(0, second)
        r_j, r_k = distances.index_select(0, first), distances.index_select(0, second)
        zeta, sign = self.angular_powers.unbind(1)
        cosine = (to_j * to_k).sum(dim=1) / (r_j * r_k)
        # In a straight line rounding could leave a negative base.
        base = (1.0 + sign * cosine.unsqueeze(1)).clamp(min=0.0)
        powers = 2.0 * (0.5 * base) ** zeta
        decay, closed = self.angular_decays.unbind(1)
        between = to_k - to_j
        squared = (between * between).sum(dim=1)
        gap = torch.sqrt(squared)
        limit = self.pair_lengths(
            species, source.index_select(0, first), source.index_select(0, second)
        )
        shut = cosine_cutoff(gap, limit).unsqueeze(1)
        total = (r_j * r_j + r_k * r_k).unsqueeze(1) + closed * squared.unsqueeze(1)
        both = (weights.index_select(0, first) * weights.index_select(0, second)).unsqueeze(1)
        decays = torch.exp(-decay * total) * both * (1.0 + closed * (shut - 1.0))
        return powers.index_select(1, self.power_of) * decays.index_select(1, self.decay_of)

    def _column_order(self) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """Return where each column is among radial blocks, then angular ones."""
        places: dict[int, list[int]] = {}
        start = 0
        for chosen, blocks in zip((self._radial, self._angular), self._blocks, strict=True):
            for rank, function in enumerate(chosen):
                places[function] = [start + b * len(chosen) + rank for b in range(blocks)]
            start += blocks * len(chosen)
        return np.array([place for i in sorted(places) for place in places[i]], dtype=np.int64)


def _sums(
    terms: torch.Tensor, atoms: torch.Tensor, block: torch.Tensor, count: int, blocks: int
) -> torch.Tensor:
    """Sum ``[E, F]`` over atoms and blocks, ``[N, blocks * F]``."""
    summed = segment_sum(terms, atoms * blocks + block, count * blocks)
    return summed.view(count, blocks * terms.shape[1])


def _radial(name: str, values: tuple[float, ...]) -> tuple[float, ...]:
    """Return eta, Rs, kappa, and whether there is a cosine."""
    if name == "g2":
        return (*values, 0.0, 0.0)
    return (0.0, 0.0, values[0], 1.0) if name == "g3" else (0.0, 0.0, 0.0, 0.0)


def _rows(
    rows: Sequence[Sequence[float]], columns: int
) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    return np.array(rows, dtype=np.float64).reshape(len(rows), columns)


def _checked(function: Sequence[str | float]) -> tuple[str, tuple[float, ...]]:
    name = str(function[0]) if len(function) else ""
    if name not in PARAMETERS:
        raise unknown_name("symmetry function", name, PARAMETERS)
    wanted = PARAMETERS[name]
    try:
        values = tuple(float(value) for value in function[1:])
    except ValueError:
        values = (math.nan,)
    if len(values) != len(wanted) or not all(math.isfinite(value) for value in values):
        raise ConfigError(
            f"The symmetry function {list(function)} has other parameters",
            expected=" ".join([name, *wanted]),
        )
    if name in ("g4", "g5") and (values[0] < 1 or abs(values[1]) > 1):
        raise ConfigError(
            f"The symmetry function {list(function)} has zeta {values[0]:g} and lambda "
            f"{values[1]:g}",
            expected="zeta from 1 and lambda from -1 to 1: other slopes are infinite somewhere",
        )
    return name, values
