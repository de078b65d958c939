"""The eSCN-MD backbone: every option runs, is invariant, and grouping never changes a number."""

from __future__ import annotations

import pytest
import torch

from adatom.core.errors import ConfigError, DataError, GraphError, UnknownNameError
from adatom.data.atomic_data import AtomicData, collate
from adatom.models.base import Neighborhood
from adatom.models.energy_head import EnergyHead
from adatom.models.escn_md import eSCNMDBackbone

SMALL = {
    "sphere_channels": 8,
    "hidden_channels": 6,
    "edge_channels": 5,
    "num_distance_basis": 8,
    "cutoff": 4.0,
}
OPTIONS = [
    {},
    {"lmax": 0, "mmax": 0},
    {"lmax": 1, "mmax": 0},
    {"lmax": 3, "mmax": 1},
    {"lmax": 4, "mmax": 2, "num_layers": 1},
    {"lmax": 6, "mmax": 6, "num_layers": 1},
    {"norm_type": "layer_norm"},
    {"norm_type": "layer_norm_sh"},
    {"act_type": "s2", "grid_resolution": 14},
    {"ff_type": "grid", "grid_resolution": 14},
    {"chg_spin_emb_type": "pos_emb"},
    {"chg_spin_emb_type": "lin_emb"},
    {"num_experts": 3},
    {"num_experts": 3, "use_composition_embedding": False},
    {"num_experts": 2, "composition_mean_counts_zero": True},
    {"charge_balanced_channels": [0, 1], "spin_balanced_channels": [3]},
    {"dataset_list": ["default", "other"]},
]


def structure(seed: int, numbers: list[int], *, periodic: bool = True, **changes) -> AtomicData:
    generator = torch.Generator().manual_seed(seed)
    n = len(numbers)
    cell = 4.5 * torch.eye(3, dtype=torch.float64)
    cell = cell + 0.3 * torch.randn(3, 3, generator=generator, dtype=torch.float64)
    fractions = torch.rand(n, 3, generator=generator, dtype=torch.float64)
    data = AtomicData(
        pos=fractions @ cell,
        atomic_numbers=torch.tensor(numbers),
        cell=(cell if periodic else torch.zeros_like(cell)).unsqueeze(0),
        pbc=torch.full((1, 3), periodic),
        natoms=torch.tensor([n]),
        batch=torch.zeros(n, dtype=torch.int64),
        charge=torch.tensor([changes.pop("charge", 0)]),
        spin=torch.tensor([changes.pop("spin", 0)]),
        dataset=["default"],
        tags=torch.zeros(n, dtype=torch.int64),
        fixed=torch.zeros(n, dtype=torch.bool),
        sid=[f"structure {seed}"],
    )
    return data.with_edges(4.0, backend="torch")


def backbone(dtype=torch.float64, **options) -> eSCNMDBackbone:
    torch.manual_seed(0)
    return eSCNMDBackbone(**{**SMALL, **options}).to(dtype)


def features(model, data, vectors=None):
    dtype = next(model.parameters()).dtype
    if vectors is None:
        vectors = data.edges.vectors(data.pos, data.cell)
    source, target = data.edges.index
    edges = Neighborhood(source, target, vectors.to(dtype), data.edges.counts)
    return model(data, [edges] * model.num_message_layers)


def random_rotation() -> torch.Tensor:
    generator = torch.Generator().manual_seed(7)
    q, _ = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64))
    return q * torch.linalg.det(q)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_scalars_are_invariant_and_vectors_turn(options):
    model = backbone(**options)
    data = structure(1, [8, 1, 1, 29], charge=1, spin=2)
    rotation = random_rotation()
    vectors = data.edges.vectors(data.pos, data.cell)
    before, after = features(model, data), features(model, data, vectors @ rotation.T)
    on_grid = "grid_resolution" in options
    atol = 1e-4 if on_grid else 1e-10
    torch.testing.assert_close(after.scalars, before.scalars, atol=atol, rtol=0)
    if model.layout.lmax:
        turned = torch.einsum("ij,njc->nic", rotation, before.spherical[:, 1:4])
        torch.testing.assert_close(after.spherical[:, 1:4], turned, atol=atol, rtol=0)


@pytest.mark.parametrize("options", [{}, {"num_experts": 3}], ids=str)
def test_batch_equals_singles_whatever_the_order(options):
    model = backbone(**options)
    first = structure(1, [8, 1, 1, 29])
    systems = [first, structure(2, [6, 8], charge=-1), structure(3, [8, 1, 1, 29]), first]
    together = features(model, collate(systems)).scalars
    apart = torch.cat([features(model, system).scalars for system in systems])
    torch.testing.assert_close(together, apart, atol=1e-12, rtol=0)


