"""Symmetry functions against loops over neighbors, and their derivatives."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.neighborlist import neighbor_list
from neighborhoods import (
    check_slopes,
    check_symmetry,
    check_twice_differentiable,
    cluster,
    crystal,
    evaluate,
)

from adatom.core.errors import ConfigError, UnknownNameError
from adatom.nn.descriptors.build import build_descriptor
from adatom.nn.descriptors.symmetry_functions import SymmetryFunctions

FUNCTIONS = [
    ["g4", 2, -1, 0.05],
    ["g2", 0.5, 1.0],
    ["g1"],
    ["g5", 4, 1, 0.1],
    ["g3", 1.3],
    ["g4", 1, 1, 0.05],
    ["g2", 0.02, 0.0],
    ["g4", 2.5, -1, 0.2],
]
CUTOFFS = {"Si-Si": 4.0, "C-Si": 3.6, "C-C": 3.1}


def make(**changes: object) -> SymmetryFunctions:
    arguments = {"species": ["Si", "C"], "cutoffs": CUTOFFS, "functions": FUNCTIONS} | changes
    return SymmetryFunctions(**arguments).double()


def cosine(r: float, rc: float) -> float:
    return 0.5 * (math.cos(math.pi * r / rc) + 1) if r < rc else 0.0


def radial(name: str, p: list[float], r: float) -> float:
    return {
        "g1": lambda: 1.0,
        "g2": lambda: math.exp(-p[0] * (r - p[1]) ** 2),
        "g3": lambda: math.cos(p[0] * r),
    }.get(name, lambda: 0.0)()


def angular(name: str, p: list[float], sides: tuple[float, float, float], third: float) -> float:
    """Return a term without the cutoffs of the two sides at the atom; the angle has three sides."""
    if name not in ("g4", "g5"):
        return 0.0
    r, s, t = sides
    cosine_of_angle = (r * r + s * s - t * t) / (2 * r * s)
    value = 2 ** (1 - p[0]) * max(0.0, 1 + p[1] * cosine_of_angle) ** p[0]
    if name == "g4":
        return value * math.exp(-p[2] * (r * r + s * s + t * t)) * third
    return value * math.exp(-p[2] * (r * r + s * s))


def reference(atoms: Atoms) -> np.ndarray:
    """Loop over pairs and triplets."""
    cutoff = {frozenset(name.split("-")): rc for name, rc in CUTOFFS.items()}
    rows = np.zeros((len(atoms), len(FUNCTIONS)))
    i, j, shift = neighbor_list("ijS", atoms, 4.0)
    ends = atoms.positions[j] + shift @ atoms.cell.array
    symbols = atoms.get_chemical_symbols()
    for n, edge in enumerate(zip(i, j, strict=True)):
        atom, a, b = edge[0], symbols[edge[0]], symbols[edge[1]]
        r = np.linalg.norm(ends[n] - atoms.positions[atom])
        f = cosine(r, cutoff[frozenset((a, b))])
        rows[atom] += [radial(name, p, r) * f for name, *p in FUNCTIONS]
        for m in range(n + 1, len(i)):
            if i[m] != atom:
                continue
            c = symbols[j[m]]
            s = np.linalg.norm(ends[m] - atoms.positions[atom])
            t = np.linalg.norm(ends[m] - ends[n])
            both = f * cosine(s, cutoff[frozenset((a, c))])
            third = cosine(t, cutoff[frozenset((b, c))])
            rows[atom] += [angular(name, p, (r, s, t), third) * both for name, *p in FUNCTIONS]
    return rows


@pytest.mark.parametrize("atoms", [cluster(), crystal()], ids=["cluster", "crystal"])
def test_values_are_those_of_loops(atoms):
    np.testing.assert_allclose(evaluate(make(), atoms), reference(atoms), rtol=1e-10, atol=1e-12)


def test_resolved_functions_add_up_to_those_that_are_not():
    atoms = cluster(seed=4)
    resolved, plain = make(resolved=True), make()
    values, expected = evaluate(resolved, atoms), evaluate(plain, atoms)
    start = 0
    for column, (name, *_) in enumerate(FUNCTIONS):
        blocks = 2 if name in ("g1", "g2", "g3") else 3
        block = values[:, start : start + blocks]
        torch.testing.assert_close(block.sum(1), expected[:, column])
        start += blocks
    assert start == resolved.width


def test_resolved_functions_see_one_element_each():
    atoms = Atoms("SiC", [[0, 0, 0], [0, 0, 1.9]])
    values = evaluate(make(functions=[["g1"], ["g5", 1, 1, 0.0]], resolved=True), atoms)
    expected = cosine(1.9, 3.6)
    # Columns: neighbors Si and C, then pairs Si-Si, Si-C and C-C.
    assert values.tolist() == [
        pytest.approx([0, expected, 0, 0, 0]),
        pytest.approx([expected, 0, 0, 0, 0]),
    ]


@pytest.mark.parametrize("resolved", [False, True])
def test_slopes_are_those_of_finite_differences(resolved):
    for atoms in (cluster(seed=1), crystal(seed=1)):
        check_slopes(make(resolved=resolved), atoms)


@pytest.mark.parametrize("resolved", [False, True])
def test_values_stay_when_atoms_are_turned_mirrored_or_renumbered(resolved):
    check_symmetry(make(resolved=resolved))


def test_second_derivatives_are_right_also_in_a_straight_line():
    check_twice_differentiable(make(), cluster(seed=2, count=6))
    line = Atoms("SiCSi", [[0, 0, 0], [0, 0, 1.5], [0, 0, 3.1]])
    vectors = torch.tensor([[0, 0, 1.5], [0, 0, 3.1]], dtype=torch.float64, requires_grad=True)
    target = torch.zeros(2, dtype=torch.int64)
    values = make()(torch.tensor([0, 1, 0]), torch.tensor([1, 2]), target, vectors)
    (slope,) = torch.autograd.grad(values.sum(), vectors, create_graph=True)
    (second,) = torch.autograd.grad(slope.square().sum(), vectors)
    assert slope.isfinite().all()
    assert second.isfinite().all()
    assert evaluate(make(), line).isfinite().all()


def test_atoms_without_neighbors_have_zeros():
    values = evaluate(make(), Atoms("Si2", [[0, 0, 0], [0, 0, 50.0]]))
    assert values.shape == (2, len(FUNCTIONS))
    assert not values.any()


def test_constants_are_exact_in_every_dtype():
    descriptor = make()
    before = descriptor.radial_parameters.clone()
    assert descriptor.float().radial_parameters.dtype == torch.float32
    assert torch.equal(descriptor.double().radial_parameters, before)
    assert descriptor.state_dict() == {}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"functions": []}, "no symmetry functions"),
        ({"functions": [["g2", 1.0]]}, r"Expected g2 eta Rs"),
        ({"functions": [["g4", 0.5, 1, 0.1]]}, "zeta from 1"),
        ({"functions": [["g6", 1.0]]}, "Unknown symmetry function 'g6'"),
        ({"cutoffs": {"Si-Si": 4.0}}, "No cutoff is given for Si-C, C-C"),
        ({"cutoffs": CUTOFFS | {"Si-C": 3.0}}, "Si-C is given twice"),
        ({"cutoffs": -1.0}, "positive length"),
        ({"species": ["Si", "Xx"]}, "Unknown species 'Xx'"),
    ],
)
def test_wrong_settings_are_refused_in_one_sentence(changes, message):
    with pytest.raises((ConfigError, UnknownNameError), match=message):
        make(**changes)


def test_kinds_and_arguments_are_suggested():
    with pytest.raises(UnknownNameError, match="did you mean 'SymmetryFunctions'"):
        build_descriptor({"kind": "SymmetryFunction"})
    with pytest.raises(ConfigError, match="did you mean 'cutoffs'"):
        build_descriptor({"kind": "SymmetryFunctions", "species": ["Si"], "cutoff": 4.0})
    with pytest.raises(ConfigError, match="has no kind"):
        build_descriptor({"species": ["Si"]})
    with pytest.raises(ConfigError, match="needs the arguments cutoffs, functions"):
        build_descriptor({"kind": "SymmetryFunctions", "species": ["Si"]})
