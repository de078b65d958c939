"""What domain decomposition costs a network of several layers: ghosts, and edges computed twice.

    python -m benchmarks.kim_ghosts --cutoff 5 --layers 1 2 3 4

Nothing is timed: the staged graphs of one domain of a silicon crystal are built and counted, with
the code that checks portable models. The table goes to standard output as Markdown.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np
from ase import Atoms
from ase.build import bulk

from adatom.core.console import show
from adatom.deploy.kim.configuration import Configuration, make_configuration
from adatom.deploy.kim.inputs import staged_graph
from adatom.deploy.kim.neighbor_lists import neighbor_pairs
from benchmarks.records import markdown_table

_COLUMNS = ("atoms", "ranks", "layers", "influence distance", "atoms of a rank", "its ghosts",
            "edges, times those without ghosts")  # fmt: skip
#: Domains of a cube for so many ranks, as LAMMPS cuts it.
_GRIDS = {1: (1, 1, 1), 2: (1, 1, 2), 4: (1, 2, 2), 8: (2, 2, 2)}


def main() -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--repeats", type=int, nargs="+", default=[4, 8])
    parser.add_argument("--ranks", type=int, nargs="+", choices=list(_GRIDS), default=[1, 2, 8])
    parser.add_argument("--layers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--cutoff", type=float, default=5.0)
    options = parser.parse_args()
    rows = [
        count(bulk("Si", cubic=True) * (repeat, repeat, repeat), ranks, layers, options.cutoff)
        for repeat in options.repeats
        for ranks in options.ranks
        for layers in options.layers
    ]
    show(markdown_table(_COLUMNS, rows))


def count(atoms: Atoms, ranks: int, layers: int, cutoff: float) -> list[object]:
    """Return the row of one domain.

    Args:
        atoms: A periodic crystal.
        ranks: Of LAMMPS, a key of :data:`_GRIDS`.
        layers: Message layers of the network.
        cutoff: Of each layer, in angstrom.
    """
    reach = layers * cutoff
    domain = _one_domain(make_configuration(atoms, {"Si": 0}, reach), atoms, ranks, reach)
    sender, receiver = neighbor_pairs(domain.coordinates, cutoff)
    stages = staged_graph(sender, receiver, domain.contributing, layers, directed=True)
    own = int(domain.contributing[receiver].sum())
    computed = sum(stage.shape[1] for stage in stages)
    ghosts = int((~domain.contributing).sum())
    return [
        len(atoms), ranks, layers, reach, domain.num_atoms, ghosts, computed / (layers * own)
    ]  # fmt: skip


def _one_domain(whole: Configuration, atoms: Atoms, ranks: int, reach: float) -> Configuration:
    """Return the first of equal domains, with the ghosts around it."""
    size = atoms.cell.lengths() / np.array(_GRIDS[ranks])
    x = whole.coordinates
    # A hair less than the planes of atoms, so that each belongs to one domain.
    low = np.full(3, -1e-6)
    own = whole.contributing & ((x >= low) & (x < low + size)).all(axis=1)
    outside = np.maximum(np.maximum(low - x, x - low - size), 0.0)
    near = (outside**2).sum(axis=1) <= reach**2
    marked = replace(whole, contributing=own)
    return Configuration(
        species=marked.species[near],
        coordinates=marked.coordinates[near],
        contributing=marked.contributing[near],
        image_of=marked.image_of[near],
    )


if __name__ == "__main__":
    main()