def test_coefficients_of_experts_depend_on_composition_not_on_size():
    model = backbone(num_experts=3)
    one, two = structure(1, [8, 1]), structure(2, [8, 1, 8, 1])
    coefficients = [model.route(d, model.embed_system(d))[1] for d in (one, two)]
    torch.testing.assert_close(coefficients[0], coefficients[1])
    shifted = backbone(num_experts=3, composition_mean_counts_zero=True)
    coefficients = [shifted.route(d, shifted.embed_system(d))[1] for d in (one, two)]
    assert not torch.allclose(coefficients[0], coefficients[1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("experts", [0, 2])
def test_atoms_without_neighbors(dtype, experts):
    model = backbone(dtype, num_experts=experts)
    alone = structure(1, [8], periodic=False)
    assert alone.edges.num_edges == 0
    out = features(model, alone)
    assert out.scalars.dtype == dtype
    assert out.scalars.isfinite().all()
    pair = collate([alone, structure(2, [8, 1])])
    torch.testing.assert_close(features(model, pair).scalars[:1], out.scalars)


def test_derivatives_pass_gradcheck_with_edges_along_the_polar_axis():
    model = backbone(num_experts=2, sphere_channels=4, hidden_channels=4, num_layers=1)
    head = EnergyHead(4, 4).double()
    data = structure(5, [8, 1, 1], periodic=False)
    base = data.edges.vectors(data.pos, data.cell)
    base = torch.zeros_like(base)
    base[:, 1] = torch.tensor([1.1, -1.2, 0.9, -0.8, 1.4, -1.3])[: len(base)]

    def energy(vectors):
        return head(features(model, data, vectors), data)["energies"].sum()

    vectors = base.clone().requires_grad_()
    assert torch.autograd.gradcheck(energy, vectors, atol=1e-7)
    assert torch.autograd.gradgradcheck(energy, vectors, atol=1e-6)


def test_force_losses_reach_every_parameter():
    model, head = backbone(num_experts=2, dataset_list=["default"]), EnergyHead(8, 6).double()
    data = structure(1, [8, 1, 1, 29], charge=1)
    vectors = data.edges.vectors(data.pos, data.cell).requires_grad_()
    energy = head(features(model, data, vectors), data)["energies"].sum()
    (forces,) = torch.autograd.grad(energy, vectors, create_graph=True)
    forces.square().sum().backward()
    constant = {"bias of the last layer": head.energy_block[4].bias}
    assert all(p.grad is None or not p.grad.any() for p in constant.values())
    missing = [name for name, p in model.named_parameters() if p.grad is None]
    # In the last layer only the invariants reach the energy, and a shift of them has no force.
    assert missing in ([], ["norm.affine_bias"])


def test_features_start_at_order_one():
    model = backbone(torch.float32, sphere_channels=32, hidden_channels=32, num_layers=4)
    seen = []
    for block in model.blocks:
        block.register_forward_hook(
            lambda _m, _i, out: seen.append(float(out[:, 0].detach().std()))
        )
    features(model, structure(1, [8, 1, 1, 29]))
    assert all(0.3 < size < 10 for size in seen)


def test_input_is_left_alone():
    model = backbone(chg_spin_emb_type="lin_emb", charge_balanced_channels=[0])
    data = structure(1, [8, 1])
    before = {k: getattr(data, k).clone() for k in ("pos", "charge", "spin", "atomic_numbers")}
    features(model, data)
    assert all(torch.equal(getattr(data, name), value) for name, value in before.items())


def test_parameters_have_the_published_names_and_shapes():
    model = backbone(num_experts=3, dataset_list=["omol"])
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    conv = "blocks.0.edge_wise.so2_conv_"
    assert shapes[f"{conv}1.fc_m0.weights"] == (3, 3 * 6 + 2 * 6, 3 * 16)
    assert shapes[f"{conv}1.so2_m_conv.0.fc.weights"] == (3, 2 * 2 * 6, 2 * 16)
    assert shapes[f"{conv}1.rad_func.net.6.weight"] == (16 * 6, 5)
    assert shapes[f"{conv}2.so2_m_conv.1.fc.weights"] == (3, 2 * 8, 6)
    assert shapes["dataset_embedding.dataset_emb_dict.omol.weight"] == (1, 8)
    assert shapes["mix_csd.weight"] == (8, 24)
    assert shapes["edge_degree_embedding.rad_func.net.0.weight"] == (5, 8 + 10)
    assert shapes["routing_mlp.4.weight"] == (3, 6)
    assert set(backbone().state_dict()) & {"routing_mlp.0.weight", "mix_csd.weight"} == {
        "mix_csd.weight"
    }


def test_wrong_arguments_and_inputs_are_explained():
    with pytest.raises(ConfigError, match="mmax = 3"):
        backbone(lmax=2, mmax=3)
    with pytest.raises(ConfigError, match="num_layers is 0"):
        backbone(num_layers=0)
    with pytest.raises(ConfigError, match="consecutive"):
        backbone(charge_balanced_channels=[0, 2])
    with pytest.raises(ConfigError, match="dataset_list"):
        backbone(use_dataset_embedding=True)
    with pytest.raises(UnknownNameError, match="spectral"):
        backbone(ff_type="spectrum")
    with pytest.raises(UnknownNameError, match="gate"):
        backbone(act_type="gates")
    model = backbone(max_num_elements=20)
    with pytest.raises(DataError, match="'structure 1' has atomic number 29"):
        features(model, structure(1, [8, 29]))
    with pytest.raises(GraphError, match="3, one per"):
        model(structure(1, [8]), [])


def test_head_with_levels_of_theory_picks_one_expert_each():
    torch.manual_seed(0)
    head = EnergyHead(8, 6, {"a": "pbe", "b": "hf", "c": "pbe"}).double()
    assert head.energy_block.expert_of == {"a": 1, "b": 0, "c": 1}
    assert head.init_args["dataset_mapping"] == {"a": "pbe", "b": "hf", "c": "pbe"}
    systems = [structure(1, [8, 1]), structure(2, [6]), structure(3, [29])]
    for system, name in zip(systems, "abc", strict=True):
        system.dataset[:] = [name]
    model = backbone()
    batch = collate(systems)
    together = head(features(model, batch), batch)["energies"]
    apart = [head(features(model, system), system)["energies"] for system in systems]
    torch.testing.assert_close(together, torch.cat(apart))
    systems[0].dataset[:] = ["d"]
    with pytest.raises(UnknownNameError, match="'d'"):
        head(features(model, systems[0]), systems[0])
