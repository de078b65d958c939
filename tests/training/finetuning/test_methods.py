"""What each method trains, and the proof that it trained nothing else."""

from __future__ import annotations

import copy

import pytest
import torch

from adatom.core.errors import ConfigError, UnknownNameError
from adatom.training.finetuning.frozen import (
    FrozenWeightError,
    compare_weights,
    require_unchanged,
    weight_checksums,
)
from adatom.training.finetuning.lora import add_lora
from adatom.training.finetuning.methods import train_only, trained_names
from adatom.training.finetuning.settings import LoraSettings


def test_what_each_method_trains(small):
    everything = {name for name, _ in small.named_parameters()}
    assert trained_names(small, "full") == everything
    heads = trained_names(small, "heads")
    assert heads == {name for name in everything if name.startswith("head.")}
    chosen = trained_names(small, "layers", ["backbone.blocks.0", "*.norm.*", "head.*.bias"])
    assert "backbone.blocks.0.edge_wise.so2_conv_1.fc_m0.weights" in chosen
    assert "backbone.norm.affine_weight" in chosen
    assert "head.energy_block.4.bias" in chosen
    assert "head.energy_block.4.weight" not in chosen
    train_only(small, chosen)
    assert {n for n, p in small.named_parameters() if p.requires_grad} == chosen


def test_parameters_that_never_train_stay_out(small):
    small.backbone.mix_csd.weight.requires_grad_(requires_grad=False)
    assert "backbone.mix_csd.weight" not in trained_names(small, "full")


def test_unknown_layers_are_named_with_the_nearest(small):
    with pytest.raises(UnknownNameError, match=r"did you mean 'backbone\.blocks\.0'"):
        trained_names(small, "layers", ["backbone.block.0"])
    with pytest.raises(ConfigError, match="has no layers"):
        trained_names(small, "layers")
    with pytest.raises(ConfigError, match="layers are given"):
        trained_names(small, "full", ["head"])


def test_a_frozen_weight_that_changes_is_found(small, capsys):
    before = weight_checksums(small)
    after = copy.deepcopy(small)
    trained = trained_names(small, "heads")
    with pytest.raises(FrozenWeightError, match="None of the"):
        compare_weights(before, weight_checksums(after), trained)
    with torch.no_grad():
        after.head.energy_block[4].bias.add_(1e-6)
    report = compare_weights(before, weight_checksums(after), trained)
    assert report.changed == ["head.energy_block.4.bias"]
    assert len(report.frozen) == len(before) - len(trained)
    report.show()
    assert "frozen tensors are unchanged, 1 of 6 trained ones changed" in capsys.readouterr().err
    with torch.no_grad():
        after.backbone.mix_csd.bias[0] += 1e-7
    with pytest.raises(FrozenWeightError, match=r"backbone\.mix_csd\.bias"):
        compare_weights(before, weight_checksums(after), trained)


def test_weights_below_low_rank_changes_are_compared_too(small):
    before = weight_checksums(small)
    add_lora(small, LoraSettings(rank=1))
    require_unchanged(before, small)
    with torch.no_grad():
        small.backbone.mix_csd.parametrizations.weight.original[0, 0] += 1e-6
    with pytest.raises(FrozenWeightError, match=r"backbone\.mix_csd"):
        require_unchanged(before, small)
