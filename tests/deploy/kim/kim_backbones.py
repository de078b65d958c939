"""One tiny untrained potential per backbone, for silicon and carbon."""

from __future__ import annotations

from collections.abc import Callable

from adatom.core.precision import seeded
from adatom.models.base import Backbone
from adatom.models.dimenet import DimeNetPlusPlus
from adatom.models.egnn import EGNN
from adatom.models.energy_head import EnergyHead
from adatom.models.escn_md import eSCNMDBackbone
from adatom.models.gaanet import GAANet
from adatom.models.gcn import GraphConvModel
from adatom.tasks.domain import Domain
from adatom.tasks.potential import Potential
from adatom.tasks.task import Normalizer, OutputSpec, Task

CUTOFF = 3.2


def escn(**changes: object) -> Backbone:
    sizes = {"sphere_channels": 8, "hidden_channels": 8, "edge_channels": 8}
    return eSCNMDBackbone(
        **(sizes | {"num_distance_basis": 8, "num_layers": 2, "lmax": 2, "mmax": 1} | changes),
        cutoff=CUTOFF,
        dataset_list=["toy"],
    )


#: Name to backbone; UMA is an eSCN-MD with experts, merged for a composition.
BACKBONES: dict[str, Callable[[], Backbone]] = {
    "escn_md": escn,
    "uma": lambda: escn(num_experts=4),
    "dimenet": lambda: DimeNetPlusPlus(
        cutoff=CUTOFF, num_blocks=1, emb_size=8, out_emb_size=8, int_emb_size=4,
        num_spherical=3, num_radial=4,
    ),
    "egnn": lambda: EGNN(cutoff=CUTOFF, hidden_dim=8, num_layers=2),
    "gaanet": lambda: GAANet(cutoff=2.7, hidden_dim=4, depth=1),
    "gcn": lambda: GraphConvModel(cutoff=CUTOFF, atom_embedding_dim=8, out_dim=4, num_blocks=2),
}  # fmt: skip
#: What the weights of one are merged for.
COMPOSITIONS = {"uma": "SiC"}


def potential_of(name: str) -> Potential:
    """Return the potential of a backbone, in float64."""
    with seeded(5):
        backbone = BACKBONES[name]()
        escn_like = isinstance(backbone, eSCNMDBackbone)
        head = EnergyHead(8, 8) if escn_like else backbone.default_head()
    tasks = [
        Task("toy_energy", "system", "energy", OutputSpec((1,)), Normalizer(0.0, 0.7), ["toy"])
    ]
    spins = (0,) if escn_like else ()
    return Potential(backbone, head, tasks, {"toy": Domain((6, 14), (0,), spins)}).double()
