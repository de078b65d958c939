"""The page of the demo: a relaxation, a thermostatted run, an energy-conserving run."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from adatom.report.page import Page
from adatom.report.plots import lines

Array = NDArray[np.float64]


def relaxation_section(
    page: Page, heading: str, text: str, *, energy: Array, largest_force: Array, fmax: float
) -> None:
    """Show a relaxation.

    Args:
        page: Where to add it.
        heading: Section title.
        text: What was relaxed.
        energy: ``[T]`` eV.
        largest_force: ``[T]`` eV/angstrom.
        fmax: The threshold, eV/angstrom.
    """
    step = np.arange(len(energy), dtype=np.float64)
    page.section(heading, text)
    page.figures(
        [
            (
                lines(
                    {"energy": (step, energy - energy[-1])},
                    xlabel="step",
                    ylabel="energy above the end (eV)",
                ),
                f"Energy falls by {energy[0] - energy[-1]:.3f} eV",
            ),
            (
                lines(
                    {"force": (step, largest_force)},
                    xlabel="step",
                    ylabel="largest force (eV/Å)",
                    log=True,
                    level=fmax,
                ),
                f"Largest force, and the threshold {fmax} eV/Å (dashed)",
            ),
        ]
    )


def temperature_section(
    page: Page,
    heading: str,
    text: str,
    *,
    time: Array,
    temperature: Array,
    target: float,
    distribution: Mapping[str, tuple[Array, Array]],
) -> None:
    """Show a thermostatted run.

    Args:
        page: Where to add it.
        heading: Section title.
        text: What was run.
        time: ``[T]`` ps.
        temperature: ``[T]`` K.
        target: Thermostat temperature in K.
        distribution: Radial distribution functions by name, (r in angstrom, g).
    """
    page.section(heading, text)
    page.figures(
        [
            (
                lines(
                    {"temperature": (time, temperature)},
                    xlabel="time (ps)",
                    ylabel="temperature (K)",
                    level=target,
                ),
                f"Temperature; the thermostat is set to {target:.0f} K (dashed)",
            ),
            (
                lines(distribution, xlabel="distance (Å)", ylabel="g(r)"),
                "Radial distribution function",
            ),
        ]
    )


def conservation_section(
    page: Page,
    heading: str,
    text: str,
    *,
    time: Array,
    energies: Mapping[str, Array],
    num_atoms: int,
) -> None:
    """Show an energy-conserving run.

    Args:
        page: Where to add it.
        heading: Section title.
        text: What was run, with the measured drift.
        time: ``[T]`` ps.
        energies: ``total``, ``potential`` and ``kinetic``, each ``[T]`` eV.
        num_atoms: Atoms in the system.
    """
    scaled = {name: 1000.0 * (e - e[0]) / num_atoms for name, e in energies.items()}
    page.section(heading, text)
    page.figures(
        [
            (
                lines(
                    {"total energy": (time, scaled["total"])},
                    xlabel="time (ps)",
                    ylabel="total energy change (meV/atom)",
                ),
                "Total energy: what must not drift",
            ),
            (
                lines(
                    {name: (time, values) for name, values in scaled.items()},
                    xlabel="time (ps)",
                    ylabel="energy change (meV/atom)",
                ),
                "The same beside the potential and kinetic energy it is made of",
            ),
        ]
    )
