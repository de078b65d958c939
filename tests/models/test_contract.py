"""The contract suite over every backbone, and the suite's own ability to find faults."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from adatom.core.errors import UnknownNameError
from adatom.data.atomic_data import AtomicData
from adatom.models.base import Backbone, Head, Neighborhood, NodeFeatures
from adatom.models.contract import CHECKS, ContractError, Subject, run_contract
from adatom.models.descriptor_network import DescriptorNetwork
from adatom.models.dimenet import DimeNetPlusPlus
from adatom.models.egnn import EGNN
from adatom.models.energy_head import EnergyHead
from adatom.models.escn_md import eSCNMDBackbone
from adatom.models.gaanet import GAANet
from adatom.models.gcn import GraphConvModel
from toy_backbone import ToyBackbone, ToyHead

DATASETS = ["omat", "omol"]
SMALL_DIMENET = {
    "emb_size": 8,
    "out_emb_size": 8,
    "int_emb_size": 4,
    "num_spherical": 4,
    "num_radial": 4,
}


def escn_md(**changes: Any) -> Subject:
    """Build a small eSCN-MD subject; ``changes`` go to the backbone."""
    arguments: dict[str, Any] = {
        "sphere_channels": 8,
        "hidden_channels": 8,
        "edge_channels": 8,
        "num_distance_basis": 8,
        "cutoff": 4.5,
        "dataset_list": DATASETS,
        **changes,
    }
    return Subject(
        lambda: (eSCNMDBackbone(**arguments), EnergyHead(8, 8)),
        datasets=tuple(DATASETS),
        charges=(0, 1, -2),
        spins=(0, 1, 3),
    )


def with_default_head(backbone: type[Backbone], **arguments: Any) -> Subject:
    """Build a subject with the head that the backbone has by default."""

    def make() -> tuple[Backbone, Head]:
        made = backbone(**arguments)
        return made, made.default_head()

    return Subject(make)


#: Functions of Behler's five kinds.
SYMMETRY_FUNCTIONS = {
    "kind": "SymmetryFunctions",
    "species": ["H", "C", "O"],
    "cutoffs": {"H-H": 4.0, "H-C": 4.2, "H-O": 4.5, "C-C": 4.5, "C-O": 4.1, "O-O": 4.5},
    "functions": [
        ["g1"], ["g2", 0.4, 1.5], ["g3", 1.2], ["g4", 2, -1, 0.05], ["g4", 1, 1, 0.05],
        ["g5", 4, 1, 0.1],
    ],
}  # fmt: skip

BISPECTRUM = {
    "kind": "Bispectrum",
    "species": ["H", "C", "O"],
    "cutoffs": SYMMETRY_FUNCTIONS["cutoffs"],
    "jmax": 1.5,
    "weights": [0.6, 1.0, 0.8],
}

SOAP = {
    "kind": "SOAP",
    "species": ["H", "C", "O"],
    "cutoffs": SYMMETRY_FUNCTIONS["cutoffs"],
    "n_max": 3,
    "l_max": 2,
}

SUBJECTS = {
    "toy": Subject(lambda: (ToyBackbone(), ToyHead()), charges=(0, 1)),
    "gcn": with_default_head(GraphConvModel, cutoff=4.5),
    "egnn": with_default_head(EGNN, cutoff=4.5, hidden_dim=8),
    "egnn-softmax": with_default_head(EGNN, cutoff=4.5, hidden_dim=8, attention="softmax"),
    "dimenet": with_default_head(DimeNetPlusPlus, cutoff=4.5, num_blocks=2, **SMALL_DIMENET),
    "symmetry-functions": with_default_head(DescriptorNetwork, descriptor=SYMMETRY_FUNCTIONS),
    "symmetry-functions-resolved": with_default_head(
        DescriptorNetwork,
        descriptor=SYMMETRY_FUNCTIONS | {"resolved": True},
        per_element=False,
    ),
    "bispectrum": with_default_head(DescriptorNetwork, descriptor=BISPECTRUM),
    "soap": with_default_head(DescriptorNetwork, descriptor=SOAP),
    "gaanet": with_default_head(GAANet, cutoff=3.0, hidden_dim=8, depth=1),
    "gaanet-rank1": with_default_head(GAANet, cutoff=4.5, hidden_dim=8, rank=1, readout="mean"),
    **{
        f"escn_md-l{lmax}m{mmax}-{experts}experts": escn_md(
            lmax=lmax, mmax=mmax, num_experts=experts
        )
        for lmax, mmax in ((2, 2), (3, 1), (4, 2))
        for experts in (0, 4)
    },
}


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("name", SUBJECTS)
def test_backbone_keeps_its_promise(name: str, check: str) -> None:
    CHECKS[check](SUBJECTS[name])


class _Leaking(ToyBackbone):
    """Adds the mean over the whole batch to every atom."""

    def forward(self, data: AtomicData, edges: Sequence[Neighborhood]) -> NodeFeatures:
        scalars = super().forward(data, edges).scalars
        return NodeFeatures(scalars + 0.01 * scalars.mean(0))


class _Directional(ToyBackbone):
    """Prefers the x axis."""

    def forward(self, data: AtomicData, edges: Sequence[Neighborhood]) -> NodeFeatures:
        scalars = super().forward(data, edges).scalars
        lean = torch.zeros_like(scalars[:, 0]).index_add(
            0, edges[0].target, 1e-4 * edges[0].vectors[:, 0].tanh()
        )
        return NodeFeatures(scalars + lean[:, None])


class _HardCutoff(ToyBackbone):
    """Feels a step at the cutoff."""

    def forward(self, data: AtomicData, edges: Sequence[Neighborhood]) -> NodeFeatures:
        scalars = super().forward(data, edges).scalars
        count = torch.zeros_like(scalars[:, 0]).index_add(
            0, edges[0].target, torch.ones_like(edges[0].vectors[:, 0])
        )
        return NodeFeatures(scalars + 1e-4 * count[:, None])


class _UsesPositions(ToyBackbone):
    """Takes geometry from data.pos, so that forces miss a part."""

    def forward(self, data: AtomicData, edges: Sequence[Neighborhood]) -> NodeFeatures:
        scalars = super().forward(data, edges).scalars
        offset = data.pos.to(scalars.dtype) - data.pos[0].to(scalars.dtype)
        return NodeFeatures(scalars + 1e-3 * offset.norm(dim=1, keepdim=True))


class _Noisy(ToyBackbone):
    """Draws random numbers."""

    def forward(self, data: AtomicData, edges: Sequence[Neighborhood]) -> NodeFeatures:
        scalars = super().forward(data, edges).scalars
        return NodeFeatures(scalars + 1e-5 * torch.randn_like(scalars))


class _Mutating(ToyBackbone):
    """Centers the positions in place."""

    def forward(self, data: AtomicData, edges: Sequence[Neighborhood]) -> NodeFeatures:
        data.pos -= 1.0
        return super().forward(data, edges)


class _NaNWhenAlone(ToyBackbone):
    """Divides by the number of neighbors."""

    def forward(self, data: AtomicData, edges: Sequence[Neighborhood]) -> NodeFeatures:
        scalars = super().forward(data, edges).scalars
        ones = torch.ones_like(edges[0].vectors[:, 0])
        count = torch.zeros_like(scalars[:, 0]).index_add(0, edges[0].target, ones)
        return NodeFeatures(scalars + 0.0 / count[:, None])


class _OneEdgeList(ToyBackbone):
    """Uses the first edge list for every layer."""

    def forward(self, data: AtomicData, edges: Sequence[Neighborhood]) -> NodeFeatures:
        return super().forward(data, [edges[-1]] * len(edges))


class _MeanOfMine(ToyBackbone):
    """Promises to exchange, and takes a mean over the atoms of one worker for that over all."""

    def __init__(self) -> None:
        super().__init__()
        self.exchanges = True

    def forward(self, data: AtomicData, edges: Sequence[Neighborhood]) -> NodeFeatures:
        numbers = edges[0].extended(data.atomic_numbers)
        near = torch.zeros(data.num_atoms).double()
        near = near.index_add(0, edges[0].target, 0.1 * numbers[edges[0].source].double())
        decay = torch.exp(-edges[0].vectors.square().sum(1))
        near = near.index_add(0, edges[0].target, decay)
        return NodeFeatures(near[:, None].expand(-1, 5) + near.sum() / data.natoms.double())


class _Forgetful(_MeanOfMine):
    """Gathers what it has of sources, without asking for what others have."""

    def forward(self, data: AtomicData, edges: Sequence[Neighborhood]) -> NodeFeatures:
        near = torch.zeros(data.num_atoms).double()
        source = edges[0].source.clamp(max=max(data.num_atoms - 1, 0))
        if data.num_atoms:
            seen = data.atomic_numbers[source].double()
            decay = torch.exp(-edges[0].vectors.square().sum(1))
            near = near.index_add(0, edges[0].target, seen * decay)
        return NodeFeatures(near[:, None].expand(-1, 5))


@pytest.mark.parametrize(
    ("backbone", "check"),
    [
        (_MeanOfMine, "partition_equals_whole"),
        (_Forgetful, "partition_equals_whole"),
        (_Leaking, "partition_equals_whole"),
        (_Leaking, "batch_equals_singles"),
        (_Directional, "rotation"),
        (_Directional, "reflection"),
        (_HardCutoff, "smooth_at_cutoff"),
        (_UsesPositions, "forces_are_gradients"),
        (_UsesPositions, "translation"),
        (_Noisy, "deterministic"),
        (_Noisy, "input_not_mutated"),
        (_Mutating, "input_not_mutated"),
        (_NaNWhenAlone, "isolated_atom"),
        (_NaNWhenAlone, "empty_neighborhood"),
        (_OneEdgeList, "nested_edges"),
    ],
)
def test_suite_finds_the_fault(backbone: type[Backbone], check: str) -> None:
    with pytest.raises(ContractError):
        CHECKS[check](Subject(lambda: (backbone(), ToyHead())))


def test_run_contract_names_what_it_ran() -> None:
    assert run_contract(lambda: (ToyBackbone(), ToyHead()), checks=["rotation"]) == ["rotation"]
    with pytest.raises(UnknownNameError, match="did you mean 'rotation'"):
        run_contract(lambda: (ToyBackbone(), ToyHead()), checks=["rotations"])
