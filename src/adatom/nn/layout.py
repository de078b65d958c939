"""Order of spherical coefficients on nodes (l-major) and on edges (m-major, truncated in m)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch

from adatom.core.errors import ConfigError


@dataclass(frozen=True)
class CoefficientLayout:
    """Index tables for degrees ``l <= lmax`` and orders ``|m| <= mmax``.

    Nodes are l-major: row ``l^2 + l + m``. Edges are m-major: all ``m = 0`` rows with
    ``l = 0..lmax``, then for each ``m >= 1`` the rows ``(l, +m)``, ``l = m..lmax``, followed by
    the rows ``(l, -m)`` in the same order. Rows with ``|m| > mmax`` do not exist on edges.

    Attributes:
        lmax: Highest degree.
        mmax: Highest order kept on edges.

    Raises:
        ConfigError: If not ``0 <= mmax <= lmax``.
    """

    lmax: int
    mmax: int

    def __post_init__(self) -> None:
        """Refuse orders that no degree has."""
        if not 0 <= self.mmax <= self.lmax:
            raise ConfigError(
                f"lmax = {self.lmax} and mmax = {self.mmax}", expected="0 <= mmax <= lmax"
            )

    @property
    def node_size(self) -> int:
        """Rows of a node tensor, S = (lmax + 1)^2."""
        return (self.lmax + 1) ** 2

    @cached_property
    def edge_coefficients(self) -> tuple[tuple[int, int], ...]:
        """The pair (l, m) of each edge row."""
        rows = [(degree, 0) for degree in range(self.lmax + 1)]
        for m in range(1, self.mmax + 1):
            rows += [(degree, m) for degree in range(m, self.lmax + 1)]
            rows += [(degree, -m) for degree in range(m, self.lmax + 1)]
        return tuple(rows)

    @property
    def edge_size(self) -> int:
        """Rows of an edge tensor, R."""
        return len(self.edge_coefficients)

    def degrees_of_order(self, m: int) -> int:
        """Return the number of degrees that have order ``m``."""
        return self.lmax + 1 - m

    @cached_property
    def order_sizes(self) -> tuple[int, ...]:
        """Edge rows of each |m| (both signs together), in m-major order."""
        return (
            self.degrees_of_order(0),
            *(2 * self.degrees_of_order(m) for m in range(1, self.mmax + 1)),
        )

    @cached_property
    def edge_degrees(self) -> torch.Tensor:
        """Degree l of each edge row, ``[R]`` int64 on the CPU."""
        return torch.tensor([degree for degree, _ in self.edge_coefficients])

    @cached_property
    def edge_rows(self) -> torch.Tensor:
        """l-major index of each edge row, ``[R]`` int64 on the CPU."""
        return torch.tensor([degree**2 + degree + m for degree, m in self.edge_coefficients])

    @cached_property
    def node_degrees(self) -> torch.Tensor:
        """Degree l of each node row, ``[S]`` int64 on the CPU."""
        return torch.tensor([d for d in range(self.lmax + 1) for _ in range(2 * d + 1)])
