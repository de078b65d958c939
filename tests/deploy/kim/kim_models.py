"""The models that acceptance tests run on: toys, Stillinger-Weber, `default` and the backbones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from _pytest.mark import ParameterSet
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator
from kim_backbones import BACKBONES, COMPOSITIONS, potential_of
from kim_silicon import SI_SW, StillingerWeber, silicon_description
from kim_systems import named_systems, silicon_carbide
from kim_toys import GraphToy, RawToy, description
from toy_calculator import ToyCalculator

from adatom.calculators.ase_calculator import MLIPCalculator
from adatom.cli import main as cli
from adatom.deploy.kim.export import ExportOptions, export_potential
from adatom.deploy.kim.model_install import install_model
from adatom.deploy.kim.portable_model import write_portable_model
from adatom.deploy.kim.scripted_model import save_torchscript
from adatom.inference.predict_unit import MLIPPredictUnit

TOYS = ("raw", "graph")
#: Every model, the cheap ones first.
MODELS = (*TOYS, "silicon", *BACKBONES, "default")


def parameters(fast: Sequence[str] = TOYS) -> list[ParameterSet]:
    """Return all models as parameters of a test, those slow that are not named."""
    return [pytest.param(each, marks=() if each in fast else pytest.mark.slow) for each in MODELS]


@dataclass(frozen=True)
class Candidate:
    """An installed model and what gives the same numbers in the cell, without ghosts and lists.

    Attributes:
        name: KIM's name of the portable model.
        folder: What it was installed from.
        native: The potential as a calculator that knows nothing of KIM.
        elements: In the order of LAMMPS's types of atoms.
        composition: Whether its weights are for one composition only.
    """

    label: str
    name: str
    folder: Path
    native: Calculator
    elements: tuple[str, ...]
    composition: bool = False

    @property
    def temperature(self) -> float:
        """In K: with random weights atoms may meet, where DimeNet++ has a pole."""
        return 100.0 if self.label == "dimenet" else 600.0

    @property
    def timestep(self) -> float:
        """In ps: atoms of the raw toy fall into its wells and are fast."""
        return 0.0001 if self.label == "raw" else 0.0005

    def crystal(self, repeat: int | None = None, *, seed: int = 5) -> Atoms:
        """Return rattled silicon or silicon carbide, 8 atoms per repeated cell.

        Args:
            repeat: Cells in each direction; None takes what the model is fast enough for.
            seed: Of the displacements.
        """
        count = repeat or (1 if self.label in ("default", "uma") else 2)
        if self.elements != ("Si",):
            return silicon_carbide(count, seed=seed)
        atoms = bulk("Si", cubic=True) * (count, count, count)
        atoms.rattle(0.08, seed=seed)
        return atoms

    def small(self) -> Atoms:
        """Return two atoms in a box that is shorter than the cutoff of every model."""
        return Atoms(
            [self.elements[0], self.elements[-1]],
            [[0, 0, 0], [1.2, 1.3, 1.4]],
            cell=[2.45, 2.55, 2.65],
            pbc=True,
        )

    def structures(self) -> dict[str, Atoms]:
        """Return what goes wrong most easily, of the right elements and composition."""
        if self.elements == ("Si",):
            return self._silicon()
        # Native potentials answer isolated atoms from a table.
        return {
            label: atoms
            for label, atoms in named_systems().items()
            if label not in ("one atom", "chain")
            and (not self.composition or 2 * list(atoms.symbols).count("Si") == len(atoms))
        }

    def _silicon(self) -> dict[str, Atoms]:
        slab, cluster = bulk("Si", cubic=True) * (1, 1, 2), bulk("Si", cubic=True)
        slab.rattle(0.08, seed=2)
        cluster.rattle(0.08, seed=2)
        slab.pbc = (True, True, False)
        slab.cell[2] *= 2
        cluster.pbc = False
        return {
            "bulk": self.crystal(1, seed=2),
            "primitive cell": bulk("Si"),
            "slab": slab,
            "cluster": cluster,
            "small": self.small(),
        }

    def dimer(self) -> Atoms:
        """Return two atoms in one half of a long box."""
        return Atoms(
            [self.elements[0], self.elements[-1]],
            [[1, 1, 1], [1, 2.1, 2.3]],
            cell=[60, 20, 20],
            pbc=True,
        )


def make_model(label: str, folder: Path) -> Candidate:
    """Write a model into a folder and install it into the collection of the tests."""
    name = f"Every_{label}__MO_8000000000{MODELS.index(label):02d}_000"
    return _MAKERS.get(label, _backbone)(label, name, folder / name)


def _toy(label: str, name: str, folder: Path) -> Candidate:
    model = {"raw": RawToy, "graph": GraphToy, "silicon": lambda: StillingerWeber(SI_SW)}[label]()
    about = (
        silicon_description(model, name)
        if isinstance(model, StillingerWeber)
        else description(model, name=name)
    )
    folder.parent.mkdir(exist_ok=True)
    network = save_torchscript(model, folder.parent / "network.pt")
    install_model(write_portable_model(folder, about, network, provenance={}), "environment")
    return Candidate(label, name, folder, ToyCalculator(model), about.species)


def _backbone(label: str, name: str, folder: Path) -> Candidate:
    potential = potential_of(label)
    composition = COMPOSITIONS.get(label)
    options = ExportOptions(
        name=name, species=() if composition else ("C", "Si"), composition=composition
    )
    install_model(export_potential(potential, options, folder, provenance={}).folder, "environment")
    native = MLIPCalculator(MLIPPredictUnit(potential, "traineval"))
    return Candidate(label, name, folder, native, ("C", "Si"), composition is not None)


def _default(label: str, name: str, folder: Path) -> Candidate:
    """Export the embedded potential by the command line, in float64, and install it."""
    export = ["export", "kim", "default", "--name", name, "--task", "zuo2020"]
    export += ["--composition", "Si", "--dtype", "float64", "--output", str(folder)]
    for command in (export, ["kim", "install", str(folder), "--collection", "environment"]):
        if cli.main(command) != cli.OK:
            raise RuntimeError(f"adatom {' '.join(command)} failed")
    unit = MLIPPredictUnit.load("default", "traineval", dtype=torch.float64)
    return Candidate(
        label, name, folder, MLIPCalculator(unit, "zuo2020"), ("Si",), composition=True
    )


_MAKERS: dict[str, Callable[[str, str, Path], Candidate]] = {
    **dict.fromkeys((*TOYS, "silicon"), _toy),
    "default": _default,
}
