"""Batches of structures of different kinds and sizes: what goes together, and in which order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from adatom.data.atomic_data import AtomicData, collate
from adatom.inference.composition import Key

#: Structures that are looked at together.
MAX_WINDOW = 1024


@dataclass(slots=True)
class Item:
    """One structure on its way.

    Attributes:
        number: Its place in the input.
        system: The structure.
        key: What it is made of.
    """

    number: int
    system: AtomicData
    key: Key

    @property
    def edges(self) -> int:
        """Number of edges."""
        return 0 if self.system.edges is None else int(self.system.edges.index.shape[1])

    @property
    def atoms(self) -> int:
        """Number of atoms."""
        return self.system.num_atoms


def windows(items: Iterable[Item], max_atoms: Callable[[], int]) -> Iterator[list[Item]]:
    """Group consecutive structures that are looked at together.

    Args:
        items: In input order; taken only as they are needed.
        max_atoms: How many atoms a window may have now; a larger structure comes alone.
    """
    window: list[Item] = []
    atoms = 0
    limit = max_atoms()
    for item in items:
        if window and (atoms + item.atoms > limit or len(window) >= MAX_WINDOW):
            yield window
            window, atoms, limit = [], 0, max_atoms()
        window.append(item)
        atoms += item.atoms
    if window:
        yield window


def with_edges(window: Sequence[Item], build: Callable[[AtomicData], AtomicData]) -> list[Item]:
    """Give every structure edges, with one search for all that have none, grouped by kind.

    Args:
        window: Structures.
        build: Adds edges to a batch.

    Returns:
        The structures, those of one composition next to each other, larger ones first.
    """
    ordered = sorted(window, key=lambda item: (item.key, -item.atoms, item.number))
    bare = [item for item in ordered if item.system.edges is None]
    if bare:
        built = build(collate([item.system for item in bare]))
        systems = [built] if len(bare) == 1 else built.unbatch()
        for item, system in zip(bare, systems, strict=True):
            item.system = system
    return ordered


class Fits(Protocol):
    """Tells whether so much may be computed at once."""

    def __call__(self, edges: int, atoms: int, kinds: int) -> bool:
        """Answer for numbers of edges, atoms and compositions."""


def packed(ordered: Sequence[Item], fits: Fits) -> Iterator[list[Item]]:
    """Fill batches in order; a structure that does not fit goes alone.

    Args:
        ordered: Structures with edges, those of one composition next to each other.
        fits: Asked for every batch anew, so that what was learned from one serves the next.
    """
    batch: list[Item] = []
    edges = atoms = kinds = 0
    for item in ordered:
        new = not batch or item.key != batch[-1].key
        if batch and not fits(edges + item.edges, atoms + item.atoms, kinds + new):
            yield batch
            batch, edges, atoms, kinds, new = [], 0, 0, 0, True
        batch.append(item)
        edges += item.edges
        atoms += item.atoms
        kinds += new
    if batch:
        yield batch


def halves(batch: Sequence[Item]) -> tuple[list[Item], list[Item]]:
    """Split a batch of at least two structures where half of its edges are on either side."""
    half = sum(item.edges + item.atoms for item in batch) / 2
    done = 0
    for i, item in enumerate(batch):
        done += item.edges + item.atoms
        if done >= half:
            cut = min(max(i + 1, 1), len(batch) - 1)
            return list(batch[:cut]), list(batch[cut:])
    return list(batch[:1]), list(batch[1:])
