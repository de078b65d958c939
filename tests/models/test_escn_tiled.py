"""Tiles of frozen weights: any tile size, budget and input; memory that grows with nodes."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from test_escn_frozen import SYSTEMS, evaluate
from test_escn_md import backbone, structure

from adatom.data.atomic_data import collate
from adatom.models.base import Execution, Neighborhood
from adatom.nn import atom_chunks, edge_tiles
from adatom.nn.edge_tiles import atom_blocks
from adatom.nn.experts import Run

EXACT = {"atol": 1e-10, "rtol": 1e-10}


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    monkeypatch.setattr(edge_tiles, "_BLOCK_ATOMS", 2)
    monkeypatch.setattr(atom_chunks, "_CPU_ATOMS", 3)


def general_and_tiled(model, data, **settings):
    model.requires_grad_(False)
    model.execution = Execution("general")
    expected = evaluate(model, data)[:2]
    model.execution = Execution("tiled", **settings)
    return expected, evaluate(model, data)[:2]


@pytest.mark.parametrize("kept_bytes", [0, 60_000, 200_000, 500_000, 2**28])
@pytest.mark.parametrize("edges_per_tile", [1, 30, 10**6])
def test_heterogeneous_batches_with_any_tiles_and_budget(edges_per_tile, kept_bytes):
    model = backbone(num_experts=3, charge_balanced_channels=[0, 1], num_layers=3)
    alone = structure(5, [29], periodic=False, charge=1)
    data = collate([SYSTEMS[0], alone, *SYSTEMS[1:], SYSTEMS[0], alone])
    expected, found = general_and_tiled(
        model, data, edges_per_tile=edges_per_tile, kept_bytes=kept_bytes
    )
    torch.testing.assert_close(found, expected, **EXACT)


@pytest.mark.parametrize("kept_bytes", [0, 2**28])
def test_single_atoms_have_no_edges(kept_bytes):
    data = structure(1, [8], periodic=False)
    assert data.edges.num_edges == 0
    expected, found = general_and_tiled(backbone(), data, kept_bytes=kept_bytes)
    torch.testing.assert_close(found, expected, **EXACT)


@pytest.mark.parametrize("kept_bytes", [0, 2**28])
def test_layers_with_edges_of_their_own(kept_bytes):
    model = backbone(num_layers=3).requires_grad_(False)
    data = SYSTEMS[0]
    results = []
    for mode in ("general", "tiled"):
        model.execution = Execution(mode, kept_bytes=kept_bytes)
        vectors = data.edges.vectors(data.pos, data.cell).requires_grad_()
        near = (vectors.norm(dim=1) < 3.5).nonzero().squeeze(1)
        entries = []
        for own in (slice(None), near):
            source, target = data.edges.index[:, own]
            counts = torch.tensor([len(source)])
            entries.append(Neighborhood(source, target, vectors[own], counts))
        wide, narrow = entries
        scalars = model(data, [wide, wide, narrow, narrow]).scalars
        results.append([scalars, *torch.autograd.grad(scalars.square().sum(), vectors)])
    torch.testing.assert_close(results[1], results[0], **EXACT)


@pytest.mark.parametrize("kept_bytes", [0, 2**28])
def test_second_derivatives(kept_bytes):
    model = backbone(num_experts=2, charge_balanced_channels=[0]).requires_grad_(False)
    results = []
    for mode in ("general", "tiled"):
        model.execution = Execution(mode, kept_bytes=kept_bytes)
        _, gradient, vectors = evaluate(model, SYSTEMS[1], create_graph=True)
        results.append(torch.autograd.grad(gradient.square().sum(), vectors))
    torch.testing.assert_close(results[1], results[0], **EXACT)


def test_tiles_hold_whole_atoms_and_all_edges():
    target = torch.tensor([0, 0, 0, 2, 2, 3, 5, 5, 5, 5])
    runs = [Run(1, 0, 5), Run(0, 5, 10)]
    for aim in (1, 2, 4, 100):
        blocks = atom_blocks(target, target, target, runs, 7, aim)
        tiles = [tile for block in blocks for tile in block.tiles]
        assert torch.equal(torch.cat([tile.target for tile in tiles]), target)
        assert [block.group for block in blocks] == sorted((b.group for b in blocks), reverse=True)
        for first, second in pairwise(tiles):
            assert first.edges.stop == second.edges.start
            assert first.target[-1] < second.target[0]
        for block in blocks:
            for tile in block.tiles:
                atoms = tile.chunk_atoms.repeat_interleave(16) + block.atoms.start
                assert torch.equal(atoms[tile.slot_of_edge], tile.target)
                back = tile.edge_of_slot[tile.slot_of_edge]
                assert torch.equal(back, torch.arange(tile.num_edges))


def test_unavailable_says_why():
    model = backbone()
    assert model.unavailable("tiled") == "Tiles need frozen weights."
    model.requires_grad_(False)
    assert model.unavailable("tiled") is None
    grid = backbone(act_type="s2", grid_resolution=14).requires_grad_(False)
    assert '"gate"' in str(grid.unavailable("tiled"))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs /proc of Linux")
@pytest.mark.parametrize("mode", ["tiled", "compiled"])
def test_memory_grows_with_nodes(mode):
    """4000 atoms: twice the node features per layer, one tile, and the edge list."""
    channels, layers = 32, 6
    reason = backbone().requires_grad_(False).unavailable(mode)
    if reason is not None:
        pytest.skip(reason)
    script = Path(__file__).with_name("tiled_memory.py")
    command = [sys.executable, str(script), mode, str(channels), str(layers)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    edges, peak = map(int, result.stdout.split())
    features = 4000 * 9 * channels * 4
    # Numbers per edge of a tile: features before and after rotation, weights, inputs and outputs
    # of the maps, their gradients and slots.
    tile = 512 * 4 * (27 * channels + 24 * channels + 18 * channels + 42 * channels)
    assert peak < 2 * layers * features + tile + 64 * edges, peak / features
