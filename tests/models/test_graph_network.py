"""Networks from graphs to energies as backbones: derivatives, energies per system or atom."""

from __future__ import annotations

import json
import re

import pytest
import torch

from adatom.core.errors import ConfigError, GraphError, UnknownNameError
from adatom.data.atomic_data import collate
from adatom.data.frameworks.plain_graph import PlainGraph
from adatom.models.contract import CHECKS, Subject
from adatom.models.contract_subject import neighborhood
from adatom.models.energy_model import AbstractEnergyModel
from adatom.models.gradients import atomic_virials_from, energy_gradients, virial_from
from adatom.models.graph_network import GraphNetwork, as_backbone
from adatom.models.periodic_images import moved_by_cell
from adatom.models.placement import displaced
from adatom.models.registry import build, class_path_of
from adatom.tasks.domain import Domain
from adatom.tasks.potential import Potential
from adatom.tasks.task import Normalizer, OutputSpec, Task


class Pairs(AbstractEnergyModel):
    """A sum over pairs that takes geometry from where it is told, per system or per atom."""

    def __init__(self, cutoff: float = 4.0, geometry: str = "vectors", level: str = "atom") -> None:
        super().__init__()
        self.cutoff, self.geometry, self.level = cutoff, geometry, level
        self.element = torch.nn.Embedding(self.max_num_elements, 4)
        self.last = torch.nn.Linear(4, 1)

    def vectors(self, graph: PlainGraph) -> torch.Tensor:
        if self.geometry == "vectors":
            return graph.edge_vectors
        source, target = graph.edge_index
        vectors = graph.pos[source] - graph.pos[target]
        if self.geometry == "images ignored":
            return vectors
        images = graph.cell_offsets.to(graph.cell).unsqueeze(1)
        whole = vectors + torch.bmm(images, graph.cell[graph.batch[target]]).squeeze(1)
        return 0.3 * graph.edge_vectors + 0.7 * whole if self.geometry == "both" else whole

    def forward(self, graph: PlainGraph) -> torch.Tensor:
        source, target = graph.edge_index
        atoms = self.element(graph.atomic_numbers)
        distances = torch.linalg.vector_norm(self.vectors(graph), dim=1, keepdim=True)
        weights = (1 - (distances / self.cutoff).clamp(max=1) ** 2) ** 3
        messages = weights * atoms[source] * torch.exp(-distances)
        sums = torch.zeros_like(atoms).index_add(0, target, messages)
        energies = self.last(torch.tanh(atoms * sums)).squeeze(1)
        if self.level == "atom":
            return energies
        whole = energies.new_zeros(graph.num_systems).index_add(0, graph.batch, energies)
        return whole[:, None] if self.level == "column" else whole


def subject(**arguments) -> Subject:
    def make():
        backbone = as_backbone(Pairs(**arguments))
        return backbone, backbone.default_head()

    return Subject(make)


SUBJECTS = {
    "vectors": subject(),
    "positions": subject(geometry="positions"),
    "both": subject(geometry="both"),
}
#: One builds the class from its arguments alone, one gives a part of the edges; tested below.
NOT_HERE = {"state_dict_round_trip", "nested_edges"}
LEVELS = ("atom", "system", "column")


def potential(geometry: str = "vectors") -> Potential:
    model = SUBJECTS[geometry].model()
    task = Task("e", "system", "energy", OutputSpec((1,), "float64"), Normalizer(), ["default"])
    return Potential(model.backbone, model.head, [task], {"default": Domain((1, 6, 8))})


@pytest.mark.parametrize("check", [name for name in CHECKS if name not in NOT_HERE])
@pytest.mark.parametrize("geometry", SUBJECTS)
def test_network_keeps_the_promises_of_a_backbone(geometry, check):
    CHECKS[check](SUBJECTS[geometry])


def test_the_levels_of_energies_agree():
    systems = collate([SUBJECTS["vectors"].molecule(), SUBJECTS["vectors"].crystal()])
    outcomes = [subject(level=level).model().evaluate(systems) for level in LEVELS]
    for outcome in outcomes[1:]:
        torch.testing.assert_close(outcome.energy, outcomes[0].energy)
        torch.testing.assert_close(outcome.forces, outcomes[0].forces)
        torch.testing.assert_close(outcome.virial, outcomes[0].virial)
    # Half of it each way for two atoms: equal shares where only the sum is known.
    shares = outcomes[1].energies[:5]
    torch.testing.assert_close(shares, shares[:1].expand(5))


def test_a_wrong_shape_names_both_that_are_right():
    class Wrong(Pairs):
        def forward(self, graph):
            return super().forward(graph)[:-1]

    backbone = as_backbone(Wrong())
    data = SUBJECTS["vectors"].molecule().with_edges(4.0)
    with pytest.raises(ConfigError, match=r"shape \(4,\) for 1 systems of 5 atoms.*\(1,\).*\(5,\)"):
        backbone(data, [neighborhood(data, torch.float32)])


def test_hessian_is_that_of_a_network_that_takes_edge_vectors():
    data = SUBJECTS["vectors"].crystal().with_edges(4.0)
    expected = potential().forward(data, ["hessian"])["hessian"]
    assert float(expected.abs().max()) > 1e-3
    for geometry in ("positions", "both"):
        for at_once in (True, False):
            found = potential(geometry).forward(data, ["hessian"], hessian_vmap=at_once)["hessian"]
            torch.testing.assert_close(found, expected)


