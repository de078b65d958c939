"""A small piece of a system, for which workers together are compared with one alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from adatom.data.atomic_data import AtomicData
from adatom.graph.candidates import sort_candidates
from adatom.graph.edges import Edges
from adatom.graph.neighbors import find_backend
from adatom.graph.periodic_systems import PeriodicSystems
from adatom.graph.search_into import candidates_into
from adatom.graph.select_edges import select_edges
from adatom.inference.verification import COMPARED, Agreement, sample_of
from adatom.tasks.potential import Potential

#: From a system and properties to raw outputs.
Raw = Callable[[AtomicData, list[str]], dict[str, torch.Tensor]]
#: Atoms whose edges are searched for the sample; a system of fewer atoms is searched whole.
_ATOMS = 200


def sample_without_edges(
    data: AtomicData, cutoff: float, *, exact: bool, max_neighbors: int | None
) -> AtomicData:
    """Return a small system made of the same as ``data``, which needs no edges.

    Every worker finds the same sample. See :func:`adatom.inference.verification.sample_of`.
    """
    if data.num_atoms > _ATOMS:
        counts = torch.bincount(data.atomic_numbers)[data.atomic_numbers]
        # Beside the first atoms the one around which the sample is cut out.
        targets = torch.arange(_ATOMS, device=data.pos.device)
        targets = torch.unique(torch.cat([targets, counts.argmin().unsqueeze(0)]))
        data = replace(data, edges=_edges_into(data, targets, cutoff))
    else:
        data = data.with_edges(cutoff, max_neighbors=max_neighbors)
    sample = sample_of(data, cutoff, exact=exact, max_neighbors=max_neighbors)
    # In nearly empty space few edges are known, and all of them are not many.
    return data.with_edges(cutoff, max_neighbors=max_neighbors) if sample is data else sample


def _edges_into(data: AtomicData, targets: torch.Tensor, cutoff: float) -> Edges:
    systems = PeriodicSystems.checked(data.pos, data.cell, data.pbc)
    found = candidates_into(systems, targets, cutoff, find_backend("auto"))
    return select_edges(systems, sort_candidates(found, systems.num_atoms), cutoff)


def helped(raw: Raw, sample: AtomicData, potential: Potential) -> Agreement:
    """Do the part of a worker that does not compare itself, and tell whether that went well."""
    known = potential.properties(sample.dataset[0])
    try:
        raw(sample, [name for name in COMPARED if name in known])
    # Whatever it is: the others wait for the answer, and worker 0 has caught its own.
    except Exception as error:  # noqa: BLE001
        return Agreement(False, f"{type(error).__name__}: {error}")
    return Agreement(True, "its part was computed")


class Together:
    """A potential computed by all workers, in the form that comparisons take.

    Args:
        potential: Computes.
        raw: From a system and properties to raw outputs.
    """

    def __init__(
        self,
        potential: Potential,
        raw: Raw,
    ) -> None:
        self._potential = potential
        self._raw = raw

    @property
    def dtype(self) -> torch.dtype:
        """Floating dtype of the parameters."""
        return self._potential.dtype

    def __call__(self, data: AtomicData, properties: list[str]) -> dict[str, torch.Tensor]:
        """Predict in network units."""
        return self._raw(data, properties)

    def properties(self, dataset: str) -> list[str]:
        """Return what systems of a dataset can be given."""
        return self._potential.properties(dataset)

    def denormalize(
        self, raw: dict[str, torch.Tensor], data: AtomicData
    ) -> dict[str, torch.Tensor]:
        """Convert to physical units."""
        return self._potential.denormalize(raw, data)

    def reference_energies(self, data: AtomicData) -> torch.Tensor:
        """Return each atom's element reference."""
        return self._potential.reference_energies(data)
