"""Integrators of many systems at once, each with its own numbers: energy or volume constant."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from ase import Atoms, units

from adatom.data.atomic_data import AtomicData
from adatom.simulate.batched.rows import Rows, dot, owners
from adatom.simulate.ensembles import NVT, Ensemble, StepRandom

#: Generator and step of a system; None where nothing is random.
Random = tuple[StepRandom, int] | None


class BatchIntegrator(ABC):
    """Takes steps of many systems; a force is computed between the two parts of a step.

    Attributes:
        needs_stress: Whether stress is needed at every step.
    """

    needs_stress = False

    @abstractmethod
    def rows(
        self,
        atoms: Atoms,
        fixed: torch.Tensor,
        ensemble: Ensemble,
        timestep: float,
        state: Mapping[str, float],
    ) -> Rows:
        """Return momenta and coefficients of one system.

        Args:
            atoms: With momenta.
            fixed: ``[n]`` bool; atoms that never move.
            ensemble: What is held constant.
            timestep: In fs.
            state: What a run that is continued has beside momenta; else empty.
        """

    @abstractmethod
    def first_part(
        self,
        rows: Rows,
        systems: AtomicData,
        forces: torch.Tensor,
        randoms: Sequence[Random],
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Begin a step of all systems.

        Args:
            rows: Momenta and coefficients; changed in place.
            systems: Where they are.
            forces: ``[N, 3]`` in eV/angstrom.
            randoms: One per system.

        Returns:
            Positions ``[N, 3]``, and cells ``[B, 3, 3]`` or None if they stay.
        """

    @abstractmethod
    def second_part(
        self, rows: Rows, systems: AtomicData, forces: torch.Tensor, stress: torch.Tensor | None
    ) -> None:
        """Finish the step of all systems that are in the middle of one.

        Args:
            rows: Momenta and coefficients; changed in place.
            systems: At the new positions.
            forces: ``[N, 3]`` there.
            stress: ``[B, 3, 3]`` there, in eV/angstrom^3, where it is needed.
        """

    def state(self, rows: Rows, i: int) -> dict[str, float]:
        """Return what an exact restart of a system needs beside momenta."""
        del rows, i
        return {}


class LangevinIntegrator(BatchIntegrator):
    """Velocity Verlet and Langevin dynamics.

    Equation 23 of Vanden-Eijnden and Ciccotti, Chem. Phys. Lett. 429, 310 (2006); without
    friction it is velocity Verlet.
    """

    def rows(
        self,
        atoms: Atoms,
        fixed: torch.Tensor,
        ensemble: Ensemble,
        timestep: float,
        state: Mapping[str, float],
    ) -> Rows:
        """Return momenta and coefficients; see the base class."""
        del state
        rows = common_rows(atoms, fixed, timestep)
        mass, dt = rows.by_row["mass"], timestep * units.fs
        friction = ensemble.friction / units.fs if isinstance(ensemble, NVT) else 0.0
        sigma = torch.sqrt(2.0 * units.kB * ensemble.temperature * friction / mass)
        wide = dt**1.5 * sigma / (2.0 * 3.0**0.5)
        rows.by_row |= {
            "kick": torch.zeros_like(rows.by_row["p"]),
            "push": dt / 2 - dt * dt * friction / 8 + torch.zeros_like(mass),
            "drag": dt * friction / 2 - (dt * friction) ** 2 / 8 + torch.zeros_like(mass),
            "xi": dt**0.5 * sigma / 2 - dt**1.5 * friction * sigma / 8,
            "eta": wide,
            "eta_v": friction / 2 * wide,
        }
        return rows

    def first_part(
        self,
        rows: Rows,
        systems: AtomicData,
        forces: torch.Tensor,
        randoms: Sequence[Random],
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Push the momenta by half a step and move the atoms; see the base class."""
        of = rows.by_row
        v = of["p"] / of["mass"]
        xi, eta = self._noise(rows, randoms)
        of["kick"] = of["xi"] * xi - of["eta_v"] * eta
        v = v + of["push"] * forces / of["mass"] - of["drag"] * v + of["kick"]
        v = v * of["free"]
        of["p"] = v * of["mass"]
        rows.by_system["moving"] = torch.ones_like(rows.by_system["moving"])
        return systems.pos + (of["dt"] * v + of["eta"] * eta) * of["free"], None

    def second_part(
        self, rows: Rows, systems: AtomicData, forces: torch.Tensor, stress: torch.Tensor | None
    ) -> None:
        """Push the momenta by the other half; see the base class."""
        del systems, stress
        of = rows.by_row
        v = of["p"] / of["mass"]
        pushed = v + of["push"] * forces / of["mass"] - of["drag"] * v + of["kick"]
        moving = rows.by_system["moving"][owners(rows.sizes)][:, None]
        of["p"] = torch.where(moving, pushed * of["free"] * of["mass"], of["p"])

    def _noise(self, rows: Rows, randoms: Sequence[Random]) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw the numbers of every system from its own generator, as a run alone would."""
        xis, etas = [], []
        for size, known in zip(rows.sizes.tolist(), randoms, strict=True):
            if known is None:
                xis.append(np.zeros((size, 3)))
                etas.append(np.zeros((size, 3)))
                continue
            random, step = known
            random.begin_step(step)
            xis.append(random.generator.standard_normal((size, 3)))
            etas.append(random.generator.standard_normal((size, 3)))
        both = np.stack([np.concatenate(xis), np.concatenate(etas)])
        found = torch.from_numpy(both).to(rows.sizes.device)
        return found[0], found[1]


def common_rows(atoms: Atoms, fixed: torch.Tensor, timestep: float) -> Rows:
    """Return what every integrator needs of a system: momenta, masses, who is free.

    Args:
        atoms: With momenta.
        fixed: ``[n]`` bool, on the device where the numbers go.
        timestep: In fs.
    """
    device = fixed.device
    mass = torch.tensor(atoms.get_masses(), device=device)[:, None]
    free = (~fixed[:, None]).to(mass.dtype)
    momenta = torch.tensor(atoms.get_momenta(), device=device) * free
    dt = torch.full_like(mass, timestep * units.fs)
    return Rows(
        torch.tensor([len(atoms)], device=device),
        {"p": momenta, "mass": mass, "free": free, "dt": dt},
        {
            "moving": torch.zeros(1, dtype=torch.bool, device=device),
            "freedom": 3.0 * free.sum(0),
        },
    )


def kinetic_energies(rows: Rows) -> torch.Tensor:
    """Return ``[B]`` kinetic energies in eV."""
    of = rows.by_row
    return 0.5 * dot(of["p"], of["p"] / of["mass"], owners(rows.sizes), len(rows.sizes))


def temperatures(rows: Rows) -> torch.Tensor:
    """Return ``[B]`` temperatures in K; 0 where nothing can move."""
    freedom = rows.by_system["freedom"]
    thermal = 2.0 * kinetic_energies(rows) / (freedom * units.kB)
    return torch.where(freedom > 0, thermal, 0.0)
