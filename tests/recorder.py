"""A stand-in for the recording of CUDA graphs."""

from __future__ import annotations


class Recorder:
    """Like a CUDA graph: computes from memory of its own whatever is copied there.

    Attributes:
        shapes: Edges of each recording.
    """

    def __init__(self):
        self.shapes = []

    def __call__(self, function, examples):
        self.shapes.append(len(examples[1]))
        fixed = [example.detach().clone() for example in examples]

        def replay(*arguments):
            for mine, given in zip(fixed, arguments, strict=True):
                assert mine.shape == given.shape
                mine.copy_(given.detach())
            vectors = arguments[0]
            return function(fixed[0] + (vectors - vectors.detach()), *fixed[1:])

        return replay
