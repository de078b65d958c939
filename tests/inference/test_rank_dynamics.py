"""Two hundred steps of dynamics in which atoms go from one worker to another."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import shared_systems as shared
import torch
from ase import Atoms, units
from ase.build import bulk
from ase.data import atomic_masses

from adatom.graph.thread_links import run_workers

STEPS, WORKERS = 200, 3
#: In ASE's unit of time, about 4 fs.
STEP = 0.4


def liquid() -> Atoms:
    """Return hot atoms with one vacancy, in a cell that is not cubic."""
    atoms = bulk("Cu", "fcc", a=4.1, cubic=True) * (3, 2, 2)
    del atoms[5]
    draws = np.random.default_rng(1).normal(size=(len(atoms), 3))
    atoms.set_velocities(draws * np.sqrt(units.kB * 6000 / atoms.get_masses())[:, None])
    return atoms


@pytest.mark.slow
@pytest.mark.parametrize("name", ["toy", "uma"])
def test_workers_follow_the_trajectory_of_one(name):
    atoms = liquid()
    moving, potential = shared.make("toy"), shared.make(name)
    start = shared.data_of(atoms)
    velocities = torch.from_numpy(atoms.get_velocities())
    masses = torch.from_numpy(atomic_masses[atoms.numbers])[:, None]

    def follow(links):
        mover = shared.engine(moving, "default", links)
        watcher = shared.engine(potential, "turbo", links)
        data, v, seen, owners = start, velocities, [], []
        forces = links.broadcast(mover.predict(data, ("forces",)).get("forces", start.pos))
        for _ in range(STEPS):
            v = v + 0.5 * STEP * forces / masses
            data = replace(data, pos=data.pos + STEP * v)
            # What worker 0 found goes to the others, which integrate as well.
            forces = links.broadcast(mover.predict(data, ("forces",)).get("forces", start.pos))
            v = v + 0.5 * STEP * forces / masses
            out = watcher.predict(data, ("energy", "forces", "stress"))
            seen.append((data, out))
            owners.append(watcher._domains._domain.own)
        return seen, owners, watcher.statistics()

    results = run_workers(WORKERS, follow)
    plain = shared.alone(potential)
    for data, out in results[0][0]:
        shared.require_equal(out, plain.predict(data, ("energy", "forces", "stress")))
    statistics = results[0][2]
    assert 3 < statistics.searches < STEPS
    first, last = results[0][1][0].tolist(), results[0][1][-1].tolist()
    assert len(set(first) ^ set(last)) > 4
