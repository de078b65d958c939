"""Bispectrum components of the density of neighbors on the 3-sphere, as LAMMPS's SNAP has them.

A. P. Bartok, M. C. Payne, R. Kondor, G. Csanyi, Phys. Rev. Lett. 104, 136403 (2010); A. P.
Thompson, L. P. Swiler, C. R. Trott, S. M. Foiles, G. J. Tucker, J. Comput. Phys. 285, 316 (2015),
eqs. 2 to 7. A neighbor at r = (x, y, z) becomes the rotation with the Cayley-Klein parameters

``a = cos t - i (z / r) sin t``, ``b = (y - i x) / r sin t``,
``t = rfac0 pi (r - rmin0) / (rc - rmin0)``,

of which ``U^j`` are the matrices of angular momentum j. Their weighted sum with the atom itself is

``u^j = 1 + sum_k w_k f(r_k) U^j(r_k)``,

and the components are, with Clebsch-Gordan coefficients C and sums over all projections,

``B_(j1 j2 j) = sum conj(u^j_(m m')) C^(j m)_(j1 m1 j2 m2) C^(j m')_(j1 m1' j2 m2')
u^j1_(m1 m1') u^j2_(m2 m2')``.

Here ``f`` is the cosine from 1 at ``rmin0`` to 0 at the cutoff of the pair. All j are counted
twice, as whole numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch

from adatom.core.errors import ConfigError
from adatom.nn.descriptors.base import Constants, Descriptor
from adatom.nn.descriptors.clebsch_gordan import clebsch_gordan
from adatom.nn.descriptors.pair_cutoffs import cosine_cutoff
from adatom.nn.segments import segment_sum

#: Real and imaginary part.
Complex = tuple[torch.Tensor, torch.Tensor]


class Bispectrum(Descriptor):
    """Components ``B_(j1 j2 j)`` with ``j2 <= j1``, in the order of LAMMPS.

    Args:
        species: See :class:`~adatom.nn.descriptors.base.Descriptor`.
        cutoffs: See there.
        jmax: The highest angular momentum, a multiple of 1/2.
        rfac0: How much of the 3-sphere is used, above 0 and below 1.
        diagonalstyle: Which components there are: 0 all, 1 those with j1 = j2, 2 those with
            j1 = j2 = j (zero for half-integers), 3 each one once (``j >= j1``), as LAMMPS has it
            today.
        rmin0: In angstrom; smaller than each cutoff.
        switch_flag: Whether there is a cutoff function. Without it values jump at the cutoff.
        bzero_flag: Whether the components of an atom without neighbors are subtracted.
        weights: Of each species; None makes all 1.

    Raises:
        ConfigError: If a number is out of range.
    """

    kind = "Bispectrum"
    weight_of: torch.Tensor
    coupling: torch.Tensor
    lone: torch.Tensor

    def __init__(
        self,
        species: Sequence[str],
        cutoffs: float | Mapping[str, float],
        jmax: float = 4,
        rfac0: float = 0.99363,
        *,
        diagonalstyle: int = 3,
        rmin0: float = 0.0,
        switch_flag: bool = True,
        bzero_flag: bool = False,
        weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__(species, cutoffs)
        self.jmax, self.rfac0, self.rmin0 = float(jmax), float(rfac0), float(rmin0)
        self.diagonalstyle = diagonalstyle
        self.smooth, self.bzero_flag = bool(switch_flag), bool(bzero_flag)
        self.weights = tuple(float(w) for w in weights or [1.0] * len(self.species))
        self._check()
        self.twojmax = round(2 * self.jmax)
        self.triples = _triples(self.twojmax, diagonalstyle)
        self.width = len(self.triples)
        self.fill_buffers()

    def constants(self) -> Constants:
        """Return weights, coefficients and what is subtracted."""
        parts = [clebsch_gordan(*triple).ravel() for triple in self.triples]
        lone = [(t[2] + 1.0) * (self.bzero_flag and sum(t) % 2 == 0) for t in self.triples]
        return {
            "weight_of": np.array(self.weights, dtype=np.float64),
            "coupling": np.concatenate(parts),
            "lone": np.array(lone, dtype=np.float64),
        }

    def forward(
        self,
        species: torch.Tensor,
        source: torch.Tensor,
        target: torch.Tensor,
        vectors: torch.Tensor,
    ) -> torch.Tensor:
        """Return ``[N, width]``; see the base class."""
        distances = vectors.norm(dim=1)
        reach = self.pair_lengths(species, target, source) - self.rmin0
        beyond = distances - self.rmin0
        if self.smooth:
            weights = cosine_cutoff(beyond.clamp(min=0.0), reach)
        else:
            weights = (beyond < reach).to(distances.dtype)
        weights = weights * self.weight_of[species.index_select(0, source)]
        angles = (math.pi * self.rfac0) * beyond / reach
        matrices = self._densities(vectors, distances, angles, weights, target, species.shape[0])
        stacked = [torch.stack(matrix) for matrix in matrices]
        factors = [_as_factor(matrix) for matrix in matrices]
        columns, start = [], 0
        for j1, j2, j in self.triples:
            shape = (j1 + 1, j2 + 1, j + 1)
            coupling = self.coupling[start : start + math.prod(shape)].view(shape)
            start += math.prod(shape)
            columns.append(_component(stacked[j1], factors[j2], stacked[j], coupling))
        return torch.stack(columns, dim=1) - self.lone

    def _densities(
        self,
        vectors: torch.Tensor,
        distances: torch.Tensor,
        angles: torch.Tensor,
        weights: torch.Tensor,
        target: torch.Tensor,
        count: int,
    ) -> list[Complex]:
        """Return ``u^j`` of all atoms, ``[N, j + 1, j + 1]``, for each j."""
        x, y, z = (vectors / distances.unsqueeze(1) * torch.sin(angles).unsqueeze(1)).unbind(1)
        first = (torch.cos(angles).view(-1, 1, 1), -z.view(-1, 1, 1))
        second = (y.view(-1, 1, 1), -x.view(-1, 1, 1))
        ones = torch.ones_like(distances).view(-1, 1, 1)
        matrix: Complex = (ones, torch.zeros_like(ones))
        found = []
        for j in range(self.twojmax + 1):
            if j:
                matrix = _next_matrix(matrix, first, second, j)
            parts = [segment_sum(part * weights.view(-1, 1, 1), target, count) for part in matrix]
            own = torch.eye(j + 1, dtype=distances.dtype, device=distances.device)
            found.append((parts[0] + own, parts[1]))
        return found

    def _check(self) -> None:
        shortest = min(min(row) for row in self.cutoffs)
        twice = 2 * self.jmax
        if not (twice == round(twice) and 0 <= twice <= 20):
            raise ConfigError(f"jmax is {self.jmax:g}", expected="a multiple of 1/2 from 0 to 10")
        if not (0 < self.rfac0 < 1 and 0 <= self.rmin0 < shortest):
            raise ConfigError(
                f"rfac0 is {self.rfac0:g} and rmin0 is {self.rmin0:g}",
                expected=f"rfac0 between 0 and 1, and rmin0 from 0 to below {shortest:g}",
            )
        if self.diagonalstyle not in (0, 1, 2, 3):
            raise ConfigError(f"diagonalstyle is {self.diagonalstyle}", expected="0, 1, 2 or 3")
        if len(self.weights) != len(self.species) or not all(map(math.isfinite, self.weights)):
            raise ConfigError(
                f"The weights are {list(self.weights)}",
                expected=f"a number for each of {', '.join(self.species)}",
            )


def _triples(twojmax: int, style: int) -> list[tuple[int, int, int]]:
    if style == 2:
        return [(j, j, j) for j in range(twojmax + 1)]
    return [
        (j1, j2, j)
        for j1 in range(twojmax + 1)
        for j2 in range(j1 + 1)
        for j in range(j1 - j2, min(twojmax, j1 + j2) + 1, 2)
        if style == 0 or (style == 1 and j1 == j2) or (style == 3 and j >= j1)
    ]


def _root_table(j: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the factors of conj(a) and conj(b) in the recursion, ``[j + 1, j]``."""
    rows, columns = np.arange(j + 1.0)[:, None], np.arange(float(j))
    return np.sqrt((j - rows) / (j - columns)), np.sqrt(rows / (j - columns))


