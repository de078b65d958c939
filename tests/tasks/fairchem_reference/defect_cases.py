"""Small batches on which fairchem's functions are wrong, as plain numpy, for both packages."""

from __future__ import annotations

from typing import Any

import numpy as np
from random_cases import Case, RandomTask, Structure

NAN = np.nan


def _task(prop: str, loss: str, reduction: str = "mean", name: str | None = None) -> RandomTask:
    return RandomTask(
        name=name or f"one_{prop}",
        property=prop,
        datasets=["one"],
        mean=0.0,
        rmsd=1.0,
        loss=loss,
        reduction=reduction,
        coefficient=1.0,
        delta=1.0,
        train_on_free_atoms=True,
        eval_on_free_atoms=True,
        references=None,
    )


def _structure(
    prop: str, prediction: Any, label: Any = None, fixed: list[bool] | None = None, natoms: int = 0
) -> Structure:
    values = np.array(prediction, dtype=float)
    natoms = len(values) if prop == "forces" else natoms or 1
    return Structure(
        dataset="one",
        numbers=np.ones(natoms, dtype=int),
        fixed=np.array(fixed or [False] * natoms),
        labels={prop: np.zeros_like(values) if label is None else np.array(label, dtype=float)},
        predictions={prop: values},
    )


def _energies(errors: list[float], natoms: list[int]) -> list[Structure]:
    return [_structure("energy", error, natoms=n) for error, n in zip(errors, natoms, strict=True)]


def _stresses(errors: list[float]) -> list[Structure]:
    """Return systems with labels of zero; the last one has none."""
    systems = [_structure("stress", np.full((3, 3), error)) for error in errors]
    systems[-1].labels["stress"][:] = NAN
    return systems


def defect_cases() -> dict[str, Case]:
    """Return one batch by defect; labels are zero unless they are missing."""
    forces = [[3.0, 4.0, 0.0], [0.0, 0.0, 1.0]]
    three = [[1.0, 5.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 4.0]]
    missing = [[0.0, 0.0, 0.0], [NAN, NAN, NAN]]
    energies = _energies([1.0, 1.0, 1.0], [1, 2, 3])
    batches: dict[str, tuple[list[Structure], RandomTask]] = {
        "rmse of forces": ([_structure("forces", forces)], _task("forces", "l2norm")),
        "rmse of energies": (energies, _task("energy", "mae")),
        "mae loss of forces": ([_structure("forces", forces)], _task("forces", "mae")),
        "mse loss of forces": ([_structure("forces", forces)], _task("forces", "mse")),
        "mae loss of three forces": (
            [_structure("forces", three, fixed=[True, False, False])],
            _task("forces", "mae"),
        ),
        "l2norm loss of two stresses": (_stresses([1.0, 2.0]), _task("stress", "l2norm")),
        "l2norm loss of nine stresses": (_stresses([*[1.0] * 8, 2.0]), _task("stress", "l2norm")),
        "energies per structure": (energies, _task("energy", "mae", "per_structure")),
        "an exact structure": (
            [_structure("forces", [[0.0, 0.0, 0.0]]), _structure("forces", [[0.0, 3.0, 4.0]])],
            _task("forces", "l2norm", "per_structure"),
        ),
        "a broken prediction without a label": (
            [_structure("forces", [[3.0, 4.0, 0.0], [NAN, NAN, NAN]], missing)],
            _task("forces", "l2norm"),
        ),
        "a broken prediction": (
            [_structure("forces", [[NAN, 4.0, 0.0]])],
            _task("forces", "l2norm"),
        ),
        "an infinite prediction": (
            [_structure("forces", [[np.inf, 4.0, 0.0]])],
            _task("forces", "l2norm"),
        ),
        "a force without direction": (
            [_structure("forces", [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]], [[0, 0, 0], [1, 0, 0]])],
            _task("forces", "l2norm"),
        ),
        "forces under another name": (
            [_structure("forces", [*forces, [9.0, 9.0, 9.0]], [*missing, [0, NAN, 0]])],
            _task("forces", "l2norm", name="one_gradient"),
        ),
    }
    return {name: Case(systems, [task], "one") for name, (systems, task) in batches.items()}
