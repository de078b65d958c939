"""The eSCN-MD backbone with frozen weights, in tiles of edges and chunks of atoms.

Between two sums over edges lies one step: the network on each atom that ends a block, the norm that
begins the next one, its messages. A step keeps its input for the backward pass, ``[N, S, C]``, and
as much of the rest as the budget allows; everything else is computed again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, cast

import torch

from adatom.data.atomic_data import AtomicData
from adatom.models.base import Neighborhood, NodeFeatures
from adatom.models.escn_block import EscnBlock
from adatom.nn.activations import OrderGateActivation
from adatom.nn.adjoint_step import Gradients, run_step
from adatom.nn.atom_chunks import map_chunks, map_chunks_adjoint
from adatom.nn.edge_tiles import atom_blocks
from adatom.nn.geometry import EdgeGeometry, ElementTypes
from adatom.nn.prepared_weights import is_frozen
from adatom.nn.tile_geometry import EdgeFunctions
from adatom.nn.tiled_degrees import TiledDegrees
from adatom.nn.tiled_edges import TiledEdges
from adatom.nn.tiled_messages import KeptMessages, TiledMessages

if TYPE_CHECKING:
    from adatom.models.escn_md import eSCNMDBackbone

#: Tensors of the size of the node features that autograd keeps of one step, about.
_STEP_GRAPH = 16


def tiled_unavailable(backbone: eSCNMDBackbone) -> str | None:
    """Say in one sentence why a backbone cannot be computed in tiles, or None if it can."""
    blocks = [cast("EscnBlock", block) for block in backbone.blocks]
    if not all(isinstance(block.edge_wise.act, OrderGateActivation) for block in blocks):
        return 'Tiles need the activation "gate".'
    if not is_frozen(list(backbone.parameters())):
        return "Tiles need frozen weights."
    return None


class SharedInputs(NamedTuple):
    """What all steps of one call share.

    Attributes:
        data: The batch.
        types: Its elements.
        groups: Weight group of each system, or None without experts.
        coefficients: ``[G, X]`` expert coefficients, or None.
        per_atom: ``[N, C]`` embedding of each atom's system.
    """

    data: AtomicData
    types: ElementTypes
    groups: list[int] | None
    coefficients: torch.Tensor | None
    per_atom: torch.Tensor


def tiled_features(
    backbone: eSCNMDBackbone, shared: SharedInputs, edges: Sequence[Neighborhood]
) -> NodeFeatures:
    """Compute node features; see :meth:`adatom.models.base.Backbone.forward`.

    Args:
        backbone: For which :func:`tiled_unavailable` is None.
        shared: The batch and what follows from it.
        edges: One entry per message-passing layer.
    """
    budget = _Budget(backbone.execution.kept_bytes, edges[0].vectors.element_size())
    tiled = _tiled(backbone, shared, edges, budget)
    keep = torch.is_grad_enabled() and any(own.vectors.requires_grad for own in edges)
    steps = _steps(backbone, shared, edges, tiled)
    if keep:
        _share_out(budget, steps)
    first = _FirstStep(backbone, shared, edges[0], tiled[0])
    features = run_step(first, edges[0].vectors)
    for step, own in zip(steps, edges[1:], strict=False):
        features = run_step(step, features, own.vectors)
    features = run_step(steps[-1], features)
    # A copy, so that who needs the scalars only does not keep the rest in memory.
    return NodeFeatures(features[:, 0].contiguous(), features)


class _Budget:
    """Bytes that may be kept."""

    def __init__(self, kept_bytes: int, itemsize: int) -> None:
        self._left = kept_bytes // itemsize

    def take(self, count: int, numbers: int, parts: int = 1) -> int:
        """Take what is left, divided by ``parts``, for at most ``count`` times ``numbers``."""
        granted = min(count, self._left // parts // max(numbers, 1))
        self._left -= granted * numbers
        return granted


def _tiled(
    backbone: eSCNMDBackbone,
    shared: SharedInputs,
    edges: Sequence[Neighborhood],
    budget: _Budget,
) -> list[TiledEdges]:
    """Return the tiles of each layer; layers with the same edges share them."""
    functions = EdgeFunctions(backbone.layout, backbone.cutoff, backbone.num_distance_basis)
    tiled: list[TiledEdges] = []
    for k, own in enumerate(edges):
        if k and own is edges[k - 1]:
            tiled.append(tiled[-1])
            continue
        runs, _ = backbone.runs(own, shared.groups, shared.data)
        blocks = atom_blocks(
            own.source,
            own.target,
            shared.types.pairs(own.source, own.target),
            runs,
            shared.data.num_atoms,
            backbone.execution.edges_per_tile,
        )
        kept = budget.take(own.source.shape[0], functions.numbers_per_edge())
        tiled.append(TiledEdges(functions, own.vectors.detach().contiguous(), blocks, kept))
    return tiled


def _steps(
    backbone: eSCNMDBackbone,
    shared: SharedInputs,
    edges: Sequence[Neighborhood],
    tiled: list[TiledEdges],
) -> list[_Step]:
    blocks = [cast("EscnBlock", block) for block in backbone.blocks]
    steps = []
    for k in range(len(blocks) + 1):
        last = k == len(blocks)
        messages = None
        if not last:
            spec = blocks[k].edge_wise.frozen(shared.coefficients, shared.types)
            messages = TiledMessages(spec, tiled[k + 1])
        steps.append(
            _Step(
                backbone,
                shared,
                blocks[k - 1] if k else None,
                None if last else blocks[k],
                messages,
                None if last else edges[k + 1],
                edges[0],
            )
        )
    return steps


def _share_out(budget: _Budget, steps: list[_Step]) -> None:
    """Decide what each step keeps; what saves most time per byte comes first."""
    layers = [step.messages for step in steps if step.messages is not None]
    for k, messages in enumerate(layers):
        edges, parts = len(messages.edges.vectors), len(layers) - k
        messages.kept_mapped = budget.take(edges, messages.spec.num_outputs, parts)
    for k, messages in enumerate(layers):
        edges, parts = len(messages.edges.vectors), len(layers) - k
        numbers = messages.spec.num_weights + messages.spec.radial.numbers_per_edge()
        messages.kept_weights = budget.take(edges, numbers, parts)
    atoms = steps[0].shared.data.num_atoms
    numbers = _STEP_GRAPH * steps[0].backbone.layout.node_size * steps[0].backbone.num_channels
    for k, step in enumerate(steps):
        step.keeps_graph = budget.take(atoms, numbers, len(steps) - k) == atoms


class _FirstStep:
    """The embedding of the atoms and of the edges into them."""

    def __init__(
        self,
        backbone: eSCNMDBackbone,
        shared: SharedInputs,
        edges: Neighborhood,
        tiled: TiledEdges,
    ) -> None:
        self.backbone = backbone
        self.shared = shared
        self.edges = edges
        self.degrees: TiledDegrees = backbone.edge_degree_embedding.tiled(shared.types, tiled)

    def run(self, inputs: Sequence[torch.Tensor], *, keep: bool) -> tuple[torch.Tensor, None]:
        del keep
        shared = self.shared
        size = (shared.data.num_atoms, self.backbone.layout.node_size, self.backbone.num_channels)
        out = inputs[0].new_zeros(size)
        out[:, 0] = self.backbone.invariants(shared.data, shared.per_atom)
        self.degrees.add(out)
        return out, None

    def adjoint(
        self, inputs: Sequence[torch.Tensor], kept: None, gradient: torch.Tensor
    ) -> Gradients:
        del inputs, kept
        return (self.degrees.adjoint(gradient),)

    def plain(self, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        geometry = _geometry(self.backbone, self.shared, self.edges, inputs[0])
        features: torch.Tensor = self.backbone.embed(
            geometry, self.shared.data, self.shared.per_atom, self.edges
        )
        return features


class _KeptState(NamedTuple):
    """What a step keeps.

    Attributes:
        graph: Input, features and their norm with the graph between them, or None.
        invariants: ``[N, C]`` of the features.
        edges: Of the messages, or None.
        halo: ``[H, S, C]`` what messages were made from at atoms of other workers, or None.
    """

    graph: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None
    invariants: torch.Tensor
    edges: KeptMessages | None
    halo: torch.Tensor | None


class _Step:
    """From features with the messages of one block to those with the next block's.

    Args:
        backbone: Has the blocks.
        shared: The batch.
        before: The block whose network on each atom is still to come; None at the beginning.
        after: The block whose messages follow; None at the end.
        messages: Of ``after``.
        edges: Of ``messages``.
        first: Of the first layer.
    """

    def __init__(
        self,
        backbone: eSCNMDBackbone,
        shared: SharedInputs,
        before: EscnBlock | None,
        after: EscnBlock | None,
        messages: TiledMessages | None,
        edges: Neighborhood | None,
        first: Neighborhood,
    ) -> None:
        self.backbone = backbone
        self.shared = shared
        self.first = first
        self.before = before
        self.after = after
        self.messages = messages
        self.edges = edges
        self.keeps_graph = False

    def run(
        self, inputs: Sequence[torch.Tensor], *, keep: bool
    ) -> tuple[torch.Tensor, _KeptState | None]:
        graph = None
        if keep and self.keeps_graph:
            with torch.enable_grad():
                start = inputs[0].detach().requires_grad_()
                features = self._balance(self._update(start, slice(None)))
                graph = (start, features, self._norm(features, slice(None)))
            features, normed = features.detach().clone(), graph[2].detach()
        else:
            features = self._balance(map_chunks(self._update, inputs[0]))
            normed = map_chunks(self._norm, features)
        invariants = features[:, 0].clone()
        if self.messages is None:
            return normed, _KeptState(graph, invariants, None, None)
        seen = self._seen(normed)
        kept = self.messages.add(seen, features, keep=keep)
        return features, _KeptState(graph, invariants, kept, self._kept_rows(seen, keep=keep))

    def adjoint(
        self, inputs: Sequence[torch.Tensor], kept: _KeptState, gradient: torch.Tensor
    ) -> Gradients:
        def features(_: torch.Tensor, atoms: slice) -> torch.Tensor:
            own = self._update(inputs[0][atoms], atoms)
            return torch.cat([kept.invariants[atoms].unsqueeze(1), own[:, 1:]], dim=1)

        to_vectors: tuple[torch.Tensor, ...] = ()
        to_normed = gradient
        if self.messages is not None:
            if kept.graph is None:
                normed = map_chunks(
                    lambda x, atoms: self._norm(features(x, atoms), atoms), inputs[0]
                )
            else:
                normed = kept.graph[2].detach()
            seen = self._seen(normed, kept.halo)
            to_seen, own = self.messages.adjoint(seen, gradient, kept.edges)
            to_normed = self._seen_adjoint(to_seen)
            to_vectors = (own,)
            del normed, seen, to_seen
        if kept.graph is not None:
            start, *outputs = kept.graph
            gradients = [gradient, to_normed]
            skipped = int(self.messages is None)
            (to_start,) = torch.autograd.grad(
                outputs[skipped:], start, gradients[skipped:], retain_graph=True
            )
            return (to_start, *to_vectors)
        if self.messages is None:
            to_normed = to_normed.clone()
        map_chunks_adjoint(self._norm, features, to_normed)
        if self.messages is not None:
            to_normed += gradient
        self._balance_adjoint(to_normed)
        if self.before is not None:
            map_chunks_adjoint(self._update, lambda _, atoms: inputs[0][atoms], to_normed)
        return (to_normed, *to_vectors)

    def plain(self, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        features = inputs[0] if self.before is None else self.before.update_atoms(inputs[0])
        if self.before is not None:
            features = self.backbone.balance(features, self.shared.data, self.first)
        normed = self._norm(features, slice(None))
        if self.after is None or self.edges is None:
            return normed
        geometry = _geometry(self.backbone, self.shared, self.edges, inputs[1])
        seen = self.edges.extended(normed)
        messages: torch.Tensor = self.after.edge_wise(seen, geometry, self.shared.coefficients)
        return features + messages

    def _seen(self, normed: torch.Tensor, halo: torch.Tensor | None = None) -> torch.Tensor:
        """Return what edges see, ``[N + H, S, C]``; ``halo`` is what was kept of it."""
        if self.edges is None or self.edges.halo is None:
            return normed
        with torch.no_grad():
            return self.edges.extended(normed) if halo is None else torch.cat([normed, halo])

    def _kept_rows(self, seen: torch.Tensor, *, keep: bool) -> torch.Tensor | None:
        """Return a copy of the halo's rows, unless nothing shall be kept.

        All workers must decide alike, or one would wait for rows that no other sends.
        """
        if not keep or self.first.halo is None or not self.backbone.execution.kept_bytes:
            return None
        return seen[self.shared.data.num_atoms :].clone()

    def _seen_adjoint(self, gradient: torch.Tensor) -> torch.Tensor:
        if self.edges is None or self.edges.halo is None:
            return gradient
        with torch.no_grad():
            return self.edges.halo.collect(gradient)

    def _update(self, features: torch.Tensor, atoms: slice) -> torch.Tensor:
        del atoms
        return features if self.before is None else self.before.update_atoms(features)

    def _norm(self, features: torch.Tensor, atoms: slice) -> torch.Tensor:
        if self.after is not None:
            return self.after.normed(features, self.shared.per_atom[atoms])
        normed: torch.Tensor = self.backbone.norm(features)
        return normed

    def _balance(self, features: torch.Tensor) -> torch.Tensor:
        """Balance channels; in place without a graph."""
        if self.before is None or not self.backbone.balances:
            return features
        if features.requires_grad:
            return self.backbone.balance(features, self.shared.data, self.first)
        features[:, :1] = self.backbone.balance(features[:, :1], self.shared.data, self.first)
        return features

    def _balance_adjoint(self, gradient: torch.Tensor) -> None:
        """Replace the gradient of balanced features by that before, in place."""
        if self.before is None or not self.backbone.balances:
            return
        own = gradient[:, :1].contiguous()
        gradient[:, :1] = self.backbone.balance_adjoint(own, self.shared.data, self.first)


def _geometry(
    backbone: eSCNMDBackbone, shared: SharedInputs, edges: Neighborhood, vectors: torch.Tensor
) -> EdgeGeometry:
    own = replace(edges, vectors=vectors)
    return backbone.geometry(own, shared.types, shared.groups, shared.data)
