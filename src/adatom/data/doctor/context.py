"""What all checks look at: the survey of the dataset, and things derived from it once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from adatom.data.atomic_data import AtomicData
from adatom.data.doctor.work import WorkPairs, work_pairs
from adatom.data.element_references import solve_references
from adatom.data.survey import Survey, survey


@dataclass
class Context:
    """Input of every check.

    Attributes:
        systems: The dataset itself, for checks that need positions of a few structures.
        survey: One row per structure.
        others: Surveys of the other splits, by name.
    """

    systems: Sequence[AtomicData]
    survey: Survey
    others: Mapping[str, Survey] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        systems: Sequence[AtomicData],
        others: Mapping[str, Sequence[AtomicData]] | None = None,
        *,
        advance: Callable[[], None] | None = None,
    ) -> Context:
        """Survey ``systems`` and ``others``; ``advance`` is called after each structure."""
        own = survey(systems, advance=advance)
        surveys = {name: survey(split, advance=advance) for name, split in (others or {}).items()}
        return cls(systems, own, surveys)

    @cached_property
    def residual_per_atom(self) -> np.ndarray:
        """``[S]`` eV/atom left after element references, fitted per dataset; NaN if no energy.

        Isolated atoms are left out of the fit where there is anything else: their distance from
        the others is the cohesive energy, not an error.
        """
        columns = self.survey
        residual = np.full(len(columns), np.nan)
        for rows in self.by_dataset():
            known = rows[np.isfinite(columns.energy[rows])]
            bound = known[columns.natoms[known] > 1]
            fitted = bound if len(bound) else known
            if len(fitted) == 0:
                continue
            counts = columns.counts[known].astype(np.float64)
            inside = np.isin(known, fitted)
            table, _ = solve_references(counts[inside], columns.energy[fitted])
            residual[known] = (columns.energy[known] - counts @ table) / columns.natoms[known]
        return residual

    @cached_property
    def work(self) -> WorkPairs:
        """Pairs of neighboring structures with energy differences and the work of their labels."""
        return work_pairs(self.systems, self.survey)

    def by_dataset(self) -> Iterator[np.ndarray]:
        """Yield the row indices of each dataset name."""
        names = np.array(self.survey.dataset)
        for name in sorted(set(self.survey.dataset)):
            yield np.flatnonzero(names == name)
