"""A tiny checkpoint that other processes can load."""

from __future__ import annotations

from adatom.checkpoint.format import save_potential
from adatom.core.precision import seeded
from adatom.models.energy_head import EnergyHead
from adatom.models.escn_md import eSCNMDBackbone
from adatom.tasks.domain import Domain
from adatom.tasks.potential import Potential
from adatom.tasks.task import Normalizer, OutputSpec, Task


def save_tiny(path, seed=3):
    """Write an untrained potential for H, C, O, Si and Cu; return the path as text."""
    with seeded(seed):
        backbone = eSCNMDBackbone(
            sphere_channels=4,
            hidden_channels=4,
            edge_channels=4,
            num_distance_basis=4,
            num_layers=1,
            lmax=1,
            mmax=1,
            cutoff=3.0,
            dataset_list=["omat"],
        )
        head = EnergyHead(4, 4)
    spec = OutputSpec((1,))
    task = Task("omat_energy", "system", "energy", spec, Normalizer(0.0, 0.1), ["omat"])
    domain = Domain((1, 6, 8, 14, 29), charges=(0,), spins=(0,))
    save_potential(Potential(backbone, head, [task], {"omat": domain}), path)
    return str(path)
