"""What a backbone needs in order to be shared among workers."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from adatom.core.errors import ConfigError, GraphError
from adatom.data.atomic_data import AtomicData
from adatom.graph.thread_links import run_workers
from adatom.models.base import Backbone, Neighborhood, NodeFeatures
from adatom.models.contract_partition import evaluate_share, partition_equals_whole
from adatom.models.contract_subject import Model, Subject
from adatom.models.energy_head import EnergyHead
from adatom.models.partitioned import search_layers
from toy_backbone import ToyBackbone


class Exchanging(Backbone):
    """Two sums over neighbors, with a mean over the whole structure between them."""

    def __init__(self, skips: bool = False) -> None:
        super().__init__()
        self.cutoff, self.max_neighbors = 4.0, None
        self.num_message_layers, self.num_channels = 2, 3
        self.exchanges = True
        self.skips = skips
        self.element = torch.nn.Embedding(100, 3)

    def forward(self, data: AtomicData, edges: Sequence[Neighborhood]) -> NodeFeatures:
        features = self.element(data.atomic_numbers)
        for k, own in enumerate(edges):
            if self.skips and not len(own.source):
                continue
            weights = (1 - own.vectors.square().sum(1, keepdim=True) / self.cutoff**2) ** 4
            seen = own.extended(features)[own.source]
            features = features.index_add(0, own.target, weights * seen).tanh()
            mean = own.total(features.sum(0)) / data.natoms.to(features.dtype)
            features = features + (k + 1) * mean
        return NodeFeatures(features)


def subject(**arguments: bool) -> Subject:
    return Subject(lambda: (Exchanging(**arguments), EnergyHead(3, 3)))


def test_sums_over_all_atoms_have_their_derivatives():
    # A mean over the structure is not extensive, but workers must have the same.
    partition_equals_whole(subject())


def test_a_worker_that_skips_an_exchange_is_an_error_and_no_deadlock():
    with pytest.raises(GraphError, match="same operations in the same order"):
        partition_equals_whole(subject(skips=True))


def test_the_order_of_exchanges_is_the_same_for_all_workers():
    """Also where one has no atoms: the derivative is found, and the numbers of calls agree."""
    made = subject()
    model = made.model().requires_grad_(False)
    system = made.molecule()

    def calls(links):
        evaluate_share(model, system, links)
        return links.num_calls

    assert len(set(run_workers(7, calls))) == 1


def test_what_a_worker_must_search_for():
    assert search_layers(Exchanging()) == 1
    toy = ToyBackbone()
    assert search_layers(toy) == toy.num_message_layers
    toy.uses_positions = True
    with pytest.raises(ConfigError, match="takes positions and cell of a whole system"):
        search_layers(toy)


def test_without_halo_nothing_is_changed():
    edges = Neighborhood(*torch.zeros(2, 1, dtype=torch.long), torch.ones(1, 3), torch.ones(1))
    rows = torch.zeros(1, 2)
    assert edges.extended(rows) is rows
    assert edges.total(rows) is rows


def test_model_of_the_suite_is_not_changed_by_workers():
    made = subject()
    model = made.model()
    assert isinstance(model, Model)
    run_workers(2, lambda links: evaluate_share(model, made.crystal(), links))
    assert all(p.grad is None for p in model.parameters())
