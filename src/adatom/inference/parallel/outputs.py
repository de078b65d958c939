"""Predictions of a worker for its own atoms, and all of them put together."""

from __future__ import annotations

from collections.abc import Collection

import torch

from adatom.data.atomic_data import AtomicData
from adatom.graph.domain import Domain
from adatom.models.gradients import cell_volume, energy_gradients
from adatom.models.partitioned import Share, share_of
from adatom.tasks.potential import PROPERTIES, Potential

#: Derivatives of the energy that several workers can compute.
_DERIVATIVES = frozenset({"forces", "stress", "virials"})
#: What belongs to the system.
_OF_SYSTEM = frozenset({"energy", "stress", "relaxed_energy"})


def raw_outputs(
    potential: Potential, data: AtomicData, domain: Domain, properties: Collection[str]
) -> dict[str, torch.Tensor]:
    """Predict in network units, as :meth:`adatom.tasks.potential.Potential.forward` does.

    Args:
        potential: Computes.
        data: The whole system.
        domain: This worker's part of it.
        properties: Among those of the potential; no Hessian.

    Returns:
        Everything on worker 0, and nothing on the others, who have to call this too.
    """
    potential.check_properties(properties, data)
    derived = _DERIVATIVES & set(properties) - set(potential.head.gives)
    with torch.set_grad_enabled(bool(derived)):
        share = share_of(
            potential.backbone, data, domain, potential.dtype, derivatives=bool(derived)
        )
        out = _own_outputs(potential, share, properties, derived)
    if potential.head.mean_energy:
        out["energy"] = out["energy"] / data.natoms
        out["energies"] = out["energies"] / data.natoms
    out["relaxed_energy"] = out["energy"]
    if "stress" in out:
        empty = (cell_volume(data.cell) == 0)[:, None, None]
        out["stress"] = out["stress"].masked_fill(empty, torch.nan)
    found = {}
    for name in PROPERTIES:
        if name in properties:
            value = out[name].detach()
            found[name] = value if name in _OF_SYSTEM else _gathered(value, domain)
    return found if domain.halo.links.rank == 0 else {}


def _own_outputs(
    potential: Potential, share: Share, properties: Collection[str], derived: Collection[str]
) -> dict[str, torch.Tensor]:
    """Return what belongs to own atoms, and what belongs to the whole system."""
    halo = share.domain.halo
    features, own = share.own(potential.backbone(share.data, share.layers))
    out: dict[str, torch.Tensor] = potential.head(features, own)
    if "embeddings" in properties:
        spherical = features.spherical
        out["embeddings"] = features.scalars if spherical is None else spherical
    del features  # their memory, for the derivatives
    energy = out["energies"].double().sum().unsqueeze(0)
    if derived:
        gradients = energy_gradients(energy, [share.edges], create_graph=False)
        if "forces" in derived:
            out["forces"] = share.forces(gradients)
        if "stress" in derived:
            volume = cell_volume(own.cell)
            volume = torch.where(volume > 0, volume, 1.0)
            out["stress"] = share.virial(gradients) / volume[:, None, None]
        if "virials" in derived:
            out["virials"] = share.atomic_virials(gradients)
    if "stress" in out and "stress" not in derived:
        # A head sums over own atoms, and divides by the number of all of them where it does.
        out["stress"] = halo.total(out["stress"].detach())
    out["energy"] = halo.total(energy.detach())
    return out


def _gathered(rows: torch.Tensor, domain: Domain) -> torch.Tensor:
    """Bring the rows ``[n, ...]`` of all workers to worker 0, in the order of the system."""
    links = domain.halo.links
    others = [0] * (links.size - 1)
    receive = [0] * links.size
    if links.rank == 0:
        receive = torch.bincount(domain.owner, minlength=links.size).tolist()
    arrived = links.exchange(rows, [len(rows), *others], receive)
    if links.rank != 0:
        return arrived
    return torch.empty_like(arrived).index_copy(
        0, torch.argsort(domain.owner, stable=True), arrived
    )
