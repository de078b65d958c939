"""Small potentials and systems for tests of workers that share a system."""

from __future__ import annotations

from typing import Any

import torch
from ase import Atoms
from ase.build import bulk, fcc111, molecule

from adatom.data.ase_convert import from_ase
from adatom.data.atomic_data import AtomicData
from adatom.graph.links import Links
from adatom.inference.parallel.rank_engine import RankEngine
from adatom.inference.predict_unit import MLIPPredictUnit
from adatom.inference.settings import inference_settings
from adatom.models.base import Backbone, Head
from adatom.models.dimenet import DimeNetPlusPlus
from adatom.models.egnn import EGNN
from adatom.models.escn_md import eSCNMDBackbone
from adatom.models.gaanet import GAANet
from adatom.models.gcn import GraphConvModel
from adatom.tasks.domain import Domain
from adatom.tasks.potential import Potential
from adatom.tasks.task import Normalizer, OutputSpec, Task
from toy_backbone import ToyBackbone, ToyHead

PROPERTIES = ("energy", "forces", "stress", "energies", "virials", "embeddings")
#: What the results of several workers may differ by (eV, eV/angstrom, eV/angstrom^3).
TOLERANCES = {"energy": 1e-9, "forces": 1e-9, "stress": 1e-10}
#: The plain computation by one worker.
PLAIN = {"compile": False, "execution_mode": "general"}
ESCN: dict[str, Any] = {
    "sphere_channels": 8,
    "hidden_channels": 8,
    "edge_channels": 8,
    "num_distance_basis": 8,
    "cutoff": 4.0,
    "dataset_list": ["omat", "omol"],
    "charge_balanced_channels": [0, 1],
    "spin_balanced_channels": [2],
}
DIMENET = {
    "emb_size": 8,
    "out_emb_size": 8,
    "int_emb_size": 4,
    "num_spherical": 4,
    "num_radial": 4,
}


def potential_of(backbone: Backbone, head: Head | None = None) -> Potential:
    """Return a potential in float64 with two datasets, scales and element references."""
    datasets = ["omat", "omol"]
    scale = Normalizer(0.0, 1.7)
    references = torch.linspace(0.0, -3.0, 119, dtype=torch.float64)
    tasks = [
        Task(
            "energy", "system", "energy", OutputSpec((1,)), Normalizer(0.3, 1.7), datasets,
            element_references=references,
        ),
        Task("forces", "atom", "forces", OutputSpec((3,)), scale, datasets),
        Task("stress", "system", "stress", OutputSpec((3, 3)), scale, datasets),
    ]  # fmt: skip
    domain = Domain((1, 6, 8, 13, 29), (-1, 0, 1), (0, 1, 2, 3))
    head = head or backbone.default_head()
    return Potential(backbone, head, tasks, dict.fromkeys(datasets, domain)).double()


def make(name: str) -> Potential:
    """Build a small untrained potential; the same name gives the same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        if name == "toy":
            return potential_of(ToyBackbone(), ToyHead())
        backbones = {
            "gcn": lambda: GraphConvModel(cutoff=4.0, atom_embedding_dim=16, out_dim=8),
            "egnn": lambda: EGNN(cutoff=4.0, hidden_dim=8, num_layers=3),
            "gaanet": lambda: GAANet(cutoff=3.0, hidden_dim=8, depth=1, readout="mean"),
            "dimenet": lambda: DimeNetPlusPlus(cutoff=3.5, num_blocks=2, **DIMENET),
            "escn_md": lambda: eSCNMDBackbone(**ESCN),
            "uma": lambda: eSCNMDBackbone(**ESCN, num_experts=4),
            "uma-counted": lambda: eSCNMDBackbone(
                **ESCN, num_experts=4, composition_mean_counts_zero=True
            ),
        }
        return potential_of(backbones[name]())


def crystal() -> Atoms:
    """Return sixteen atoms of a periodic alloy."""
    atoms = bulk("Cu", "fcc", a=3.7, cubic=True) * (2, 2, 1)
    atoms.rattle(0.1, seed=1)
    atoms.numbers[::3] = 13
    return atoms


def slab() -> Atoms:
    """Return a layer that is periodic in two directions."""
    atoms = fcc111("Cu", (2, 2, 3), vacuum=6.0)
    atoms.rattle(0.1, seed=2)
    atoms.pbc = (True, True, False)
    return atoms


def ethanol() -> Atoms:
    """Return a charged molecule."""
    atoms = molecule("CH3CH2OH")
    atoms.info |= {"charge": 1, "spin": 2}
    return atoms


def apart() -> Atoms:
    """Return two molecules that do not see each other, so that there is no boundary."""
    first, second = molecule("CH4"), molecule("CH4")
    second.positions += (40.0, 3.0, 0.0)
    atoms = first + second
    atoms.rattle(0.05, seed=3)
    return atoms


SYSTEMS = {"crystal": crystal, "slab": slab, "molecule": ethanol, "apart": apart}


def data_of(atoms: Atoms, dataset: str = "omat") -> AtomicData:
    """Convert a structure."""
    return from_ase(atoms, dataset=dataset)


def engine(potential: Potential, settings: Any, links: Links, **options: Any) -> RankEngine:
    """Return a worker."""
    return RankEngine(potential, inference_settings(settings), "cpu", links=links, **options)


def alone(potential: Potential) -> MLIPPredictUnit:
    """Return the plain computation."""
    return MLIPPredictUnit(potential, PLAIN)


def require_equal(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    """Compare everything that both have, within the promised tolerances."""
    for name, value in expected.items():
        tolerance = TOLERANCES.get(name, 1e-9)
        torch.testing.assert_close(
            found[name],
            value,
            rtol=0,
            atol=tolerance,
            equal_nan=True,
            msg=lambda text, n=name: f"{n}: {text}",
        )
