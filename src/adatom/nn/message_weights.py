"""The weights of a message layer in the form that the kernels of a GPU use."""

from __future__ import annotations

import torch

from adatom.core.errors import ConfigError
from adatom.nn.activations import OrderGateActivation
from adatom.nn.message_passing import Edgewise
from adatom.nn.prepared_weights import PreparedWeights
from adatom.nn.radial import RadialInputs, RadialMLP, gaussian_basis, polynomial_envelope
from adatom.nn.so2 import real_matrix
from adatom.nn.triton_messages import MessageWeights, RadialFunction


def message_weights(
    layer: Edgewise,
    coefficients: torch.Tensor | None,
    memory: PreparedWeights[list[torch.Tensor]],
) -> MessageWeights:
    """Return the weights of a layer.

    Args:
        layer: Its weights must not need gradients.
        coefficients: ``[G, X]`` expert coefficients, or None without experts.
        memory: Remembers the merged matrices of this layer.

    Raises:
        ConfigError: If the activation is not ``"gate"``.
    """
    if not isinstance(layer.act, OrderGateActivation):
        raise ConfigError('The kernels need the activation "gate"', fix='Use the mode "general".')
    first, second = layer.so2_conv_1, layer.so2_conv_2

    def make() -> list[torch.Tensor]:
        zero, *others = first.merged(coefficients)
        matrices = [zero, *(real_matrix(merged) for merged in others)]
        matrices += second.degree_matrices_of(second.merged(coefficients))
        return [matrix.detach() for matrix in matrices]

    weights = [*first.mapped_weights(), *second.mapped_weights()]
    matrices = memory.get(weights, coefficients, make)
    orders = layer.layout.mmax + 1
    last = first.rad_func.final
    return MessageWeights(
        layout=layer.layout,
        channels=first.in_channels,
        hidden_channels=layer.act.channels,
        radial=(last.weight.detach(), last.bias.detach()),
        first=matrices[:orders],
        first_bias=None if first.fc_m0.bias is None else first.fc_m0.bias.detach(),
        second=matrices[orders:],
        second_bias=None if second.fc_m0.bias is None else second.fc_m0.bias.detach(),
    )


def radial_function(
    network: RadialMLP,
    pairs: torch.Tensor,
    element_features: tuple[torch.Tensor, torch.Tensor],
    cutoff: float,
) -> RadialFunction:
    """Return the radial network up to its last hidden layer, and the envelope.

    Args:
        network: Its weights must not need gradients.
        pairs: ``[E]`` int64; see :class:`adatom.nn.radial.RadialInputs`.
        element_features: ``[T, Ce]`` each; embedding of the elements as source and as target.
        cutoff: In angstrom.
    """
    source, target = (features.detach() for features in element_features)

    def evaluate(distances: torch.Tensor, edges: slice) -> tuple[torch.Tensor, torch.Tensor]:
        basis = gaussian_basis(distances, cutoff, network.num_basis)
        hidden = network.hidden(RadialInputs(basis, pairs[edges], source, target))
        return hidden, polynomial_envelope(distances, cutoff)

    return evaluate
