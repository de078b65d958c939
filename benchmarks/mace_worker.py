"""One measurement of mace-torch with random weights; runs in its environment."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import torch
from ase import Atoms
from ase.calculators.calculator import all_changes
from mace.calculators import MACECalculator
from mace.data.neighborhood import get_neighborhood
from mace.modules import ScaleShiftMACE, interaction_classes

from benchmarks.jobs import Job, serve
from benchmarks.shapes import MACE_SHAPES
from benchmarks.structures import load_structure, moved


def build(shape: dict[str, Any]) -> torch.nn.Module:
    """Return a MACE of the given sizes, float32, the same random weights each time."""
    # After mace, which prepares the environment for e3nn's own files.
    from e3nn.o3 import Irreps

    torch.manual_seed(7)
    elements = shape["elements"]
    interaction = interaction_classes["RealAgnosticResidualInteractionBlock"]
    model: torch.nn.Module = ScaleShiftMACE(
        r_max=shape["cutoff"],
        num_bessel=shape["num_bessel"],
        num_polynomial_cutoff=5,
        max_ell=shape["max_ell"],
        interaction_cls=interaction,
        interaction_cls_first=interaction,
        num_interactions=shape["layers"],
        num_elements=elements,
        hidden_irreps=Irreps(shape["hidden_irreps"]),
        MLP_irreps=Irreps("16x0e"),
        gate=torch.nn.functional.silu,
        atomic_energies=torch.zeros(elements).numpy(),
        avg_num_neighbors=60.0,
        atomic_numbers=list(range(1, elements + 1)),
        correlation=shape["correlation"],
        atomic_inter_scale=1.0,
        atomic_inter_shift=0.0,
    )
    return model


def prepare(calculator: MACECalculator, atoms: Atoms) -> Callable[[int], dict[str, Any]]:
    """Return what one call does: energy, forces and stress through the ASE calculator."""

    def through_calculator(number: int) -> dict[str, Any]:
        calculator.calculate(moved(atoms, number), ["energy", "forces", "stress"], all_changes)
        results = calculator.results
        return {"energy": float(results["energy"]), "forces": results["forces"].tolist()}

    return through_calculator


def main() -> None:
    """Serve one job."""
    job = Job.from_json(sys.argv[1])
    torch.set_num_threads(job.threads)
    shape = MACE_SHAPES[job.mode]
    atoms = load_structure(job.structure)

    def load() -> Callable[[int], dict[str, Any]]:
        calculator = MACECalculator(models=build(shape), device="cpu", default_dtype="float32")
        return prepare(calculator, atoms)

    cell = atoms.cell.array
    senders = get_neighborhood(atoms.positions, shape["cutoff"], tuple(atoms.pbc), cell)[0][0]
    facts = {
        "versions": {"mace-torch": version("mace-torch"), "torch": torch.__version__},
        "atoms": len(atoms),
        "edges": len(senders),
    }
    serve(load, lambda: facts)


if __name__ == "__main__":
    main()
