"""Small potentials of descriptor networks with random weights, and structures for them."""

from __future__ import annotations

from typing import Any

import torch
from ase import Atoms

from adatom.data.ase_convert import from_ase
from adatom.data.atomic_data import collate
from adatom.models.descriptor_network import DescriptorNetwork
from adatom.tasks.domain import Domain
from adatom.tasks.potential import Potential
from adatom.tasks.task import Normalizer, OutputSpec, Task

DESCRIPTORS: dict[str, dict[str, Any]] = {
    "SymmetryFunctions": {
        "functions": [
            ["g2", 0.5, 2.0], ["g3", 1.1], ["g1"], ["g4", 2, -1, 0.05], ["g4", 1, 1, 0.02],
            ["g5", 4, 1, 0.1],
        ],
    },
    "Bispectrum": {"jmax": 2.5, "rmin0": 0.2, "bzero_flag": True, "weights": [1.0, 0.7]},
    "SOAP": {"n_max": 3, "l_max": 3, "eta": 0.7},
}  # fmt: skip


def make_potential(
    kind: str,
    species: tuple[str, ...] = ("Si", "C"),
    *,
    same_references: bool = True,
    max_neighbors: int | None = None,
    per_element: bool = False,
    **changes: Any,
) -> Potential:
    """Build one in float64; carbon has a shorter cutoff than silicon."""
    lengths = {"Si-Si": 4.0, "Si-C": 3.6, "C-C": 3.2}
    cutoffs = {
        name: length for name, length in lengths.items() if set(name.split("-")) <= set(species)
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        backbone = DescriptorNetwork(
            {"kind": kind, "species": list(species), "cutoffs": cutoffs}
            | DESCRIPTORS[kind]
            | changes,
            hidden=[8, 6],
            per_element=per_element,
            max_neighbors=max_neighbors,
        )
        head = backbone.default_head()
    references = torch.zeros(119, dtype=torch.float64)
    references[[14, 6]] = torch.tensor([-5.4, -5.4 if same_references else -7.0]).double()
    task = Task(
        name="energy",
        level="system",
        property="energy",
        out_spec=OutputSpec((1,), "float64"),
        normalizer=Normalizer(0.0, 0.7),
        datasets=["default"],
        element_references=references,
    )
    domain = Domain(elements=(6, 14), charges=(0,))
    return Potential(backbone, head, [task], {"default": domain}).double().eval()


def direct(potential: Potential, atoms: Atoms) -> tuple[float, Any]:
    """Return energy and forces of the potential in its cell."""
    data = collate([from_ase(atoms, dataset="default")]).with_edges(potential.cutoff)
    found = potential.denormalize(potential(data, ["energy", "forces"]), data)
    return float(found["energy"].detach()), found["forces"].detach().numpy()
