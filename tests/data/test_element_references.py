"""Element references against references that are known exactly."""

from __future__ import annotations

import pytest
import torch

from adatom.core.errors import DataError, MissingLabelError
from adatom.data.atomic_data import AtomicData, collate
from adatom.data.element_references import fit_element_references


def make(numbers: list[int], energy: float | None, sid: str = "s0") -> AtomicData:
    n = len(numbers)
    labels = {}
    if energy is not None:
        labels["energy"] = torch.tensor([energy], dtype=torch.float64)
    return AtomicData(
        pos=torch.arange(3 * n, dtype=torch.float64).reshape(n, 3),
        atomic_numbers=torch.tensor(numbers),
        cell=torch.zeros(1, 3, 3, dtype=torch.float64),
        pbc=torch.zeros(1, 3, dtype=torch.bool),
        natoms=torch.tensor([n]),
        batch=torch.zeros(n, dtype=torch.int64),
        charge=torch.zeros(1, dtype=torch.int64),
        spin=torch.zeros(1, dtype=torch.int64),
        dataset=["default"],
        tags=torch.zeros(n, dtype=torch.int64),
        fixed=torch.zeros(n, dtype=torch.bool),
        sid=[sid],
        labels=labels,
    )


def test_exact_references_are_found_with_all_electron_energies() -> None:
    truth = {1: -13.5684, 6: -1026.8539, 8: -2037.7969}
    molecules = [[1, 1, 8], [6, 8, 8], [6, 1, 1, 1, 1], [6, 1, 1, 8], [1, 1, 8]]
    systems = [make(z, sum(truth[i] for i in z)) for z in molecules]
    fit = fit_element_references(systems)
    assert fit.table.shape == (119,)
    assert fit.table.dtype == torch.float64
    assert fit.elements == (1, 6, 8)
    assert fit.is_unique
    for z, energy in truth.items():
        assert float(fit.table[z]) == pytest.approx(energy, abs=1e-9)
    assert fit.table.count_nonzero() == 3
    assert fit.rmse_per_atom < 1e-9
    assert fit.num_systems == 5


def test_one_composition_gives_minimum_norm_and_the_mean_energy() -> None:
    systems = [make([1, 1, 8], -10.0), make([1, 1, 8], -13.0)]
    fit = fit_element_references(systems)
    assert not fit.is_unique
    # Minimum norm along the composition vector (2, 1): e = mean * (2, 1) / 5.
    assert float(fit.table[1]) == pytest.approx(-11.5 * 2 / 5)
    assert float(fit.table[8]) == pytest.approx(-11.5 / 5)
    assert fit.rmse_per_atom == pytest.approx(0.5)
    assert fit.mae_per_atom == pytest.approx(0.5)


def test_repeated_compositions_weigh_as_often_as_they_occur() -> None:
    systems = [make([14], -4.0), make([14], -4.0), make([14, 14], -11.0)]
    fit = fit_element_references(systems)
    assert float(fit.table[14]) == pytest.approx((4.0 * -1 * 2 + 2 * -11.0) / (1 + 1 + 4))


def test_batches_count_as_their_systems_and_unlabelled_ones_do_not_enter() -> None:
    parts = [make([1, 1], -30.0, "a"), make([8, 8], None, "b"), make([8], -7.0, "c")]
    single, batched = fit_element_references(parts), fit_element_references([collate(parts)])
    assert torch.equal(single.table, batched.table)
    assert single.num_systems == 2
    assert float(single.table[1]) == pytest.approx(-15.0)


def test_missing_and_bad_energies_are_errors_that_name_the_structure() -> None:
    with pytest.raises(MissingLabelError, match="energy"):
        fit_element_references([make([1], None)])
    with pytest.raises(DataError, match="frame-7"):
        fit_element_references([make([1], float("nan"), "frame-7")])
    with pytest.raises(DataError, match="atomic number 119"):
        fit_element_references([make([119], -1.0)])
