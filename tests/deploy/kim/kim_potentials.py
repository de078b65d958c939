"""One small potential with random weights per backbone, for silicon and carbon."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from ase import Atoms

from adatom.data.ase_convert import from_ase
from adatom.deploy.kim.results import COLUMNS, ROWS
from adatom.inference.predict_unit import MLIPPredictUnit
from adatom.models.base import Backbone
from adatom.models.dimenet import DimeNetPlusPlus
from adatom.models.egnn import EGNN
from adatom.models.escn_md import eSCNMDBackbone
from adatom.models.gaanet import GAANet
from adatom.models.gcn import GraphConvModel
from adatom.tasks.domain import Domain
from adatom.tasks.potential import Potential
from adatom.tasks.task import Normalizer, OutputSpec, Task

DATASET = "omat"
SMALL_ESCN: dict[str, Any] = {
    "sphere_channels": 4,
    "hidden_channels": 4,
    "edge_channels": 4,
    "num_distance_basis": 4,
    "num_layers": 1,
    "lmax": 1,
    "mmax": 1,
    "cutoff": 3.2,
    "dataset_list": [DATASET],
}


def make_backbone(name: str, **changes: Any) -> Backbone:
    """Return a small network; the same name gives the same weights."""
    small: dict[str, tuple[type[Backbone], dict[str, Any]]] = {
        "gcn": (GraphConvModel, {"num_blocks": 1, "atom_embedding_dim": 8, "out_dim": 6}),
        "egnn": (EGNN, {"hidden_dim": 6, "num_layers": 2, "num_radial": 5}),
        "dimenet": (
            DimeNetPlusPlus,
            {
                "num_blocks": 1,
                "emb_size": 6,
                "out_emb_size": 5,
                "int_emb_size": 4,
                "num_spherical": 3,
                "num_radial": 4,
            },
        ),
        "gaanet": (GAANet, {"hidden_dim": 5, "depth": 0}),
        "escn": (eSCNMDBackbone, SMALL_ESCN),
        "uma": (eSCNMDBackbone, {**SMALL_ESCN, "num_experts": 3}),
    }
    cls, arguments = small[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        return cls(**{"cutoff": 3.2, **arguments, **changes})


def make_potential(name: str, *, mean: float = 0.0, **changes: Any) -> Potential:
    """Return a potential in float64 with element references and a scale."""
    backbone = make_backbone(name, **changes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(12)
        head = backbone.default_head()
    references = torch.zeros(100, dtype=torch.float64)
    references[6], references[14] = -7.5, -4.25
    task = Task(
        "energy",
        "system",
        "energy",
        OutputSpec((1,)),
        Normalizer(mean, 1.7),
        [DATASET],
        element_references=references,
    )
    domain = Domain((6, 14), charges=(0,), spins=(0,))
    return Potential(backbone, head, [task], {DATASET: domain}).double()


class Native:
    """What a potential gives in the cell itself, without ghosts or stages."""

    def __init__(self, potential: Potential, dtype: torch.dtype = torch.float64) -> None:
        self.unit = MLIPPredictUnit(potential, "traineval", dtype=dtype)

    def __call__(self, atoms: Atoms) -> dict[str, Any]:
        names = ["energy", "energies", "forces", "virials"]
        found = self.unit.predict(from_ase(atoms, dataset=DATASET, label_keys={}), names)
        values = {name: found[name].double().numpy() for name in names}
        values["virials"] = values["virials"][:, ROWS, COLUMNS]
        values["energy"] = float(values["energy"][0])
        volume = abs(np.linalg.det(atoms.cell.array))
        values["stress"] = values["virials"].sum(axis=0) / volume if volume else None
        return values