def _next_matrix(matrix: Complex, first: Complex, second: Complex, j: int) -> Complex:
    """Return ``U^j`` from ``U^(j-1)`` (Varshalovich et al. 4.8.2), ``[E, j + 1, j + 1]``."""
    like = first[0]
    of_first, of_second = (like.new_tensor(table.tolist()) for table in _root_table(j))
    below = [torch.nn.functional.pad(part, (0, 0, 0, 1)) * of_first for part in matrix]
    above = [torch.nn.functional.pad(part, (0, 0, 1, 0)) * of_second for part in matrix]
    # Both parameters enter conjugated.
    real = first[0] * below[0] + first[1] * below[1] - second[0] * above[0] - second[1] * above[1]
    imaginary = (
        first[0] * below[1] - first[1] * below[0] - second[0] * above[1] + second[1] * above[0]
    )
    # The last column is the first one upside down, by inversion.
    signs = like.new_tensor([(-1.0) ** (j - row) for row in range(j + 1)]).view(-1, 1)
    last = (real[:, :, :1].flip(1) * signs, -imaginary[:, :, :1].flip(1) * signs)
    return torch.cat([real, last[0]], dim=2), torch.cat([imaginary, last[1]], dim=2)


def _as_factor(matrix: Complex) -> torch.Tensor:
    """Return ``[2, 2, N, ...]``: what the parts of a factor give to the parts of a product."""
    real, imaginary = matrix
    return torch.stack([torch.stack([real, imaginary]), torch.stack([-imaginary, real])])


def _component(
    one: torch.Tensor, two: torch.Tensor, third: torch.Tensor, coupling: torch.Tensor
) -> torch.Tensor:
    """Return ``B [N]``, the real part; the imaginary part is zero.

    Args:
        one: ``[2, N, j1 + 1, j1 + 1]``, real and imaginary part.
        two: ``[2, 2, N, j2 + 1, j2 + 1]`` of :func:`_as_factor`.
        third: ``[2, N, j + 1, j + 1]``.
        coupling: ``[j1 + 1, j2 + 1, j + 1]``.
    """
    # Parts p and r; first indices a, c, m of the three momenta and second ones b, d, e.
    half = torch.einsum("pnab,acm->pnbcm", one, coupling)
    product = torch.einsum("pnbcm,prncd->rnbmd", half, two)
    closed = torch.einsum("bde,rnme->rnbmd", coupling, third)
    return (product * closed).sum(dim=(0, 2, 3, 4))
