"""Small systems on a GPU: the launches of a whole backbone recorded once and replayed.

Below about a hundred atoms a GPU waits for the launches of kernels. A CUDA graph replays them at
once, for fixed shapes: edges are padded to buckets. Each recording is compared with what it
records before it is used. Tested on a CPU with a stand-in for the recording; recording itself has
not been run on a GPU yet.
"""

from __future__ import annotations

import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, cast

import torch

from adatom.core.errors import ConfigError
from adatom.models.base import Neighborhood, NodeFeatures
from adatom.models.edge_padding import bucket, pad_edges

Tensors = tuple[torch.Tensor, ...]
Function = Callable[..., Tensors]
#: From a function of tensors and example arguments to one that does the same for these shapes, in
#: memory that the next call overwrites.
Recorder = Callable[[Function, Tensors], Function]

#: Larger systems are computed as usual: their launches do not matter, and a recording holds the
#: memory of its intermediates, about 60 kB per edge at 128 channels.
MAX_ATOMS, MAX_EDGES = 200, 4096
#: Recordings kept of one function, those used last.
_MAX_RECORDINGS = 4
#: Largest difference between a recording and what it records, relative to the largest number.
_TOLERANCES = {torch.float64: 1e-10, torch.float32: 1e-4}


def record(function: Function, examples: Tensors) -> Function:
    """Record a function and its gradient as CUDA graphs.

    Raises:
        ConfigError: If the arguments are not on a CUDA device.
    """
    if examples[0].device.type != "cuda":
        raise ConfigError(
            f"CUDA graphs were asked for on {examples[0].device}", expected="a CUDA device"
        )
    return cast("Function", torch.cuda.make_graphed_callables(function, examples))


class Recordings:
    """Recordings of one function from edges to features, by the number of edges.

    A number of edges (rounded up to a bucket) is recorded when it comes the second time, so that
    what comes once does not pay for it.

    Args:
        compute: From the edges of one system to features, both of scalars and spherical; reads
            nothing back from the device.
        batch: ``[N]`` int64; the system of each atom, all zero.
        cutoff: In angstrom.
        recorder: What records.

    Attributes:
        reason: Why nothing is recorded, after a failure; else None.
    """

    def __init__(
        self,
        compute: Callable[[Neighborhood], NodeFeatures],
        batch: torch.Tensor,
        cutoff: float,
        recorder: Recorder = record,
    ) -> None:
        self._compute = compute
        self._batch = batch
        self._cutoff = cutoff
        self._recorder = recorder
        self._seen: set[int] = set()
        self._found: OrderedDict[int, _Recording] = OrderedDict()
        self.reason: str | None = None

    def features(self, edges: Neighborhood) -> NodeFeatures:
        """Return node features, which can be differentiated once to the edge vectors."""
        size = bucket(len(edges.source))
        if self.reason is not None or size > MAX_EDGES or not _differentiates(edges):
            return self._compute(edges)
        if size not in self._seen:
            self._seen.add(size)
            return self._compute(edges)
        padded = pad_edges(edges, self._batch, size, self._cutoff)
        recording = self._found.get(size) or self._record(padded)
        if recording is None:
            return self._compute(edges)
        self._found[size] = recording
        self._found.move_to_end(size)
        while len(self._found) > _MAX_RECORDINGS:
            self._found.popitem(last=False)
        scalars, spherical = _Replay.apply(padded.vectors, padded, recording)  # type: ignore[no-untyped-call]
        return NodeFeatures(scalars, spherical)

    def _record(self, edges: Neighborhood) -> _Recording | None:
        """Return a recording that agrees with the computation, or None after a failure."""
        try:
            recording = _Recording(self._recorder(self._recordable(edges), _examples(edges)))
            difference = self._difference(recording, edges)
        except RuntimeError as error:
            self.reason = (str(error).splitlines() or ["it failed"])[0]
        else:
            if difference <= _TOLERANCES[edges.vectors.dtype]:
                return recording
            self.reason = f"the recording differs from the computation by {difference:.1e}"
        warnings.warn(f"CUDA graphs are not used for small systems: {self.reason}", stacklevel=2)
        return None

    def _recordable(self, edges: Neighborhood) -> Function:
        counts, compute = edges.counts.clone(), self._compute

        def function(vectors: torch.Tensor, source: torch.Tensor, target: torch.Tensor) -> Tensors:
            scalars, spherical = compute(Neighborhood(source, target, vectors, counts))
            return scalars, cast("torch.Tensor", spherical)

        return function

    def _difference(self, recording: _Recording, edges: Neighborhood) -> float:
        """Return the largest difference of features and gradients, relative to the largest."""
        results = []
        for function in (recording.replay, self._recordable(edges)):
            with torch.enable_grad():
                inputs = _examples(edges)
                scalars, spherical = function(*inputs)
                loss = scalars.square().sum() + spherical[:, 1:].sin().sum()
                (gradient,) = torch.autograd.grad(loss, inputs[0])
            results.append([x.detach().clone() for x in (scalars, spherical, gradient)])
        # A NaN is the largest of all, and within no tolerance.
        relative = [
            (a - b).abs().max() / b.abs().max().clamp(min=1e-30)
            for a, b in zip(*results, strict=True)
        ]
        return float(torch.stack(relative).max())


class _Recording:
    """A replay, and who used its memory last.

    Attributes:
        replay: From vectors, source and target to scalars and spherical features.
        lock: Held while the memory of the recording is in use.
        calls: How many forward passes it has seen.
    """

    def __init__(self, replay: Function) -> None:
        self.replay = replay
        self.lock = threading.Lock()
        self.calls = 0

    def run(self, edges: Neighborhood) -> tuple[torch.Tensor, Tensors]:
        """Replay the forward pass; return its own vectors, and results that can be derived."""
        self.calls += 1
        with torch.enable_grad():
            inputs = _examples(edges)
            return inputs[0], self.replay(*inputs)


class _Replay(torch.autograd.Function):
    """Scalars ``[N, C]`` and spherical features ``[N, S, C]`` from a recording.

    If another forward pass came between the two passes, the first is replayed again: it has lost
    what it kept for the backward pass.
    """

    @staticmethod
    def forward(
        ctx: Any, vectors: torch.Tensor, edges: Neighborhood, recording: _Recording
    ) -> tuple[torch.Tensor, ...]:
        own = Neighborhood(edges.source, edges.target, vectors.detach(), edges.counts)
        with recording.lock:
            ctx.state = recording.run(own)
            ctx.call = recording.calls
            ctx.context = own, recording
            return tuple(x.detach().clone() for x in ctx.state[1])

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        if torch.is_grad_enabled():
            raise ConfigError(
                "A recording has first derivatives only",
                fix="Set backbone.execution = Execution('general') for second ones.",
            )
        edges, recording = ctx.context
        with recording.lock:
            vectors, results = ctx.state
            if recording.calls != ctx.call:
                vectors, results = recording.run(edges)
            (gradient,) = torch.autograd.grad(results, vectors, gradients)
            return gradient.clone(), None, None


def _differentiates(edges: Neighborhood) -> bool:
    return edges.vectors.requires_grad and torch.is_grad_enabled()


def _examples(edges: Neighborhood) -> Tensors:
    """Return copies of the arguments of a recording."""
    vectors = edges.vectors.detach().clone().requires_grad_()
    return vectors, edges.source.clone(), edges.target.clone()
