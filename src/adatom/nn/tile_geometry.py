"""Rotations, envelope and radial basis of one tile of edges, and the way back to its vectors."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch

from adatom.nn.edge_tiles import EdgeTile
from adatom.nn.layout import CoefficientLayout
from adatom.nn.radial import (
    envelope_slope,
    gaussian_basis,
    gaussian_slopes,
    polynomial_envelope,
)
from adatom.nn.wigner import direction_gradient, edge_rotations


@dataclass(frozen=True)
class TileGeometry:
    """What is derived from the edge vectors.

    Attributes:
        distances: ``[n]`` in angstrom.
        directions: ``[n, 3]``.
        envelope: ``[n]``.
        rotations: ``[n, R, S]`` from node coefficients to the edge frame.
        basis: ``[n, K]`` expanded distances.
        returns: For each order m, the entries of the rotations times the envelope in the slots of
            the chunks, ``[chunks, size, S]`` for m = 0 and ``[chunks, size * 2, 2 (S - m^2)]`` for
            m >= 1; see :class:`adatom.nn.geometry.EdgeGeometry`, whose entries are transposed.
    """

    distances: torch.Tensor
    directions: torch.Tensor
    envelope: torch.Tensor
    rotations: torch.Tensor
    basis: torch.Tensor
    returns: list[torch.Tensor]


@dataclass(frozen=True)
class EdgeFunctions:
    """How edge vectors become a :class:`TileGeometry`.

    Attributes:
        layout: Degrees and orders.
        cutoff: In angstrom.
        num_basis: K.
    """

    layout: CoefficientLayout
    cutoff: float
    num_basis: int

    def numbers_per_edge(self) -> int:
        """Return about how many numbers a :class:`TileGeometry` holds per edge."""
        rotation = self.layout.edge_size * self.layout.node_size
        return 5 + rotation + self.num_basis + len(_entry_signs(self.layout))

    def geometry(self, vectors: torch.Tensor, tile: EdgeTile) -> TileGeometry:
        """Derive the geometry of a tile from its vectors ``[n, 3]``."""
        distances = torch.linalg.vector_norm(vectors, dim=1)
        directions = vectors / distances.unsqueeze(1)
        rotations = edge_rotations(directions, self.layout)
        envelope = polynomial_envelope(distances, self.cutoff)
        values = (rotations.flatten(1) @ self._table(vectors)).mul_(envelope.unsqueeze(1))
        slots = values.new_zeros(tile.edge_of_slot.shape[0], values.shape[1])
        slots.index_copy_(0, tile.slot_of_edge, values)
        return TileGeometry(
            distances,
            directions,
            envelope,
            rotations,
            gaussian_basis(distances, self.cutoff, self.num_basis),
            [
                part.reshape(tile.num_chunks, -1, rows)
                for part, rows in zip(
                    torch.split(slots, self._sizes(), dim=1), self._rows(), strict=True
                )
            ],
        )

    def adjoint(
        self,
        geometry: TileGeometry,
        tile: EdgeTile,
        to_rotations: torch.Tensor | None,
        to_returns: list[torch.Tensor],
        to_basis: torch.Tensor,
    ) -> torch.Tensor:
        """Return the gradient of the vectors ``[n, 3]`` from those of what they make.

        Args:
            geometry: Of these edges.
            tile: The edges.
            to_rotations: ``[n, R, S]``, or None if only their returns are used.
            to_returns: As ``geometry.returns``, of the first orders or of all.
            to_basis: ``[n, K]``.
        """
        used = sum(self._sizes()[: len(to_returns)])
        table = self._table(geometry.rotations)[:, :used]
        slots = torch.cat(
            [part.reshape(tile.edge_of_slot.shape[0], -1) for part in to_returns], dim=1
        )
        to_values = slots.index_select(0, tile.slot_of_edge)
        values = geometry.rotations.flatten(1) @ table
        slope = envelope_slope(geometry.distances, self.cutoff)
        along = (values.mul_(to_values)).sum(1).mul_(slope)
        to_values.mul_(geometry.envelope.unsqueeze(1))
        if to_rotations is None:
            turned = to_values @ table.T
        else:
            turned = torch.addmm(to_rotations.flatten(1), to_values, table.T)
        slopes = gaussian_slopes(geometry.distances, geometry.basis, self.cutoff)
        along += slopes.mul_(to_basis).sum(1)
        u = geometry.directions
        to_directions = direction_gradient(
            u, geometry.rotations, turned.view_as(geometry.rotations), self.layout.lmax
        )
        across = (to_directions * u).sum(1)
        across = (to_directions - across.unsqueeze(1) * u) / geometry.distances.unsqueeze(1)
        return torch.addcmul(across, along.unsqueeze(1), u)

    def _rows(self) -> list[int]:
        size = self.layout.node_size
        return [size, *(2 * (size - m * m) for m in range(1, self.layout.mmax + 1))]

    def _sizes(self) -> list[int]:
        zero, *others = self._rows()
        return [zero, *(2 * rows for rows in others)]

    def _table(self, like: torch.Tensor) -> torch.Tensor:
        return _entry_table(self.layout, like.dtype, like.device)


@lru_cache(maxsize=64)
def _entry_signs(layout: CoefficientLayout) -> list[tuple[int, float]]:
    """Return the flat index in the rotation and the sign of each entry of the returns.

    For m >= 1 entries run over the sign of the feature, real and imaginary part of the product,
    and the column: d conj(x) = (d+ x+ + d- x-) + i (d- x+ - d+ x-).
    """
    row_of = {pair: row for row, pair in enumerate(layout.edge_coefficients)}
    entries = []
    for m in range(layout.mmax + 1):
        # The order of d whose entry multiplies the feature, and its sign.
        features = [[(m, 1.0), (-m, 1.0)], [(-m, 1.0), (m, -1.0)]] if m else [[(0, 1.0)]]
        for parts in features:
            for order, sign in parts:
                for degree in range(m, layout.lmax + 1):
                    for column in range(degree**2, (degree + 1) ** 2):
                        row = row_of[degree, order]
                        entries.append((row * layout.node_size + column, sign))
    return entries


@lru_cache(maxsize=64)
@torch.inference_mode(mode=False)
def _entry_table(
    layout: CoefficientLayout, dtype: torch.dtype, device: torch.device
) -> torch.Tensor:
    """Return the matrix ``[R * S, entries]`` of 0, 1 and -1 from rotations to entries."""
    entries = _entry_signs(layout)
    table = torch.zeros(layout.edge_size * layout.node_size, len(entries), dtype=dtype)
    for column, (index, sign) in enumerate(entries):
        table[index, column] = sign
    return table.to(device)