def test_atomic_virials_are_refused_with_the_reason():
    data = SUBJECTS["vectors"].crystal().with_edges(4.0)
    assert "virials" not in potential().properties("default")
    with pytest.raises(UnknownNameError, match="takes geometry from positions as well"):
        potential()(data, ["virials"])
    edges, gradients = gradients_of(data, "both")
    with pytest.raises(ConfigError, match="no sum over edges"):
        atomic_virials_from(gradients, [edges], data.num_atoms)
    edges, gradients = gradients_of(data, "vectors")
    shares = atomic_virials_from(gradients, [edges], data.num_atoms)
    torch.testing.assert_close(shares.sum(0), virial_from(gradients, [edges], 1)[0])


def gradients_of(data, geometry):
    model = SUBJECTS["vectors"].model()
    model.backbone.network.geometry = geometry
    edges = neighborhood(data, torch.float64)
    placed, placement = displaced(data)
    energies = model.head(model.backbone(placed, [edges]), placed)["energies"]
    return edges, energy_gradients(energies.sum()[None], [edges], placement, create_graph=False)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_network_that_ignores_images_is_refused_once_it_sees_a_periodic_system(dtype):
    ignoring = subject(geometry="images ignored").model(dtype)
    ignoring.evaluate(SUBJECTS["vectors"].molecule())
    with pytest.raises(ConfigError, match=r"Pairs gives 'contract-0' another energy.*edge_vectors"):
        ignoring.evaluate(SUBJECTS["vectors"].crystal())
    for geometry in ("vectors", "positions", "both"):
        far = moved_by_cell(SUBJECTS["vectors"].crystal().with_edges(4.0), torch.tensor([40, 0, 0]))
        subject(geometry=geometry).model(dtype).evaluate(far)


def test_a_network_that_ignores_images_on_purpose_says_so():
    class OnPurpose(Pairs):
        ignores_images = True

    backbone = as_backbone(OnPurpose(geometry="images ignored"))
    data = SUBJECTS["vectors"].crystal().with_edges(4.0)
    backbone(data, [neighborhood(data, torch.float32)])


def test_a_network_that_takes_absolute_positions_is_refused():
    class Absolute(Pairs):
        def forward(self, graph):
            return super().forward(graph) + graph.pos[:, 0] ** 2

    data = SUBJECTS["vectors"].crystal().with_edges(4.0)
    with pytest.raises(ConfigError, match="Absolute gives"):
        as_backbone(Absolute())(data, [neighborhood(data, torch.float32)])


def test_looking_for_images_leaves_the_network_as_it_was():
    class Averaging(Pairs):
        def __init__(self) -> None:
            super().__init__()
            self.norm = torch.nn.BatchNorm1d(1)
            self.drop = torch.nn.Dropout(0.5)
            self.drop.eval()
            self.calls = 0

        def forward(self, graph):
            self.calls += 1
            return self.drop(self.norm(super().forward(graph)[:, None]))[:, 0]

    network = Averaging()
    backbone = as_backbone(network)
    data = SUBJECTS["vectors"].crystal().with_edges(4.0)
    for calls in (4, 5):
        backbone(data, [neighborhood(data, torch.float32)])
        assert network.calls == calls
    assert network.training
    assert network.norm.training
    assert not network.drop.training
    assert int(network.norm.num_batches_tracked) == 2


def test_moving_by_the_cell_leaves_edge_vectors_alone():
    data = SUBJECTS["vectors"].slab().with_edges(4.0)
    moved = moved_by_cell(data, torch.tensor([2, 0, -1]))
    assert float((moved.pos - data.pos).abs().max()) > 2.9
    # The slab is not periodic along z.
    torch.testing.assert_close(moved.pos[:, 2], data.pos[:, 2])
    assert not torch.equal(moved.edges.offsets, data.edges.offsets)
    torch.testing.assert_close(
        moved.edges.vectors(moved.pos, moved.cell), data.edges.vectors(data.pos, data.cell)
    )


def test_a_part_of_the_edges_is_refused():
    model = SUBJECTS["vectors"].model()
    data = SUBJECTS["vectors"].crystal().with_edges(4.0)
    part = neighborhood(SUBJECTS["vectors"].crystal().with_edges(3.0), torch.float64)
    with pytest.raises(GraphError, match="sees no part of them"):
        model.backbone(data, [part])


def test_the_network_sees_no_labels():
    class Curious(Pairs):
        def forward(self, graph):
            assert not hasattr(graph, "labels")
            assert not hasattr(graph, "y")
            return super().forward(graph)

    data = SUBJECTS["vectors"].molecule().with_edges(4.0)
    data.labels["energy"] = torch.zeros(1)
    as_backbone(Curious())(data, [neighborhood(data, torch.float32)])


def test_a_description_makes_the_same_network_only_where_its_class_is_allowed():
    backbone = as_backbone(Pairs(cutoff=3.5))
    where = class_path_of(backbone)
    described = json.loads(json.dumps(backbone.init_args))
    with pytest.raises(UnknownNameError, match="pass allow"):
        build(where, described)
    again = build(where, described, allow=[Pairs])
    assert again.cutoff == 3.5
    assert again.init_args == described
    assert again.state_dict().keys() == backbone.state_dict().keys()


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ({"class": "X"}, "expected class_path and init_args"),
        (
            {"class_path": "EnergyHead", "init_args": {"num_channels": 1, "hidden_channels": None}},
            "'EnergyHead'. Expected an AbstractEnergyModel",
        ),
    ],
)
def test_what_is_no_network_is_refused(network, message):
    with pytest.raises(ConfigError, match=re.compile(message, re.IGNORECASE)):
        GraphNetwork(network)


def test_an_unknown_framework_is_refused():
    class Jax(Pairs):
        framework = "jax"

    with pytest.raises(UnknownNameError, match="framework 'jax'"):
        as_backbone(Jax())
