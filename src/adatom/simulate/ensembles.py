"""Ensembles of molecular dynamics, on the integrators of ASE.

Each ensemble is a small frozen record that builds its integrator and knows which numbers, beside
positions and momenta, have to be saved for an exact restart.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
from ase import Atoms, units
from ase.md.langevin import Langevin
from ase.md.verlet import VelocityVerlet

from adatom.core.errors import ConfigError


class Integrator(Protocol):
    """What ASE's integrators have in common here."""

    def step(self) -> Any:
        """Take one step in place."""


class StepRandom:
    """Random numbers that depend on the seed and the step alone, so that a restart repeats them.

    The generator is Philox (Salmon et al., Proc. SC11, 2011), whose counter is set to the step.

    Args:
        seed: Any non-negative number.
    """

    def __init__(self, seed: int) -> None:
        if seed < 0:
            raise ConfigError(f"The seed is {seed}", expected="0 or more")
        self._seed = seed
        self.generator = np.random.Generator(np.random.Philox(key=seed))

    def begin_step(self, step: int) -> None:
        """Continue with the numbers of ``step``."""
        fresh = np.random.Philox(key=self._seed, counter=[0, 0, 0, step + 1])
        self.generator.bit_generator.state = fresh.state


@dataclass(frozen=True, kw_only=True)
class Ensemble(ABC):
    """What is held constant.

    Attributes:
        temperature: In K; where momenta start, and where a thermostat holds them.
    """

    temperature: float

    def __post_init__(self) -> None:
        """Refuse numbers that no integrator can use."""
        for name, value in asdict(self).items():
            negative_allowed = name == "pressure_gpa"
            if not np.isfinite(value) or (value < 0 and not negative_allowed):
                raise ConfigError(f"{name} is {value}", expected="a number of 0 or more")

    @property
    @abstractmethod
    def name(self) -> str:
        """Short name, as on the command line."""

    @abstractmethod
    def integrator(self, atoms: Atoms, timestep: float, random: StepRandom) -> Integrator:
        """Build the integrator.

        Args:
            atoms: With calculator and momenta.
            timestep: In fs.
            random: Where thermostats take their numbers from.
        """

    def state(self, integrator: Integrator) -> dict[str, float]:
        """Return what an exact restart needs beside positions, momenta and cell."""
        del integrator
        return {}

    def restore(self, integrator: Integrator, state: dict[str, float]) -> None:
        """Put :meth:`state` back into a new integrator."""
        del integrator, state

    def settings(self) -> dict[str, Any]:
        """Return the name and all numbers, as plain JSON values."""
        return {"ensemble": self.name, **asdict(self)}


@dataclass(frozen=True, kw_only=True)
class NVE(Ensemble):
    """Constant energy: velocity Verlet.

    Attributes:
        temperature: Of the initial momenta, in K; not used where the structure has momenta.
    """

    temperature: float = 300.0

    @property
    def name(self) -> str:
        """Short name."""
        return "nve"

    def integrator(self, atoms: Atoms, timestep: float, random: StepRandom) -> Integrator:
        """Build the integrator; see the base class."""
        del random
        return VelocityVerlet(atoms, timestep * units.fs)


@dataclass(frozen=True, kw_only=True)
class NVT(Ensemble):
    """Constant volume and temperature: Langevin dynamics.

    Vanden-Eijnden and Ciccotti, Chem. Phys. Lett. 429, 310 (2006), equation 23.

    Attributes:
        temperature: In K.
        friction: In 1/fs.
    """

    temperature: float = 300.0
    friction: float = 0.01

    @property
    def name(self) -> str:
        """Short name."""
        return "nvt"

    def integrator(self, atoms: Atoms, timestep: float, random: StepRandom) -> Integrator:
        """Build the integrator; see the base class."""
        return Langevin(
            atoms,
            timestep * units.fs,
            temperature_K=self.temperature,
            friction=self.friction / units.fs,
            fixcm=False,
            rng=random.generator,
        )


