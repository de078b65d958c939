"""The checks, in the order of the report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from adatom.evaluate.verification.dimer_continuity import check_dimers
from adatom.evaluate.verification.inversion import check_inversion
from adatom.evaluate.verification.memory_use import check_memory
from adatom.evaluate.verification.numerical_forces import check_forces
from adatom.evaluate.verification.objectivity import check_objectivity
from adatom.evaluate.verification.periodicity import check_periodicity
from adatom.evaluate.verification.permutation import check_permutation
from adatom.evaluate.verification.records import Category, Finding
from adatom.evaluate.verification.species_support import check_species
from adatom.evaluate.verification.subject import Subject
from adatom.evaluate.verification.thread_safety import check_threads
from adatom.evaluate.verification.unit_systems import check_units


@dataclass(frozen=True)
class Check:
    """One check: what a failure means, and the function that looks."""

    category: Category
    look: Callable[[Subject, np.random.Generator], Finding]


CHECKS: dict[str, Check] = {
    "species": Check("mandatory", check_species),
    "periodicity": Check("mandatory", check_periodicity),
    "permutation": Check("mandatory", check_permutation),
    "forces": Check("consistency", check_forces),
    "dimers": Check("informational", check_dimers),
    "objectivity": Check("informational", check_objectivity),
    "inversion": Check("informational", check_inversion),
    "memory": Check("informational", check_memory),
    "threads": Check("mandatory", check_threads),
    "units": Check("mandatory", check_units),
}
