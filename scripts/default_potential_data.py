"""Write the training sets of the embedded potential that need more than a reader's options.

    python scripts/default_potential_data.py

makes ``build/default_potential/``: ethanol at B3LYP, whose archive lists gradients, and adsorption
energies, which are published per adsorbate and become energies of the whole structure.
"""

from __future__ import annotations

import io
import lzma
import zipfile
from collections.abc import Iterator
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms, units
from ase.calculators.singlepoint import SinglePointCalculator

REPOSITORY = Path(__file__).resolve().parent.parent
DATA = REPOSITORY.parent / "shared/data"
TARGET = REPOSITORY / "build/default_potential"
#: Every so many of the 11011 configurations; those between serve as a test.
STRIDE = 10


def main() -> None:
    """Write all files."""
    TARGET.mkdir(parents=True, exist_ok=True)
    configurations = list(ethanol_b3lyp())
    ase.io.write(TARGET / "ethanol_b3lyp_train.extxyz", configurations[::STRIDE])
    ase.io.write(TARGET / "ethanol_b3lyp_test.extxyz", configurations[STRIDE // 2 :: 2 * STRIDE])
    surfaces = list(adsorption())
    # Rhodium is left out, as the set's README suggests for a split by metal.
    known = [atoms for atoms in surfaces if atoms.info["metal"] != "Rh"]
    ase.io.write(TARGET / "xu_kitchin_train.extxyz", known)


def ethanol_b3lyp() -> Iterator[Atoms]:
    """Yield configurations with energies in eV and forces in eV/angstrom."""
    archive = zipfile.ZipFile(DATA / "ethanol_multifidelity/b3lyp_qm22/Ethanol.zip")
    lines = archive.read("Ethanol.xyz").decode().splitlines()
    start = 0
    while start < len(lines) and lines[start].strip():
        count = int(lines[start])
        rows = [line.split() for line in lines[start + 2 : start + 2 + count]]
        values = np.array([row[1:7] for row in rows], dtype=float)
        atoms = Atoms([row[0] for row in rows], positions=values[:, :3])
        atoms.calc = SinglePointCalculator(
            atoms,
            energy=float(lines[start + 1]) * units.Hartree,
            forces=-values[:, 3:] * units.Hartree / units.Bohr,
        )
        yield atoms
        start += 2 + count


def adsorption() -> Iterator[Atoms]:
    """Yield slabs with the adsorption energy of all their adsorbates together."""
    packed = DATA / "xu_kitchin_adsorption/xu_kitchin_2014.extxyz.xz"
    text = lzma.decompress(packed.read_bytes()).decode()
    for atoms in ase.io.read(io.StringIO(text), ":", format="extxyz"):
        per_adsorbate = atoms.info.get("adsorption_energy_per_ads")
        if per_adsorbate is None or not atoms.info.get("n_ads"):
            continue  # a clean slab
        total = float(per_adsorbate) * int(atoms.info["n_ads"])
        atoms.calc = SinglePointCalculator(atoms, energy=total)
        yield atoms


if __name__ == "__main__":
    main()
