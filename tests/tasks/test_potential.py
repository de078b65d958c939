"""Outputs of a potential: their identities, units, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms

from adatom.checkpoint.format import load_potential, save_potential
from adatom.core.errors import ConfigError, DataError, UnknownNameError
from adatom.data.ase_convert import from_ase
from adatom.data.atomic_data import AtomicData, collate
from adatom.models.base import Execution
from adatom.models.energy_head import EnergyHead
from adatom.models.escn_md import eSCNMDBackbone
from adatom.models.gradients import cell_volume
from adatom.models.heads import Heads
from adatom.nn.segments import segment_sum
from adatom.tasks.domain import Domain
from adatom.tasks.potential import DEFAULT_PROPERTIES, PROPERTIES, Potential
from adatom.tasks.task import Normalizer, OutputSpec, Task
from toy_backbone import ToyHead, toy_potential

SIZES = {
    "sphere_channels": 6,
    "hidden_channels": 6,
    "edge_channels": 6,
    "num_distance_basis": 8,
    "cutoff": 4.0,
}
SHAPES = {"energy": (1,), "forces": (3,), "stress": (3, 3)}
ENERGY = {"class_path": "EnergyHead", "init_args": {"num_channels": 6, "hidden_channels": 6}}
FORCES = {"class_path": "ForceHead", "init_args": {"num_channels": 6}}
STRESS = {"class_path": "StressHead", "init_args": {"num_channels": 6, "hidden_channels": 6}}


def task(prop: str, rmsd: float = 1.0, dataset: str = "d") -> Task:
    level = "atom" if prop == "forces" else "system"
    spec = OutputSpec(SHAPES[prop])
    return Task(f"{dataset}_{prop}", level, prop, spec, Normalizer(0.0, rmsd), [dataset])


def potential_of(heads: dict[str, Any], tasks: list[Task], **options: Any) -> Potential:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        backbone = eSCNMDBackbone(**SIZES, **options)
        head = Heads(heads) if len(heads) > 1 else EnergyHead(**heads["energy"]["init_args"])
    domains = {dataset: Domain((1, 8, 14)) for one in tasks for dataset in one.datasets}
    return Potential(backbone, head, tasks, domains).double().eval().requires_grad_(False)


def energy_potential(**rmsds: float) -> Potential:
    return potential_of({"energy": ENERGY}, [task(p, rmsd) for p, rmsd in rmsds.items()])


def molecule(**info: Any) -> Atoms:
    positions = [[0.1, 0, 0.05], [0.6, 0.75, -0.1], [0.4, -0.55, 0.7], [2.1, 0.4, 0.9]]
    return Atoms("OH2Si", positions, info=info)


def crystal() -> Atoms:
    cell = np.diag([3.0, 3.2, 3.1]) + 0.1 * np.arange(9).reshape(3, 3) / 9
    return Atoms("SiOH", [[0, 0, 0], [1.5, 1.6, 0.2], [0.3, 1.4, 1.7]], cell=cell, pbc=True)


def data_of(potential: Potential, atoms: Atoms, dataset: str = "d") -> AtomicData:
    data = from_ase(atoms, dataset=dataset, label_keys={})
    return data.with_edges(potential.cutoff, max_neighbors=potential.max_neighbors)


def predict(potential: Potential, data: AtomicData, *names: str, **kwargs: Any) -> dict[str, Any]:
    out = potential.denormalize(potential(data, names, **kwargs), data)
    return {name: value.detach() for name, value in out.items()}


def test_atomic_virials_sum_to_volume_times_stress():
    potential = energy_potential(energy=1.7, stress=1.7)
    data = collate([data_of(potential, crystal()), data_of(potential, crystal() * (2, 1, 1))])
    out = predict(potential, data, "stress", "virials")
    assert out["virials"].shape == (9, 3, 3)
    total = segment_sum(out["virials"], data.batch, 2)
    torch.testing.assert_close(total, out["stress"] * cell_volume(data.cell)[:, None, None])
    torch.testing.assert_close(out["virials"], out["virials"].mT)


def test_atomic_virials_of_equivalent_atoms_are_equal_and_exist_without_a_cell():
    potential = energy_potential(energy=1.0)
    virials = predict(potential, data_of(potential, crystal() * (2, 1, 1)), "virials")["virials"]
    torch.testing.assert_close(virials[:3], virials[3:], atol=1e-12, rtol=0)
    out = predict(potential, data_of(potential, molecule()), "virials", "stress")
    assert bool(out["stress"].isnan().all())
    assert bool(out["virials"].isfinite().all())
    # Without a cell the virial is minus the sum of f (x) r.
    data = data_of(potential, molecule())
    forces = predict(potential, data, "forces")["forces"]
    torch.testing.assert_close(out["virials"].sum(0), -(forces.T @ data.pos))


@pytest.mark.parametrize("make", [molecule, crystal])
@pytest.mark.parametrize("vectorized", [True, False])
def test_hessian_is_the_derivative_of_forces(make, vectorized):
    potential = energy_potential(energy=1.7)
    atoms = make()
    found = predict(potential, data_of(potential, atoms), "hessian", hessian_vmap=vectorized)
    hessian = found["hessian"].numpy()
    assert hessian.shape == (3 * len(atoms), 3 * len(atoms))
    step = 1e-4
    for k in range(3 * len(atoms)):
        forces = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions.flat[k] += sign * step
            forces.append(predict(potential, data_of(potential, moved), "forces")["forces"])
        column = -(forces[0] - forces[1]).flatten().numpy() / (2 * step)
        np.testing.assert_allclose(hessian[:, k], column, atol=2e-6)
    np.testing.assert_allclose(hessian, hessian.T, atol=1e-12)
    np.testing.assert_allclose(hessian.reshape(-1, len(atoms), 3).sum(1), 0, atol=1e-12)


def test_a_hessian_leaves_the_execution_alone_and_is_the_same_in_all():
    potential = energy_potential(energy=1.0)
    data = data_of(potential, molecule())
    expected = predict(potential, data, "hessian", "forces")
    for mode in ("tiled", "general"):
        execution = Execution(mode)
        potential.backbone.execution = execution
        found = predict(potential, data, "hessian", "forces")
        assert potential.backbone.execution is execution
        for name in expected:
            torch.testing.assert_close(found[name], expected[name], atol=1e-12, rtol=0)


def test_a_hessian_can_be_trained_on():
    potential = energy_potential(energy=1.0).requires_grad_()
    hessian = potential(data_of(potential, molecule()), ("hessian",), create_graph=True)["hessian"]
    hessian.square().sum().backward()
    weight = potential.backbone.blocks[0].edge_wise.so2_conv_1.fc_m0.weight
    assert bool(weight.grad.any())


def test_a_hessian_is_for_one_system():
    potential = energy_potential(energy=1.0)
    data = collate([data_of(potential, molecule()), data_of(potential, molecule())])
    with pytest.raises(DataError, match=r"2 systems at once.*one system"):
        potential(data, ("hessian",))


def test_embeddings_are_the_features_of_the_backbone():
    potential = energy_potential(energy=5.0)
    data = data_of(potential, molecule())
    embeddings = predict(potential, data, "embeddings")["embeddings"]
    assert embeddings.shape == (4, 9, 6)
    head = potential.head.energy_block
    energies = predict(potential, data, "energies")["energies"]
    torch.testing.assert_close(5.0 * head.read(embeddings[:, 0], data).detach(), energies)
    toy = toy_potential()
    assert predict(toy, data_of(toy, molecule(), "default"), "embeddings")["embeddings"].dim() == 2


def test_a_dataset_with_energies_only_is_given_all_derivatives_in_the_scale_of_its_energy():
    trained, untrained = (
        energy_potential(energy=1.7, forces=1.7, stress=1.7),
        energy_potential(energy=1.7),
    )
    assert untrained.properties("d") == [name for name in PROPERTIES if name != "relaxed_energy"]
    data = data_of(trained, crystal())
    expected = predict(trained, data, *DEFAULT_PROPERTIES, "virials", "hessian")
    found = predict(untrained, data, *DEFAULT_PROPERTIES, "virials", "hessian")
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_only_what_is_asked_for_is_returned_and_nothing_is_differentiated_in_vain():
    potential = energy_potential(energy=1.0)
    data = data_of(potential, crystal())
    with torch.no_grad():
        out = potential(data, ("energy", "embeddings"))
        assert list(out) == ["energy", "embeddings"]
        assert not any(value.requires_grad for value in out.values())
        assert list(potential(data, ("hessian",))) == ["hessian"]


DIRECT = {"energy": ENERGY, "forces": FORCES, "stress": STRESS}


def direct_potential(**options: Any) -> Potential:
    tasks = [task("energy", 2.0), task("forces", 3.0), task("stress", 4.0)]
    return potential_of(DIRECT, tasks, **options)


def test_direct_heads_are_equivariant():
    potential = direct_potential()
    rotation, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((3, 3)))
    rotation *= np.linalg.det(rotation)
    atoms = crystal()
    turned = atoms.copy()
    turned.set_cell(atoms.cell.array @ rotation.T)
    turned.positions = atoms.positions @ rotation.T
    one, two = (
        predict(potential, data_of(potential, a), "energy", "forces", "stress")
        for a in (atoms, turned)
    )
    r = torch.from_numpy(rotation)
    torch.testing.assert_close(two["energy"], one["energy"])
    torch.testing.assert_close(two["forces"], one["forces"] @ r.T)
    torch.testing.assert_close(two["stress"][0], r @ one["stress"][0] @ r.T)
    torch.testing.assert_close(one["stress"], one["stress"].mT)
    assert float(one["forces"].abs().min()) > 1e-6
    assert float(one["stress"].abs().min()) > 1e-6


def test_direct_heads_have_the_scale_of_their_own_tasks():
    potential = direct_potential()
    data = data_of(potential, crystal())
    raw = potential(data, ("energy", "forces", "stress"))
    out = potential.denormalize(raw, data)
    for name, factor in (("energy", 2.0), ("forces", 3.0), ("stress", 4.0)):
        torch.testing.assert_close(out[name], factor * raw[name])


def test_stress_of_a_direct_head_is_absent_without_a_cell():
    potential = direct_potential()
    out = predict(potential, data_of(potential, molecule()), "stress")
    assert bool(out["stress"].isnan().all())


def test_several_heads_survive_a_checkpoint(tmp_path):
    potential = direct_potential()
    save_potential(potential, tmp_path / "direct.safetensors")
    loaded = load_potential(tmp_path / "direct.safetensors").requires_grad_(False)
    assert json.loads(json.dumps(loaded.head.init_args)) == {"heads": DIRECT}
    data = data_of(potential, crystal())
    names = ("energy", "forces", "stress")
    expected, found = predict(potential, data, *names), predict(loaded, data, *names)
    assert all(torch.equal(found[name], expected[name]) for name in names)


def test_heads_of_yours_may_be_parts_if_they_are_allowed(tmp_path):
    path = "toy_backbone.ToyHead"
    heads = {"energy": {"class_path": path, "init_args": {"num_channels": 6}}, "forces": FORCES}
    with pytest.raises(UnknownNameError, match="ToyHead"):
        Heads(heads)
    from adatom.models.registry import allow

    with allow(ToyHead):
        potential = potential_of(heads, [task("energy"), task("forces")])
    save_potential(potential, tmp_path / "own.safetensors")
    loaded = load_potential(tmp_path / "own.safetensors", allow=[path])
    assert loaded.head.gives == ("energies", "forces")


@pytest.mark.parametrize(
    ("heads", "message"),
    [
        ({"a": ENERGY, "b": ENERGY}, "'a' and 'b' both give energies"),
        ({"a": {"class_path": "EnergyHead"}}, "class_path and init_args"),
        (
            {"a": {"class_path": "eSCNMDBackbone", "init_args": {"num_layers": 1}}},
            "'a' is 'eSCNMDBackbone'",
        ),
    ],
)
def test_wrong_parts_are_named(heads, message):
    with pytest.raises(ConfigError, match=message):
        Heads(heads)


def test_direct_forces_exclude_derivatives_of_the_energy():
    potential = potential_of({"energy": ENERGY, "forces": FORCES}, [task("energy"), task("forces")])
    assert potential.properties("d") == ["energy", "forces", "energies", "embeddings"]
    data = data_of(potential, crystal())
    for name in ("stress", "virials", "hessian"):
        with pytest.raises(UnknownNameError, match=f"predicts forces directly.* no {name}"):
            potential(data, (name,))


def test_direct_stress_may_come_with_conservative_forces():
    potential = potential_of({"energy": ENERGY, "stress": STRESS}, [task("energy"), task("stress")])
    assert "virials" not in potential.properties("d")
    assert {"forces", "stress", "hessian"} <= set(potential.properties("d"))
    data = data_of(potential, crystal())
    out = predict(potential, data, "forces", "stress")
    alone = predict(energy_like(potential), data, "forces")
    torch.testing.assert_close(out["forces"], alone["forces"])


def energy_like(potential: Potential) -> Potential:
    head = potential.head.heads["energy"]
    return Potential(potential.backbone, head, [task("energy")], potential.domains)


def test_a_potential_needs_energies_and_heads_need_features_of_their_degree():
    backbone = eSCNMDBackbone(**SIZES)
    with pytest.raises(ConfigError, match=r"gives forces.*energies too"):
        Potential(backbone, Heads({"f": FORCES}), [task("energy")], {"d": Domain((1,))})
    potential = direct_potential(lmax=1, mmax=1)
    with pytest.raises(ConfigError, match=r"StressHead needs features of degree 2.*lmax"):
        potential(data_of(potential, crystal()), ("stress",))


def test_the_mean_over_atoms_as_energy():
    mean = {**ENERGY, "init_args": {**ENERGY["init_args"], "reduce": "mean"}}
    total = energy_potential(energy=1.0)
    potential = potential_of({"energy": mean}, [task("energy")])
    data = collate([data_of(total, molecule()), data_of(total, crystal())])
    names = ("energy", "energies", "forces")
    expected, found = predict(total, data, *names), predict(potential, data, *names)
    torch.testing.assert_close(found["energy"], expected["energy"] / data.natoms)
    torch.testing.assert_close(segment_sum(found["energies"], data.batch, 2), found["energy"])
    torch.testing.assert_close(found["forces"], expected["forces"])
    with pytest.raises(UnknownNameError, match="'max'"):
        EnergyHead(4, 4, reduce="max")


def test_names_that_are_not_known():
    potential = energy_potential(energy=1.0)
    data = data_of(potential, crystal())
    with pytest.raises(UnknownNameError, match="'forcs'; did you mean 'forces'"):
        potential(data, ("forcs",))
    with pytest.raises(UnknownNameError, match="Unknown task 'e'"):
        potential.properties("e")
    with pytest.raises(UnknownNameError, match=r"'forces'.*one of: energy"):
        potential.task_for("d", "forces")
    with pytest.raises(UnknownNameError, match="Unknown task 'other'"):
        potential.check_input(replace(data, dataset=["other"]))
