"""The table of nonlinearities of scalars."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from adatom.core.errors import ConfigError, UnknownNameError
from adatom.nn.activations import _SMOOTH, activation


@pytest.mark.parametrize("name", ["torch.nn.SiLU", "nn.SiLU", "SiLU", "silu", "swish"])
def test_one_function_has_several_names(name):
    assert isinstance(activation(name), nn.SiLU)


@pytest.mark.parametrize("name", _SMOOTH)
def test_every_activation_has_two_continuous_derivatives(name):
    x = torch.linspace(-4, 4, 4001, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(activation(name)(x).sum(), x, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), x)
    assert float(slope.detach().diff().abs().max()) < 0.01
    assert float(curvature.diff().abs().max()) < 0.01
    assert float(curvature.abs().max()) > 0.01


def test_each_call_gives_its_own_module():
    assert activation("torch.nn.Tanh") is not activation("torch.nn.Tanh")


def test_a_kink_is_refused_with_the_reason():
    with pytest.raises(ConfigError, match=r"'torch.nn.ReLU' has a kink.*torch\.nn\.SiLU"):
        activation("torch.nn.ReLU")


def test_an_unknown_name_is_never_imported():
    with pytest.raises(UnknownNameError, match=r"did you mean 'torch\.nn\.SiLU'"):
        activation("torch.nn.SiLUU")
    with pytest.raises(UnknownNameError, match="one of"):
        activation("os.system")
