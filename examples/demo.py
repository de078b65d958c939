"""From a structure to dynamics and a report, with the potential that comes with adatom.

Run it with `make demo`, or `python examples/demo.py --output demo`. Nothing is downloaded.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms

from adatom import MLIPCalculator, relax, run_md
from adatom.core.console import say
from adatom.evaluate.dynamics import energy_conservation, radial_distribution
from adatom.report.dynamics_page import (
    conservation_section,
    relaxation_section,
    temperature_section,
)
from adatom.report.page import Page
from adatom.simulate.ensembles import NVE, NVT
from adatom.simulate.md import MDResult

STRUCTURES = Path(__file__).parent / "structures"
TEMPERATURE = 300.0
#: The structures are small: a second thread would only wait for the first.
SETTINGS = {"torch_num_threads": 1}
#: Silicon is heavy and stiff enough for 2 fs.
TIMESTEP = 2.0
FMAX = 0.02


def main() -> None:
    """Relax copper, run silicon, write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("demo"), help="folder to write to")
    parser.add_argument("--nvt-steps", type=int, default=1000, help="2 fs each (default: 2 ps)")
    parser.add_argument("--nve-steps", type=int, default=5000, help="2 fs each (default: 10 ps)")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)

    copper = frames_of(STRUCTURES / "copper_vacancy_107.extxyz")[0]
    silicon = frames_of(STRUCTURES / "silicon_64_300K.extxyz")[0]
    page = Page(
        "From data to dynamics",
        "Relaxation and molecular dynamics with the potential that comes with adatom",
    )
    sections = Page("")
    add_relaxation(sections, copper, options.output)
    warm = add_thermostat(sections, silicon, options.output, options.nvt_steps)
    drift, length = add_conservation(sections, warm, options.output, options.nve_steps)
    page.cards(
        [
            (f"energy drift over {length} at constant energy", f"{drift:+.3f}", "meV/atom"),
            ("force error on the silicon start, against DFT", force_error(silicon), "meV/Å"),
            ("force error on the copper start, against DFT", force_error(copper), "meV/Å"),
            ("speed, 64 silicon atoms", f"{warm.steps_per_second:.0f}", "steps/s"),
        ]
    )
    page.append(sections)

    target = options.output / "report.html"
    page.write(target, "Written by examples/demo.py; structures: Zuo et al. 2020 (BSD-3-Clause).")
    say(f"Energy drift: {drift:+.3f} meV/atom over {length}.")
    say(f"Open {target.resolve()} in a browser.")


def force_error(labelled: Atoms) -> str:
    """Return the RMSE of the force components of a labelled structure in meV/angstrom."""
    atoms = labelled.copy()
    atoms.calc = MLIPCalculator("default", task_name="zuo2020", inference_settings=SETTINGS)
    error = atoms.get_forces() - labelled.get_forces()
    return f"{1000 * np.sqrt((error**2).mean()):.0f}"


def frames_of(path: Path) -> list[Atoms]:
    """Read all frames of a file."""
    return list(ase.io.iread(path, ":"))


def require_complete(stopped_by: str | None) -> None:
    """End the demo if a signal ended a run early; a page about half a run would mislead."""
    if stopped_by is not None:
        raise SystemExit(f"Stopped by {stopped_by}; no report was written.")


def add_relaxation(page: Page, copper: Atoms, output: Path) -> None:
    """Relax a copper vacancy from a snapshot of hot atoms."""
    say("1/3  Relaxing 107 copper atoms around a vacancy")
    trajectory = output / "relax.traj"
    calculator = MLIPCalculator("default", task_name="zuo2020", inference_settings=SETTINGS)
    result = relax(copper, calculator, fmax=FMAX, trajectory=trajectory, show_progress=True)
    require_complete(result.stopped_by)
    frames = frames_of(trajectory)
    largest = np.array([np.linalg.norm(a.get_forces(), axis=1).max() for a in frames])
    outcome = "converged" if result.converged else "not converged"
    relaxation_section(
        page,
        "Relaxation: copper with a vacancy",
        f"A snapshot of dynamics at 300 K, 107 atoms, relaxed with LBFGS: {outcome} after "
        f"{result.steps} steps, largest force {result.max_force:.3f} eV/Å.",
        energy=np.array(result.energies),
        largest_force=largest,
        fmax=FMAX,
    )


def add_thermostat(page: Page, silicon: Atoms, output: Path, steps: int) -> MDResult:
    """Run silicon at constant temperature and average its structure."""
    say(f"2/3  Running 64 silicon atoms at {TEMPERATURE:g} K (NVT)")
    trajectory = output / "nvt.traj"
    result = run_md(
        silicon,
        MLIPCalculator("default", task_name="zuo2020", inference_settings=SETTINGS),
        ensemble=NVT(temperature=TEMPERATURE),
        steps=steps,
        timestep=TIMESTEP,
        trajectory=trajectory,
        log=output / "nvt.csv",
        overwrite=True,
        show_progress=True,
    )
    require_complete(result.stopped_by)
    rows = result.log
    frames = frames_of(trajectory)
    settled = frames[len(frames) // 2 :]
    mean = np.mean([row.temperature_K for row in rows[len(rows) // 2 :]])
    temperature_section(
        page,
        "Constant temperature: silicon",
        f"64 atoms, Langevin thermostat, {steps * TIMESTEP / 1000:g} ps in steps of {TIMESTEP:g} "
        f"fs at {result.steps_per_second:.0f} steps/s ({result.ns_per_day:.2f} ns/day). Mean "
        f"temperature of the second half: {mean:.0f} K.",
        time=np.array([row.time_fs for row in rows]) / 1000.0,
        temperature=np.array([row.temperature_K for row in rows]),
        target=TEMPERATURE,
        distribution={"Si-Si": radial_distribution(settled, cutoff=5.4)},
    )
    return result


def add_conservation(page: Page, start: MDResult, output: Path, steps: int) -> tuple[float, str]:
    """Go on without the thermostat; return the drift in meV per atom and the length of the run."""
    say("3/3  The same atoms without a thermostat (NVE)")
    result = run_md(
        start.atoms,
        start.atoms.calc,
        ensemble=NVE(temperature=TEMPERATURE),
        steps=steps,
        timestep=TIMESTEP,
        log=output / "nve.csv",
        overwrite=True,
        show_progress=True,
    )
    require_complete(result.stopped_by)
    rows, count = result.log, len(start.atoms)
    total = np.array([row.total_energy_eV for row in rows])
    found = energy_conservation(total, count)
    time = np.array([row.time_fs for row in rows]) / 1000.0
    conservation_section(
        page,
        "Energy conservation: the same silicon without a thermostat",
        f"Over {time[-1]:g} ps at about {np.mean([r.temperature_K for r in rows]):.0f} K the "
        f"total energy drifts by {found.drift:+.3f} meV/atom and fluctuates by "
        f"{found.fluctuation:.3f} meV/atom; it never leaves its first value by more than "
        f"{found.largest:.3f} meV/atom.",
        time=time,
        energies={
            "total": total,
            "potential": np.array([row.potential_energy_eV for row in rows]),
            "kinetic": np.array([row.kinetic_energy_eV for row in rows]),
        },
        num_atoms=count,
    )
    return found.drift, f"{time[-1]:g} ps"


if __name__ == "__main__":
    main()