@dataclass(frozen=True, kw_only=True)
class NPT(Ensemble):
    """Constant pressure and temperature: isotropic Langevin-Hoover barostat.

    Quigley and Probert, J. Chem. Phys. 120, 11432 (2004), with the BAOAB splitting. The shape of
    the cell is kept, its volume fluctuates. The mass of the barostat is that of Martyna, Tobias
    and Klein, J. Chem. Phys. 101, 4177 (1994): ``(N_f + 3) kT tau^2``.

    Attributes:
        temperature: In K; above 0.
        pressure_gpa: In GPa; positive compresses.
        friction: Of the atoms, in 1/fs; above 0.
        barostat_time: tau, in fs; above 0.
    """

    temperature: float = 300.0
    pressure_gpa: float = 0.0
    friction: float = 0.01
    barostat_time: float = 1000.0

    #: Momentum of the cell and the force on it (which ASE takes before the last half step).
    _STATE: ClassVar[tuple[str, str]] = ("p_eps", "force_eps")

    @property
    def name(self) -> str:
        """Short name."""
        return "npt"

    def integrator(self, atoms: Atoms, timestep: float, random: StepRandom) -> Integrator:
        """Build the integrator; see the base class.

        Raises:
            ConfigError: If the structure has constraints or no volume, or a number is zero.
        """
        # Imported here because older ASE versions do not have it.
        from ase.md.langevinbaoab import LangevinBAOAB

        self.check(atoms)
        period = self.barostat_time * units.fs
        thermal = units.kB * self.temperature
        return LangevinBAOAB(
            atoms,
            timestep * units.fs,
            temperature_K=self.temperature,
            externalstress=-self.pressure_gpa * units.GPa,
            hydrostatic=True,
            T_tau=units.fs / self.friction,
            P_tau=period,
            P_mass=(3 * len(atoms) + 3) * thermal * period**2,
            rng=random.generator,
        )

    def check(self, atoms: Atoms) -> None:
        """Refuse structures and numbers for which this ensemble does not exist.

        Raises:
            ConfigError: If the structure has constraints or no volume, or a number is zero.
        """
        if atoms.constraints:
            raise ConfigError(
                "The structure has constraints, which constant pressure would not respect",
                fix="Remove them, or use nvt.",
            )
        if atoms.cell.rank < 3 or not all(atoms.pbc):
            raise ConfigError(
                "Constant pressure needs a structure that is periodic in three directions"
            )
        for name in ("temperature", "friction", "barostat_time"):
            if getattr(self, name) == 0:
                raise ConfigError(f"{name} is 0", expected="a positive number")

    def state(self, integrator: Integrator) -> dict[str, float]:
        """Return the momentum of the cell and the force on it."""
        return {name: float(getattr(integrator, name)) for name in self._STATE}

    def restore(self, integrator: Integrator, state: dict[str, float]) -> None:
        """Put :meth:`state` back into a new integrator."""
        for name in self._STATE:
            setattr(integrator, name, state[name])


def thermalize(atoms: Atoms, temperature: float, random: StepRandom) -> None:
    """Draw Maxwell-Boltzmann momenta at exactly ``temperature`` (K), without drift.

    Args:
        atoms: Changed in place; constraints are respected.
        temperature: In K.
        random: Where the numbers come from.
    """
    random.begin_step(-1)
    masses = atoms.get_masses()[:, None]
    noise = random.generator.standard_normal((len(atoms), 3))
    momenta = noise * np.sqrt(masses * units.kB * temperature)
    if len(atoms) > 1 and not atoms.constraints:
        momenta -= masses * momenta.sum(0) / masses.sum()
    atoms.set_momenta(momenta)
    drawn = atoms.get_temperature()
    if drawn > 0:
        atoms.set_momenta(atoms.get_momenta() * np.sqrt(temperature / drawn))
