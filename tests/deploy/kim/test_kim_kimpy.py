"""ASE's own calculator for KIM, through the binding that others use, gives what ours gives.

kimpy holds Python's lock while a model computes, unless told otherwise, and with ``ase_neigh`` its
neighbor lists come from a Python function. Each case has a process of its own, so that torch is
imported when the case says so.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys

import ase.io
import numpy as np
import pytest
from kim_models import Candidate

from adatom.deploy.kim.calculator import KimCalculator

pytestmark = pytest.mark.slow

PROGRAM = """
import json, sys
from concurrent.futures import ThreadPoolExecutor
when, name, path = sys.argv[1:]
if when == "before":
    import torch
    torch.ones(2, requires_grad=True).sum().backward()
import ase.io
from ase.calculators.kim import KIM

def results(ase_neigh, release):
    calculator = KIM(name, options={"ase_neigh": ase_neigh, "release_GIL": release})
    found = []
    for atoms in ase.io.read(path, ":"):
        atoms.calc = calculator
        found.append([atoms.get_potential_energy(), atoms.get_forces().tolist()])
        if atoms.cell.rank == 3:
            found[-1].append(atoms.get_stress().tolist())
    return found

# Not both: kimpy then calls Python without the lock, and crashes with KIM's own models, too.
cases = [(False, False), (False, True), (True, False)]
found = [results(*case) for case in cases]
if when == "after":
    assert "torch" not in sys.modules
    import torch
    torch.ones(2, requires_grad=True).sum().backward()
    found += [results(*case) for case in cases]
with ThreadPoolExecutor(4) as pool:
    for case in cases:
        found += pool.map(results, *zip(*[case] * 4))
print(json.dumps(found))
"""


@pytest.fixture(scope="module", autouse=True)
def _kimpy():
    if importlib.util.find_spec("kimpy") is None:
        pytest.skip("needs kimpy, which builds for minutes: pip install --no-deps kimpy")


def structures(tested: Candidate):
    """Return a bulk, a skewed cell, a slab, and a cluster without a cell."""
    bulk, slab, cluster = (tested.crystal(1, seed=seed) for seed in range(3))
    slab.pbc = (True, True, False)
    slab.center(vacuum=8.0, axis=2)
    cluster.pbc = False
    cluster.cell = np.zeros((3, 3))
    skewed = bulk.copy()
    strain = np.array([[1, 0, 0], [0.2, 1, 0], [-0.1, 0.15, 1.03]])
    skewed.set_cell(skewed.cell @ strain, scale_atoms=True)
    return [bulk, skewed, slab, cluster]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("tested", ["graph", "silicon", "egnn"], indirect=True)
def test_ases_calculator_gives_what_ours_gives(tested, when, tmp_path):
    path, expected = tmp_path / "atoms.json", []
    ours = KimCalculator(tested.name)
    systems = structures(tested)
    ase.io.write(path, systems)
    for atoms in systems:
        atoms.calc = ours
        expected.append([atoms.get_potential_energy(), atoms.get_forces()])
        if atoms.cell.rank == 3:
            expected[-1].append(atoms.get_stress())
    command = [sys.executable, "-c", PROGRAM, when, tested.name, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert len(found) == (15 if when == "before" else 18)
    for case in found:
        for values, reference in zip(case, expected, strict=True):
            for value, right in zip(values, reference, strict=True):
                assert value == pytest.approx(right, rel=0, abs=1e-10)
