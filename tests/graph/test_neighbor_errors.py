"""Input without a neighbor list gives one clear sentence."""

from __future__ import annotations

import pytest
import torch

from adatom.core.errors import GraphError
from adatom.graph import VerletList, neighbor_list

POS = torch.zeros(2, 3, dtype=torch.float64)
CELL = 5 * torch.eye(3, dtype=torch.float64)
PBC = torch.ones(3, dtype=torch.bool)


def test_zero_cell_with_pbc() -> None:
    with pytest.raises(GraphError, match=r"periodic along a, b, c.*vector a, b, c is zero"):
        neighbor_list(POS, torch.zeros(3, 3), PBC, 3.0)


def test_one_zero_vector_in_a_batch() -> None:
    cells = CELL.repeat(2, 1, 1)
    cells[1, 2] = 0
    flags = torch.tensor([[1, 1, 1], [0, 0, 1]], dtype=torch.bool)
    with pytest.raises(GraphError, match=r"System 1 is periodic along c, .* vector c is zero"):
        neighbor_list(POS, cells, flags, 3.0, natoms=torch.tensor([1, 1]))


@pytest.mark.parametrize("flags", [(1, 1, 1), (1, 1, 0)])
def test_flat_cell(flags: tuple[int, int, int]) -> None:
    cell = CELL.clone()
    cell[1] = 2 * cell[0]
    with pytest.raises(GraphError, match="linearly dependent"):
        neighbor_list(POS, cell, torch.tensor(flags, dtype=torch.bool), 3.0)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_not_finite(value: float) -> None:
    pos, cell = POS.clone(), CELL.clone()
    pos[1, 2] = cell[0, 0] = value
    with pytest.raises(GraphError, match="position of atom 1"):
        neighbor_list(pos, CELL, PBC, 3.0)
    with pytest.raises(GraphError, match="cell of system 0"):
        neighbor_list(POS, cell, PBC, 3.0)


@pytest.mark.parametrize("cutoff", [0.0, -1.0, float("nan"), float("inf")])
def test_cutoff(cutoff: float) -> None:
    with pytest.raises(GraphError, match="cutoff"):
        neighbor_list(POS, CELL, PBC, cutoff)
    with pytest.raises(GraphError, match="cutoff"):
        VerletList(cutoff)


def test_max_neighbors() -> None:
    with pytest.raises(GraphError, match="max_neighbors is 0"):
        neighbor_list(POS, CELL, PBC, 3.0, max_neighbors=0)


def test_unknown_backend_names_the_nearest() -> None:
    with pytest.raises(GraphError, match="did you mean 'vesin'"):
        neighbor_list(POS, CELL, PBC, 3.0, backend="vezin")
    with pytest.raises(GraphError, match="did you mean 'torch'"):
        VerletList(3.0, backend="toch")


def test_negative_skin() -> None:
    with pytest.raises(GraphError, match="skin is -1"):
        VerletList(3.0, -1.0)


def test_shapes() -> None:
    two = torch.tensor([1, 1])
    with pytest.raises(GraphError, match="Positions"):
        neighbor_list(POS[0], CELL, PBC, 3.0)
    with pytest.raises(GraphError, match="Cells"):
        neighbor_list(POS, CELL, PBC, 3.0, natoms=two)
    with pytest.raises(GraphError, match="pbc"):
        neighbor_list(POS, CELL.repeat(2, 1, 1), PBC, 3.0, natoms=two)
    with pytest.raises(GraphError, match="natoms sums to 3"):
        neighbor_list(POS, CELL, PBC, 3.0, natoms=torch.tensor([3]))
    with pytest.raises(GraphError, match="natoms has the shape"):
        neighbor_list(POS, CELL, PBC, 3.0, natoms=torch.tensor(2))
    with pytest.raises(GraphError, match="no system"):
        neighbor_list(
            POS[:0], CELL.repeat(0, 1, 1), PBC.repeat(0, 1), 3.0, natoms=torch.zeros(0).long()
        )
