"""Constant pressure for many systems at once: isotropic Langevin-Hoover."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from ase import Atoms, units

from adatom.core.errors import ConfigError
from adatom.data.atomic_data import AtomicData
from adatom.simulate.batched.integrator import (
    BatchIntegrator,
    Random,
    common_rows,
    kinetic_energies,
)
from adatom.simulate.batched.rows import Rows, owners
from adatom.simulate.ensembles import NPT, Ensemble

#: What a restart needs, by its name in trajectories.
_STATE = ("p_eps", "force_eps")


class BarostatIntegrator(BatchIntegrator):
    """The dynamics of :class:`adatom.simulate.ensembles.NPT`.

    Quigley and Probert, J. Chem. Phys. 120, 11432 (2004), equations 5 and 6, split as BAOAB
    (Leimkuhler and Matthews, Appl. Math. Res. Express 2013, 34). ``p_eps`` is the momentum of the
    logarithm of the cell's length, ``W`` its mass.
    """

    needs_stress = True

    def rows(
        self,
        atoms: Atoms,
        fixed: torch.Tensor,
        ensemble: Ensemble,
        timestep: float,
        state: Mapping[str, float],
    ) -> Rows:
        """Return momenta and coefficients; see the base class."""
        if not isinstance(ensemble, NPT):
            raise ConfigError(f"The ensemble is {ensemble.name!r}", expected="npt")
        rows = common_rows(atoms, fixed, timestep)
        dt, thermal = timestep * units.fs, units.kB * ensemble.temperature
        friction = ensemble.friction / units.fs
        period = ensemble.barostat_time * units.fs
        mass = (3 * len(atoms) + 3) * thermal * period**2
        numbers = {
            "p_eps": state.get("p_eps", 0.0),
            "force_eps": state.get("force_eps", 0.0),
            "W": mass,
            "time": dt,
            "friction": friction,
            "noise": np.sqrt(thermal * (1.0 - np.exp(-2.0 * friction * dt))),
            "cell_drag": np.exp(-dt / period),
            "cell_noise": np.sqrt(thermal * mass * (1.0 - np.exp(-2.0 * dt / period))),
            "pressure": ensemble.pressure_gpa * units.GPa,
        }
        for name, value in numbers.items():
            rows.by_system[name] = torch.tensor(
                [float(value)], dtype=torch.float64, device=fixed.device
            )
        known = torch.tensor([bool(state)], device=fixed.device)
        rows.by_system["known"] = known
        return rows

    def first_part(
        self,
        rows: Rows,
        systems: AtomicData,
        forces: torch.Tensor,
        randoms: Sequence[Random],
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Push, move, heat, move; see the base class."""
        of, system, owner = rows.by_row, rows.by_system, owners(rows.sizes)
        half = 0.5 * system["time"]
        noise, cell_noise = _noise(rows, randoms)
        p_eps = system["p_eps"] + half * system["force_eps"]
        v = (of["p"] + 0.5 * of["dt"] * forces) / of["mass"]
        grown = torch.exp(half * p_eps / system["W"])
        pos = systems.pos * grown[owner, None] + 0.5 * of["dt"] * v
        drag = system["friction"] + (1.0 + 3.0 / system["freedom"]) * p_eps / system["W"]
        v = v * torch.exp(-drag * system["time"])[owner, None]
        v = v + system["noise"][owner, None] * noise / of["mass"].sqrt()
        p_eps = system["cell_drag"] * p_eps + system["cell_noise"] * cell_noise
        pos = pos + 0.5 * of["dt"] * v
        again = torch.exp(half * p_eps / system["W"])
        of["p"], system["p_eps"] = v * of["mass"], p_eps
        system["moving"] = torch.ones_like(system["moving"])
        return pos * again[owner, None], systems.cell * (grown * again)[:, None, None]

    def second_part(
        self, rows: Rows, systems: AtomicData, forces: torch.Tensor, stress: torch.Tensor | None
    ) -> None:
        """Push atoms and cell by the other half; see the base class."""
        if stress is None:
            raise RuntimeError("Constant pressure needs stress")
        of, system = rows.by_row, rows.by_system
        volume = torch.linalg.det(systems.cell).abs()
        trace = torch.diagonal(stress, dim1=1, dim2=2).sum(1)
        kinetic = (1.0 + 3.0 / system["freedom"]) * 2.0 * kinetic_energies(rows)
        force = kinetic - volume * (trace + 3.0 * system["pressure"])
        moving = system["moving"]
        # A run that is continued has the force from before its last half step.
        system["force_eps"] = torch.where(system["known"] & ~moving, system["force_eps"], force)
        pushed = of["p"] + 0.5 * of["dt"] * forces
        of["p"] = torch.where(moving[owners(rows.sizes)][:, None], pushed, of["p"])
        p_eps = system["p_eps"]
        system["p_eps"] = torch.where(moving, p_eps + 0.5 * system["time"] * force, p_eps)

    def state(self, rows: Rows, i: int) -> dict[str, float]:
        """Return the momentum of the cell and the force on it."""
        return {name: float(rows.by_system[name][i]) for name in _STATE}


def _noise(rows: Rows, randoms: Sequence[Random]) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw the numbers of every system from its own generator, as a run alone would."""
    atoms, cells = [], []
    for size, known in zip(rows.sizes.tolist(), randoms, strict=True):
        if known is None:
            raise RuntimeError("Constant pressure needs random numbers")
        random, step = known
        random.begin_step(step)
        atoms.append(random.generator.standard_normal((size, 3)))
        cells.append(random.generator.standard_normal())
    device = rows.sizes.device
    on_atoms = torch.from_numpy(np.concatenate(atoms)).to(device)
    return on_atoms, torch.tensor(cells, dtype=torch.float64, device=device)
