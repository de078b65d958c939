"""Velocity Verlet and Langevin dynamics of many systems at once, each with its own numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from ase import Atoms, units

from adatom.core.errors import ConfigError
from adatom.simulate.batched.rows import Rows, dot, owners
from adatom.simulate.ensembles import NVE, NVT, Ensemble, StepRandom


def check_ensemble(ensemble: Ensemble) -> None:
    """Refuse ensembles that are not integrated in batches.

    Raises:
        ConfigError: If it is not NVE or NVT.
    """
    if not isinstance(ensemble, (NVE, NVT)):
        raise ConfigError(
            f"The ensemble {ensemble.name!r} is not integrated in batches",
            expected="nve or nvt",
            fix="Run the structures one after the other with run_md.",
        )


def initial_rows(
    atoms: Atoms, fixed: torch.Tensor, ensemble: Ensemble, timestep: float, device: torch.device
) -> Rows:
    """Return momenta and coefficients of one system.

    The integrator is equation 23 of Vanden-Eijnden and Ciccotti, Chem. Phys. Lett. 429, 310
    (2006); without friction it is velocity Verlet.

    Args:
        atoms: With momenta.
        fixed: ``[n]`` bool; atoms that never move.
        ensemble: NVE or NVT.
        timestep: In fs.
        device: Where the numbers go.
    """
    mass = torch.tensor(atoms.get_masses(), device=device)[:, None]
    friction = ensemble.friction / units.fs if isinstance(ensemble, NVT) else 0.0
    dt = timestep * units.fs
    sigma = torch.sqrt(2.0 * units.kB * ensemble.temperature * friction / mass)
    free = (~fixed[:, None]).to(mass.dtype)
    wide = dt**1.5 * sigma / (2.0 * 3.0**0.5)
    columns = {
        "mass": mass,
        "free": free,
        "dt": torch.full_like(mass, dt),
        "push": dt / 2 - dt * dt * friction / 8 + torch.zeros_like(mass),
        "drag": dt * friction / 2 - (dt * friction) ** 2 / 8 + torch.zeros_like(mass),
        "xi": dt**0.5 * sigma / 2 - dt**1.5 * friction * sigma / 8,
        "eta": wide,
        "eta_v": friction / 2 * wide,
    }
    momenta = torch.tensor(atoms.get_momenta(), device=device) * free
    number = torch.tensor([len(atoms)], device=device)
    moving = torch.zeros(1, dtype=torch.bool, device=device)
    freedom = 3.0 * free.sum(0)
    return Rows(
        number,
        {"p": momenta, "kick": torch.zeros_like(momenta), **columns},
        {"moving": moving, "freedom": freedom},
    )


def first_half(
    rows: Rows,
    pos: torch.Tensor,
    forces: torch.Tensor,
    randoms: Sequence[tuple[StepRandom, int] | None],
) -> torch.Tensor:
    """Push the momenta by half a step and return the new positions ``[N, 3]``.

    Args:
        rows: Momenta and coefficients; changed in place.
        pos: ``[N, 3]`` in angstrom.
        forces: ``[N, 3]`` in eV/angstrom.
        randoms: Per system the generator and the step; None where nothing is random.
    """
    of = rows.by_row
    v = of["p"] / of["mass"]
    xi, eta = _noise(rows, randoms)
    of["kick"] = of["xi"] * xi - of["eta_v"] * eta
    v = v + of["push"] * forces / of["mass"] - of["drag"] * v + of["kick"]
    v = v * of["free"]
    of["p"] = v * of["mass"]
    rows.by_system["moving"] = torch.ones_like(rows.by_system["moving"])
    return pos + (of["dt"] * v + of["eta"] * eta) * of["free"]


def second_half(rows: Rows, forces: torch.Tensor) -> None:
    """Finish the step of all systems that are in the middle of one.

    Args:
        rows: Momenta and coefficients; changed in place.
        forces: ``[N, 3]`` at the new positions.
    """
    of = rows.by_row
    v = of["p"] / of["mass"]
    pushed = v + of["push"] * forces / of["mass"] - of["drag"] * v + of["kick"]
    moving = rows.by_system["moving"][owners(rows.sizes)][:, None]
    of["p"] = torch.where(moving, pushed * of["free"] * of["mass"], of["p"])


def temperatures(rows: Rows) -> torch.Tensor:
    """Return ``[B]`` temperatures in K; 0 where nothing can move."""
    of, count = rows.by_row, len(rows.sizes)
    kinetic = 0.5 * dot(of["p"], of["p"] / of["mass"], owners(rows.sizes), count)
    freedom = rows.by_system["freedom"]
    return torch.where(freedom > 0, 2.0 * kinetic / (freedom * units.kB), 0.0)


def _noise(
    rows: Rows, randoms: Sequence[tuple[StepRandom, int] | None]
) -> tuple[torch.Tensor, torch.Tensor]:
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
    device = rows.sizes.device
    both = torch.from_numpy(np.stack([np.concatenate(xis), np.concatenate(etas)])).to(device)
    return both[0], both[1]
