"""Low-rank changes: nothing at first, few numbers, exactly merged, as symmetric as the network."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from adatom.checkpoint.format import load_potential, save_potential
from adatom.core.errors import ConfigError, UnknownNameError
from adatom.tasks.domain import Domain
from adatom.training.finetuning.base import initialize_finetuning_model
from adatom.training.finetuning.lora import MergedAverage, add_lora, merged_lora, plain_name
from adatom.training.finetuning.new_dataset import add_dataset
from adatom.training.finetuning.predictions import predicted
from adatom.training.finetuning.settings import LoraSettings


def values(potential, systems):
    potential.backbone.execution = replace(potential.backbone.execution, mode="general")
    pairs = list(predicted(potential, systems, ("energy", "forces")))
    return {name: torch.cat([v[name] for _, v in pairs]) for name in ("energy", "forces")}


def disturb(potential):
    """Move the low-rank changes away from zero."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in potential.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))


def test_the_first_predictions_are_those_of_the_base(small, systems):
    before = values(small, systems)
    add_lora(small, LoraSettings(rank=2))
    after = values(small, systems)
    assert torch.equal(before["energy"], after["energy"])
    assert torch.allclose(before["forces"], after["forces"], atol=1e-7)
    assert not any(p.requires_grad for n, p in small.named_parameters() if n.endswith("original"))


def test_a_changed_network_is_merged_into_plain_weights(small, systems, tmp_path):
    base = values(small, systems)
    names = [name for name, _ in small.named_parameters()]
    add_lora(small, LoraSettings(rank=2, alpha=4.0))
    disturb(small)
    changed = values(small, systems)
    assert (changed["forces"] - base["forces"]).abs().max() > 1e-2
    merged = merged_lora(small)
    assert sorted(name for name, _ in merged.named_parameters()) == sorted(names)
    for name, value in values(merged, systems).items():
        assert torch.allclose(value, changed[name], atol=1e-5)
    # The original is whole, and the file knows nothing of it.
    assert torch.equal(values(small, systems)["energy"], changed["energy"])
    save_potential(merged, tmp_path / "merged.safetensors")
    loaded = load_potential(tmp_path / "merged.safetensors")
    for name, value in values(loaded, systems).items():
        assert torch.allclose(value, changed[name], atol=1e-5)


def test_energies_do_not_depend_on_the_orientation(small, systems):
    add_lora(small, LoraSettings(rank=2))
    disturb(small)
    turn, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((3, 3)))
    turn = torch.from_numpy(turn * np.sign(np.linalg.det(turn)))
    turned = [replace(s, pos=s.pos @ turn.T, cell=s.cell @ turn.T) for s in systems]
    here, there = values(small, systems), values(small, turned)
    assert torch.allclose(here["energy"], there["energy"], atol=1e-5)
    assert torch.allclose(here["forces"].double() @ turn.T, there["forces"].double(), atol=1e-5)


def test_experts_share_a_change_and_levels_have_their_own(small):
    extended = add_dataset(small, "mine", "emt", Domain((29,)))
    add_lora(extended, LoraSettings(rank=2))
    shapes = {n: tuple(p.shape) for n, p in extended.named_parameters() if n.endswith(".down")}
    experts = next(s for n, s in shapes.items() if "so2_conv_1.fc_m0" in n)
    levels = next(s for n, s in shapes.items() if n.startswith("head.energy_block.0"))
    degrees = next(s for n, s in shapes.items() if "so3_linear_1" in n)
    assert (len(experts), len(levels), levels[0], degrees[0]) == (2, 3, 2, 3)


@pytest.mark.parametrize("name", ["default", "tiny_uma.pt"])
def test_the_rank_is_chosen_to_train_little(shared, name):
    if name != "default":
        name = shared / "reference" / "uma_tiny" / name
    potential = initialize_finetuning_model(name)
    total = sum(p.numel() for p in potential.parameters())
    names = add_lora(potential, LoraSettings())
    trained = sum(p.numel() for p in potential.parameters() if p.requires_grad)
    assert 0 < trained < 0.05 * total
    assert any("so2_conv_1.fc_m0" in n for n in names)
    assert any("rad_func" in n for n in names)
    assert any(n.startswith("head.") for n in names)


def test_the_average_follows_the_weights_that_are_used(small):
    plain = copy.deepcopy(small)
    add_lora(small, LoraSettings(rank=1))
    average = MergedAverage(small, decay=0.0)
    disturb(small)
    average.update(small)
    merged = merged_lora(small)
    for (name, found), (_, base) in zip(
        sorted(average.module.named_parameters()), sorted(plain.named_parameters()), strict=True
    ):
        assert torch.allclose(found, merged.get_parameter(name), atol=1e-6)
        if name.endswith("bias"):
            assert torch.equal(found, base)


def test_names_without_the_change():
    inner = "backbone.mix_csd.parametrizations.weight"
    assert plain_name(f"{inner}.original") == "backbone.mix_csd.weight"
    assert plain_name(f"{inner}.0.up") is None
    assert plain_name("backbone.mix_csd.bias") == "backbone.mix_csd.bias"


def test_wrong_settings(small):
    with pytest.raises(ConfigError, match="rank is 0"):
        add_lora(small, LoraSettings(rank=0))
    with pytest.raises(ConfigError, match="alpha is -1"):
        add_lora(small, LoraSettings(alpha=-1.0))
    with pytest.raises(UnknownNameError, match=r"did you mean 'backbone\.blocks'"):
        add_lora(small, LoraSettings(layers=["backbone.block"]))
    with pytest.raises(ConfigError, match="No linear map is large enough"):
        add_lora(small, LoraSettings(rank=500))
