"""The SOAP power spectrum: smooth overlap of atomic positions.

A. P. Bartok, R. Kondor, G. Csanyi, Phys. Rev. B 87, 184115 (2013), eqs. 23 to 36, and S. De et al.,
Phys. Chem. Chem. Phys. 18, 13754 (2016). The density of neighbors of each species Z, a Gaussian
``exp(-eta |r - r_j|^2)`` for each, is expanded in radial functions and spherical harmonics,

``c_Znlm = sum_j f(r_j) R_nl(r_j) Y_lm(r_j)``

with ``R_nl`` of :mod:`adatom.nn.descriptors.soap_radial` and the cosine cutoff ``f`` of the pair of
species, which makes it smooth where atoms come and go. The atom itself is not counted. Then

``p_(Z Z' n n' l) = 4 pi^3 sqrt(8 / (2 l + 1)) sum_m c_Znlm c_Z'n'lm``

for ``Z <= Z'`` and ``n <= n'``: order and scale are those of libdescriptor, which has no ``f``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from adatom.core.errors import ConfigError, unknown_name
from adatom.nn.descriptors.base import Constants, Descriptor
from adatom.nn.descriptors.pair_cutoffs import cosine_cutoff
from adatom.nn.descriptors.soap_radial import radial_table
from adatom.nn.harmonics import spherical_harmonics
from adatom.nn.segments import segment_sum
from adatom.nn.spherical_bessel import chebyshev_polynomials


class SOAP(Descriptor):
    """The power spectrum, columns ordered by Z, Z', n, n' and l.

    Args:
        species: See :class:`~adatom.nn.descriptors.base.Descriptor`.
        cutoffs: See there; the radial functions reach to the longest one.
        n_max: Number of radial functions, from 1 to 12.
        l_max: Highest degree of spherical harmonics, from 0 to 12.
        eta: Of the Gaussians, in 1/angstrom^2.
        radial_basis: ``"polynomial"``, the only one.
        smooth: Whether there is a cutoff function. Without it values jump at the cutoff.

    Raises:
        ConfigError: If a number is out of range.
        UnknownNameError: If the radial basis is unknown.
    """

    kind = "SOAP"
    radial: torch.Tensor
    first: torch.Tensor
    second: torch.Tensor
    scales: torch.Tensor

    def __init__(
        self,
        species: Sequence[str],
        cutoffs: float | Mapping[str, float],
        n_max: int = 4,
        l_max: int = 4,
        eta: float = 1.0,
        *,
        radial_basis: str = "polynomial",
        smooth: bool = True,
    ) -> None:
        super().__init__(species, cutoffs)
        if not (1 <= n_max <= 12 and 0 <= l_max <= 12 and math.isfinite(eta) and eta > 0):
            raise ConfigError(
                f"SOAP has n_max {n_max}, l_max {l_max} and eta {eta}",
                expected="n_max from 1 to 12, l_max from 0 to 12 and a positive eta",
            )
        if radial_basis != "polynomial":
            raise unknown_name("radial basis", radial_basis, ["polynomial"])
        self.n_max, self.l_max, self.eta = int(n_max), int(l_max), float(eta)
        self.radial_basis, self.smooth = radial_basis, bool(smooth)
        count = len(self.species)
        pairs = count * (count + 1) // 2 * (n_max * (n_max + 1) // 2)
        self.width = pairs * (l_max + 1)
        self._table = radial_table(self.n_max, self.l_max, self.cutoff, self.eta)
        self.fill_buffers()

    def constants(self) -> Constants:
        """Return the radial functions, and which two rows each column multiplies."""
        count = len(self.species)
        rows = [
            (z * self.n_max + n, other * self.n_max + m)
            for z in range(count)
            for other in range(z, count)
            for n in range(self.n_max)
            for m in range(n, self.n_max)
        ]
        degrees = np.arange(self.l_max + 1.0)
        return {
            "radial": self._table.reshape(len(self._table), -1),
            "first": np.array([row for row, _ in rows], dtype=np.int64),
            "second": np.array([row for _, row in rows], dtype=np.int64),
            "scales": 4 * math.pi**3 * np.sqrt(8 / (2 * degrees + 1)),
        }

    def forward(
        self,
        species: torch.Tensor,
        source: torch.Tensor,
        target: torch.Tensor,
        vectors: torch.Tensor,
    ) -> torch.Tensor:
        """Return ``[N, width]``; see the base class."""
        count, kinds = species.shape[0], len(self.species)
        distances = vectors.norm(dim=1)
        lengths = self.pair_lengths(species, target, source)
        if self.smooth:
            weights = cosine_cutoff(distances, lengths)
        else:
            weights = (distances < lengths).to(distances.dtype)
        x = (distances * (2 / self.cutoff) - 1.0).clamp(max=1.0)
        radial = chebyshev_polynomials(x, self.radial.shape[0]) @ self.radial
        radial = radial.view(-1, self.l_max + 1, self.n_max) * weights.view(-1, 1, 1)
        directions = vectors / distances.unsqueeze(1)
        harmonics = spherical_harmonics(directions, self.l_max, normalization="integral")
        rows = target * kinds + species.index_select(0, source)
        columns = []
        for degree in range(self.l_max + 1):
            own = harmonics[:, degree**2 : (degree + 1) ** 2].unsqueeze(1)
            terms = radial[:, degree].unsqueeze(2) * own
            summed = segment_sum(terms, rows, count * kinds)
            table = summed.view(count, kinds * self.n_max, 2 * degree + 1)
            product = table.index_select(1, self.first) * table.index_select(1, self.second)
            columns.append(product.sum(dim=2))
        return (torch.stack(columns, dim=2) * self.scales).view(count, self.width)
