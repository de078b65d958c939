"""The compiled kernel computes what the plain path computes."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

from adatom.checkpoint.format import load_potential
from adatom.core.errors import ConfigError, GraphError
from adatom.core.precision import torch_threads
from adatom.data.ase_convert import from_ase
from adatom.data.atomic_data import AtomicData, collate
from adatom.models.base import Execution, Neighborhood
from adatom.models.escn_kernel import build, prepared_systems
from adatom.models.escn_kernel.build import kernel_for
from adatom.models.escn_md import eSCNMDBackbone
from adatom.tasks.potential import Potential

#: The embedded potential before its second stage.
FIRST_STAGE = Path(__file__).resolve().parents[1] / "first_stage.safetensors"
FILES = ("tiny_uma", "tiny_uma_l4m2", "tiny_uma_moehead")
PROPERTIES = ("energy", "forces", "stress", "energies")


def potential_of(shared: Path, name: str, dtype: torch.dtype) -> Potential:
    path = shared / "reference" / "uma_tiny" / f"{name}.pt"
    return load_potential(path, dtype=dtype).eval().requires_grad_(False)


def batch_of(potential: Potential, systems: Sequence[tuple[Atoms, str]]) -> AtomicData:
    data = [from_ase(atoms, dataset=dataset, label_keys={}) for atoms, dataset in systems]
    return collate(data).with_edges(potential.cutoff, max_neighbors=potential.max_neighbors)


def neighborhood(potential: Potential, data: AtomicData) -> Neighborhood:
    assert data.edges is not None
    vectors = data.edges.vectors(data.pos, data.cell).to(potential.dtype).requires_grad_(True)
    source, target = data.edges.index
    return Neighborhood(source, target, vectors, data.edges.counts)


def mixed() -> list[tuple[Atoms, str]]:
    """Four compositions, one of them twice and apart, one without edges."""
    copper = bulk("Cu", cubic=True)
    copper.rattle(0.1, seed=1)
    water = molecule("H2O")
    water.info.update(charge=-1, spin=2)
    salt = bulk("NaCl", "rocksalt", a=5.6)
    strained = copper.copy()
    strained.set_cell(copper.cell * 1.03, scale_atoms=True)
    systems = [(copper, "omat"), (water, "omol"), (Atoms("He"), "omat")]
    return [*systems, (salt, "omc"), (strained, "omat")]


def results(
    potential: Potential, data: AtomicData, execution: Execution
) -> dict[str, torch.Tensor]:
    potential.backbone.execution = execution
    return potential(data, PROPERTIES)


def assert_equal(
    found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], tolerance: float
) -> None:
    for name, value in expected.items():
        torch.testing.assert_close(
            found[name], value, atol=tolerance, rtol=tolerance, equal_nan=True, check_dtype=True
        )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", FILES)
def test_equals_the_plain_path(shared: Path, name: str, dtype: torch.dtype) -> None:
    potential = potential_of(shared, name, dtype)
    data = batch_of(potential, mixed())
    expected = results(potential, data, Execution("general"))
    tolerance = 1e-12 if dtype == torch.float64 else 3e-6
    for kept_bytes in (0, 20_000, 2**28):
        for tile, threads in ((None, 1), (7, 2), (1, 1)):
            with torch_threads(threads):
                execution = Execution("compiled", tile, kept_bytes)
                assert_equal(results(potential, data, execution), expected, tolerance)


def tables_in_use(potential: Potential) -> int:
    known = potential.backbone._compiled._systems._known.values()
    return sum(systems.ranks.numel() for systems, _ in known)


@pytest.mark.parametrize("threads", [1, 2])
def test_radial_tables_after_many_edges(monkeypatch: pytest.MonkeyPatch, threads: int) -> None:
    # Trained weights for which tables are exact enough; for the embedded potential they are not.
    potential = load_potential(FIRST_STAGE).eval().requires_grad_(False)
    silicon = bulk("Si", cubic=True) * (2, 1, 1)
    silicon.rattle(0.1, seed=1)
    data = batch_of(potential, [(silicon, "zuo2020"), (molecule("CH3CH2OH"), "acac")])
    expected = results(potential, data, Execution())
    assert data.edges is not None
    # The first call computes the networks, the second one has tables.
    monkeypatch.setattr(prepared_systems, "_WORTH", data.edges.num_edges / 16 + 1)
    for tables in (0, 16 * (1 + len(potential.backbone.blocks))):
        with torch_threads(threads):
            assert_equal(results(potential, data, Execution("compiled")), expected, 3e-6)
        assert tables_in_use(potential) == tables


def test_radial_tables_that_would_not_be_exact_are_not_used(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepared_systems, "_WORTH", 0)
    potential = potential_of(shared, "tiny_uma", torch.float32)  # too narrow for fewer functions
    data = batch_of(potential, mixed()[:1])
    expected = results(potential, data, Execution())
    assert_equal(results(potential, data, Execution("compiled")), expected, 3e-6)
    assert tables_in_use(potential) == 0


def test_repeats_bit_by_bit(shared: Path) -> None:
    potential = potential_of(shared, "tiny_uma", torch.float32)
    data = batch_of(potential, mixed())
    first, second = (results(potential, data, Execution("compiled")) for _ in range(2))
    assert all(torch.equal(first[n].nan_to_num(), second[n].nan_to_num()) for n in first)


def test_a_batch_of_nothing_but_isolated_atoms(shared: Path) -> None:
    potential = potential_of(shared, "tiny_uma", torch.float64)
    data = batch_of(potential, [(Atoms("He"), "omat"), (Atoms("Ne"), "omat")])
    expected = results(potential, data, Execution("general"))
    assert_equal(results(potential, data, Execution("compiled")), expected, 1e-12)


def test_both_outputs_pass_gradients(shared: Path) -> None:
    potential = potential_of(shared, "tiny_uma_l4m2", torch.float64)
    data = batch_of(potential, mixed()[:2])
    factors = torch.randn(data.num_atoms, 25, 8, dtype=torch.float64)
    gradients = []
    for mode in ("general", "compiled"):
        potential.backbone.execution = Execution(mode)
        edges = neighborhood(potential, data)
        layers = [edges] * potential.backbone.num_message_layers
        features = potential.backbone(data, layers)
        assert features.spherical is not None
        total = (features.spherical * factors).sum() + features.scalars.square().sum()
        gradients.append(torch.autograd.grad(total, edges.vectors)[0])
    torch.testing.assert_close(gradients[1], gradients[0], atol=1e-11, rtol=1e-11)


def test_changed_weights_are_noticed(shared: Path) -> None:
    potential = potential_of(shared, "tiny_uma", torch.float64)
    data = batch_of(potential, mixed()[:1])
    before = results(potential, data, Execution("compiled"))["energy"]
    with torch.no_grad():
        potential.backbone.get_parameter("blocks.0.edge_wise.so2_conv_1.fc_m0.weights").mul_(1.1)
    after = results(potential, data, Execution("compiled"))["energy"]
    assert (after - before).abs() > 1e-6
    torch.testing.assert_close(after, results(potential, data, Execution("general"))["energy"])


def test_a_copy_has_its_own_weights(shared: Path) -> None:
    potential = potential_of(shared, "tiny_uma", torch.float64)
    data = batch_of(potential, mixed()[:2])
    expected = results(potential, data, Execution("compiled"))
    twin = copy.deepcopy(potential).to(torch.float32)
    assert_equal(results(twin, data, Execution("compiled")), results(twin, data, Execution()), 3e-6)
    assert_equal(results(potential, data, Execution("compiled")), expected, 0.0)


def test_trained_weights_take_the_plain_path(shared: Path) -> None:
    potential = potential_of(shared, "tiny_uma", torch.float64).requires_grad_(True)
    data = batch_of(potential, mixed()[:1])
    potential.backbone.execution = Execution("compiled")
    out = potential(data, ("energy",))
    (gradient,) = torch.autograd.grad(
        out["energy"].sum(), [potential.backbone.get_parameter("mix_csd.weight")]
    )
    assert gradient.abs().max() > 0


def test_second_derivatives_are_refused(shared: Path) -> None:
    potential = potential_of(shared, "tiny_uma", torch.float64)
    data = batch_of(potential, mixed()[:1])
    potential.backbone.execution = Execution("compiled")
    edges = neighborhood(potential, data)
    features = potential.backbone(data, [edges] * potential.backbone.num_message_layers)
    with pytest.raises(ConfigError, match="general"):
        torch.autograd.grad(features.scalars.sum(), edges.vectors, create_graph=True)


def test_unsorted_edges_are_refused(shared: Path) -> None:
    potential = potential_of(shared, "tiny_uma", torch.float64)
    data = batch_of(potential, mixed()[:1])
    potential.backbone.execution = Execution("compiled")
    edges = neighborhood(potential, data)
    order = torch.arange(len(edges.target)).flip(0)
    turned = Neighborhood(
        edges.source[order], edges.target[order], edges.vectors[order], edges.counts
    )
    with pytest.raises(GraphError, match="not sorted by target"):
        potential.backbone(data, [turned] * potential.backbone.num_message_layers)


def test_says_what_it_does_not_compute() -> None:
    sizes = {"sphere_channels": 4, "hidden_channels": 4, "edge_channels": 4, "num_layers": 1}
    reason = eSCNMDBackbone(**sizes, act_type="s2").unavailable("compiled")
    assert reason is not None
    assert "act_type = 'gate'" in reason
    assert eSCNMDBackbone(**sizes).unavailable("compiled") is None
    reason = eSCNMDBackbone(**sizes, lmax=9, mmax=1).unavailable("compiled")
    assert reason is not None
    assert "degrees up to 8" in reason
    assert "bfloat16" in str(kernel_for(torch.bfloat16))


def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ADATOM_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("CXX", str(tmp_path / "no-such-compiler"))
    assert "no C++ compiler" in str(build.kernel_from_scratch(torch.float32))
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho 'fatal error: no room' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CXX", str(broken))
    assert "no room" in str(build.kernel_from_scratch(torch.float32))
    assert not list((tmp_path / "kernels").glob("*.so"))
