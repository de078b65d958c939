import numpy as np
import pytest
import torch
from ase import units
from ase.stress import full_3x3_to_voigt_6_stress, voigt_6_to_full_3x3_stress

from adatom.core.errors import AdatomError, DataError
from adatom.core.units import (
    energy_factor,
    force_factor,
    length_factor,
    matrix_to_voigt,
    stress_factor,
    voigt_to_matrix,
)


@pytest.mark.parametrize(
    ("factor", "unit", "expected"),
    [
        (energy_factor, "eV", 1.0),
        (energy_factor, "Ha", 27.211386024367243),
        (energy_factor, "kcal/mol", 0.04336410390059322),
        (energy_factor, "Ry", 27.211386024367243 / 2),
        (length_factor, "Bohr", 0.5291772105638411),
        (length_factor, "nm", 10.0),
        (force_factor, "Ha/Bohr", 51.42206707),
        (force_factor, "kcal/mol/A", 0.04336410390059322),
        (force_factor, "eV/nm", 0.1),
        (stress_factor, "GPa", 1 / 160.21766208),
        (stress_factor, "kbar", 0.1 / 160.21766208),
        (stress_factor, "atm", 101325e-9 / 160.21766208),
        (stress_factor, "Ha/Bohr^3", 29421.015697 / 160.21766208),
    ],
)
def test_factor(factor, unit, expected):
    assert factor(unit) == pytest.approx(expected, rel=1e-7)


def test_agrees_with_ase():
    assert stress_factor("GPa") == units.GPa
    assert stress_factor("bar") == units.bar
    assert energy_factor("kJ/mol") == units.kJ / units.mol


@pytest.mark.parametrize(
    ("factor", "unit", "nearest"),
    [(energy_factor, "MeV", "meV"), (length_factor, "Angstroms", "Angstrom")],
)
def test_unknown_unit_names_the_nearest(factor, unit, nearest):
    with pytest.raises(AdatomError, match=nearest):
        factor(unit)


@pytest.mark.parametrize("shape", [(), (4,), (2, 3)])
def test_voigt_agrees_with_ase_and_returns(shape):
    voigt = np.random.default_rng(0).normal(size=(*shape, 6))
    matrix = voigt_to_matrix(voigt)
    assert matrix.shape == (*shape, 3, 3)
    assert np.array_equal(matrix, voigt_6_to_full_3x3_stress(voigt))
    assert np.array_equal(matrix_to_voigt(matrix), voigt)
    tensor = torch.from_numpy(voigt)
    assert np.array_equal(voigt_to_matrix(tensor).numpy(), matrix)
    assert torch.equal(matrix_to_voigt(voigt_to_matrix(tensor)), tensor)


def test_unsymmetric_matrix_is_averaged_as_ase_does():
    matrix = np.random.default_rng(1).normal(size=(3, 3))
    assert np.allclose(matrix_to_voigt(matrix), full_3x3_to_voigt_6_stress(matrix), atol=1e-15)


def test_voigt_is_differentiable():
    voigt = torch.randn(6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: matrix_to_voigt(voigt_to_matrix(v)), voigt)


def test_wrong_shapes_are_refused():
    with pytest.raises(DataError, match="length 6"):
        voigt_to_matrix(np.zeros((3, 3)))
    with pytest.raises(DataError, match="3 by 3"):
        matrix_to_voigt(np.zeros(6))
    with pytest.raises(DataError, match="length 6"):
        voigt_to_matrix(torch.tensor(1.0))
