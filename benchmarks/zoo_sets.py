"""The two real sets of the model zoo: what is trained on, what is tested on, and the baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from adatom.data.atomic_data import AtomicData
from adatom.data.element_references import solve_references
from adatom.data.open_dataset import open_dataset
from adatom.tasks.metrics import ENERGY_THRESHOLD, FORCE_THRESHOLD
from benchmarks.checkpoints import shared_folder

Array = NDArray[np.float64]

#: Of the seven metals and eight adsorbates, pairs that are not trained on (each metal and nearly
#: each adsorbate once).
HELD_OUT_PAIRS = (
    ("Ag", "O"), ("Au", "Cl"), ("Cu", "N"), ("Ir", "H"), ("Pd", "S"), ("Pt", "F"), ("Rh", "C"),
)  # fmt: skip


@dataclass(frozen=True)
class ZooSet:
    """A task of the zoo and its structures.

    Attributes:
        verb: Of the command line: ``s2ef`` or ``is2re``.
        title: Heading on the page.
        description: What it is, for the page.
        dataset: Its name in the potentials.
        label: ``energy`` or ``relaxed_energy``.
        train: File.
        tests: From the name of each test to its file; errors of the first are plotted.
        losses: By property, as in a configuration; the same for all backbones.
        batch_size: Structures per step.
        backbone: Arguments that all backbones get.
    """

    verb: str
    title: str
    description: str
    dataset: str
    label: str
    train: Path
    tests: Mapping[str, Path]
    losses: Mapping[str, Mapping[str, Any]]
    batch_size: int
    backbone: Mapping[str, Any]

    def read(self, path: Path) -> list[AtomicData]:
        """Return the structures of one of the files, with their labels."""
        labels = ("energy", "forces") if self.label == "energy" else (self.label,)
        systems = open_dataset(path, dataset=self.dataset, required=labels)
        return [systems[i] for i in range(len(systems))]

    def energies(self, systems: Sequence[AtomicData]) -> Array:
        """Return the labels, eV."""
        return np.array([float(system.labels[self.label]) for system in systems])

    def baseline(self, path: Path) -> dict[str, float]:
        """Return the errors on a file of a linear model: element energies, and no forces."""
        train, test = self.read(self.train), self.read(path)
        table, _ = solve_references(_compositions(train), self.energies(train))
        forces = [np.zeros((system.num_atoms, 3)) for system in test]
        return self.errors(test, _compositions(test) @ table, forces)

    def errors(
        self, systems: Sequence[AtomicData], energies: Array, forces: Sequence[Array]
    ) -> dict[str, float]:
        """Compare predictions with labels.

        Args:
            systems: B of them.
            energies: ``[B]`` eV.
            forces: B arrays ``[n, 3]``, eV/angstrom; not used for relaxed energies.

        Returns:
            ``energy_mae`` (meV/atom for energies, eV for relaxed ones) and ``energy_within`` (part
            of all within 0.02 eV), and for S2EF ``forces_mae`` (meV/angstrom, per component),
            ``forces_cosine`` and ``both_within`` (no force component is off by 0.03 eV/angstrom).
        """
        off = np.abs(energies - self.energies(systems))
        within = off < ENERGY_THRESHOLD
        if self.label != "energy":
            return {"energy_mae": float(off.mean()), "energy_within": float(within.mean())}
        atoms = np.array([system.num_atoms for system in systems])
        labels = [system.labels["forces"].numpy() for system in systems]
        worst = [np.abs(p - f).max() for p, f in zip(forces, labels, strict=True)]
        p, f = np.concatenate(forces), np.concatenate(labels)
        lengths = np.linalg.norm(p, axis=1) * np.linalg.norm(f, axis=1)
        return {
            "energy_mae": 1e3 * float((off / atoms).mean()),
            "energy_within": float(within.mean()),
            "forces_mae": 1e3 * float(np.abs(p - f).mean()),
            "forces_cosine": float(((p * f).sum(1) / np.maximum(lengths, 1e-300)).mean()),
            "both_within": float((within & (np.array(worst) < FORCE_THRESHOLD)).mean()),
        }


def s2ef_set(folder: Path) -> ZooSet:
    """Return acetylacetone at 300 K, published split."""
    del folder
    shared = shared_folder() / "data" / "acac"
    return ZooSet(
        verb="s2ef",
        title="S2EF: energies and forces of acetylacetone",
        description="500 structures of molecular dynamics at 300 K (a tenth of them only for the "
        "learning curves), PBE-D3/def2-SVP; tested on the published 650 structures at 300 K, and "
        "on those at 600 K, which reach beyond what was trained on (Batatia et al., "
        "arXiv:2205.06643).",
        dataset="acac",
        label="energy",
        train=shared / "train_300K.xyz",
        tests={"300 K": shared / "test_MD_300K.xyz", "600 K": shared / "test_MD_600K.xyz"},
        # With the usual weight of energies their noise hides the forces from slow learners.
        losses={
            "energy": {"name": "per_atom_mae", "coefficient": 4.0},
            "forces": {"name": "l2norm", "coefficient": 10.0},
        },
        batch_size=8,
        backbone={"cutoff": 5.0},
    )


def is2re_set(folder: Path) -> ZooSet:
    """Return adsorption energies on seven metals, split into files in ``folder``."""
    source = shared_folder() / "data" / "xu_kitchin_adsorption" / "xu_kitchin_2014.extxyz.xz"
    paths = {name: folder / f"{name}.extxyz" for name in ("train", "test", "pairs")}
    if not all(path.exists() for path in paths.values()):
        folder.mkdir(parents=True, exist_ok=True)
        parts = split_adsorbates(list(ase.io.iread(source, ":")))
        for name, path in paths.items():
            ase.io.write(path, parts[name], format="extxyz")
    pairs = ", ".join(f"{adsorbate} on {metal}" for metal, adsorbate in HELD_OUT_PAIRS)
    return ZooSet(
        verb="is2re",
        title="IS2RE: adsorption energies on metal surfaces",
        description="Adsorption energy of all adsorbates of a cell (PBE), from the structure; 7 "
        "metals, 8 adsorbates, 4 sites, 4 coverages (Xu, Kitchin, J. Phys. Chem. C 2014, 118, "
        "25597). Tested on a random tenth of the structures, and on pairs that are not trained on: "
        f"{pairs}.",
        dataset="xu_kitchin",
        label="relaxed_energy",
        train=paths["train"],
        tests={"new structures": paths["test"], "new pairs": paths["pairs"]},
        losses={"relaxed_energy": {"name": "mae"}},
        batch_size=8,
        backbone={"cutoff": 5.0},
    )


def split_adsorbates(frames: Sequence[Atoms]) -> dict[str, list[Atoms]]:
    """Split the labelled structures into ``train``, ``test`` and ``pairs``.

    The label, the energy per adsorbate, becomes the relaxed energy of the whole structure.
    """
    labelled = [frame for frame in frames if frame.info["n_ads"] > 0]
    for frame in labelled:
        per_adsorbate = frame.info["adsorption_energy_per_ads"]
        frame.info["relaxed_energy"] = float(per_adsorbate * frame.info["n_ads"])
    pairs = [frame for frame in labelled if pair_of(frame) in HELD_OUT_PAIRS]
    others = [frame for frame in labelled if pair_of(frame) not in HELD_OUT_PAIRS]
    order = np.random.default_rng(0).permutation(len(others))
    count = len(others) // 10
    return {
        "train": [others[i] for i in sorted(order[count:])],
        "test": [others[i] for i in sorted(order[:count])],
        "pairs": pairs,
    }


def pair_of(frame: Atoms) -> tuple[str, str]:
    """Return metal and adsorbate, from the name: ASE reads a lone F as the truth value false."""
    metal, adsorbate, *_ = frame.info["sid"].split("-")
    return metal, adsorbate


#: By the name of the task.
SETS = {"s2ef": s2ef_set, "is2re": is2re_set}


def _compositions(systems: Sequence[AtomicData]) -> Array:
    counts = [np.bincount(system.atomic_numbers.numpy(), minlength=119) for system in systems]
    return np.stack(counts).astype(float)
