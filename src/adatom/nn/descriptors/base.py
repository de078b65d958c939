"""What a descriptor is: from vectors to neighbors to a row of numbers per atom."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from adatom.nn.descriptors.pair_cutoffs import check_species, pair_cutoffs

Constants = Mapping[str, npt.NDArray[np.float64] | npt.NDArray[np.int64]]


class Descriptor(nn.Module):
    """Numbers that do not change when a neighborhood is turned or its atoms are renumbered.

    Fixed numbers live in buffers that are no part of the state; they are rounded to the dtype of
    the module from float64 each time that this changes.

    Args:
        species: S chemical symbols; the position is the species code.
        cutoffs: In angstrom: of all pairs, or of each unordered pair such as ``"Si-C"``.

    Attributes:
        kind: Its name in descriptor files and parameter files of KIM.
        species: As given.
        cutoffs: ``[S][S]``.
        width: Numbers per atom.
        smooth: Whether values go to zero at the cutoffs instead of jumping there.

    Raises:
        ConfigError: If species or cutoffs do not go together.
        UnknownNameError: If a species is no element, or a pair is of other species.
    """

    kind: ClassVar[str]
    width: int
    smooth: bool = True
    pair_table: torch.Tensor

    def __init__(self, species: Sequence[str], cutoffs: float | Mapping[str, float]) -> None:
        super().__init__()
        self.species = check_species(species)
        self.cutoffs = pair_cutoffs(self.species, cutoffs)

    @property
    def cutoff(self) -> float:
        """The longest cutoff, in angstrom; edges must reach at least this far."""
        return max(max(row) for row in self.cutoffs)

    @abstractmethod
    def forward(
        self,
        species: torch.Tensor,
        source: torch.Tensor,
        target: torch.Tensor,
        vectors: torch.Tensor,
    ) -> torch.Tensor:
        """Return ``[N, width]``, differentiable any number of times by ``vectors``.

        Args:
            species: ``[N]`` int64 codes.
            source: ``[E]`` int64; the neighbors.
            target: ``[E]`` int64, non-decreasing; the atoms that are described.
            vectors: ``[E, 3]`` from target to source, in angstrom; may be longer than cutoffs.
        """

    @abstractmethod
    def constants(self) -> Constants:
        """Return what else ``forward`` needs, by the names of the buffers."""

    def fill_buffers(self) -> None:
        """Make the buffers; subclasses call this at the end of their constructor."""
        for name, values in self._all_constants().items():
            tensor = torch.from_numpy(values).clone()
            if tensor.is_floating_point():
                tensor = tensor.to(torch.get_default_dtype())
            self.register_buffer(name, tensor, persistent=False)

    def pair_lengths(
        self, species: torch.Tensor, first: torch.Tensor, second: torch.Tensor
    ) -> torch.Tensor:
        """Return the cutoffs ``[P]`` of pairs of atoms."""
        return self.pair_table[species.index_select(0, first), species.index_select(0, second)]

    def _all_constants(self) -> Constants:
        return {"pair_table": np.array(self.cutoffs, dtype=np.float64), **self.constants()}

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, values in self._all_constants().items():
            moved = getattr(self, name)
            exact = torch.from_numpy(values).to(dtype=moved.dtype, device=moved.device)
            # On the meta device there is nothing to correct.
            if exact.device.type != "meta":
                setattr(self, name, exact.clone())
        return self
