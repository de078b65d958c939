"""Contract check: workers that share a system find what one finds alone."""

from __future__ import annotations

from functools import partial

import torch

from adatom.data.atomic_data import AtomicData
from adatom.graph.domain import Domains
from adatom.graph.links import Links
from adatom.graph.thread_links import run_workers
from adatom.models.contract_subject import Model, Outcome, Subject, require_close
from adatom.models.gradients import energy_gradients
from adatom.models.partitioned import search_layers, share_of, unsharable

#: Numbers of workers that are tried, and whether weights are trained; of four, some have no atoms.
_WORKERS = ((2, True), (2, False), (4, False))


def partition_equals_whole(subject: Subject) -> None:
    """Check that energies, forces and virial do not depend on the number of workers."""
    model = subject.model()
    if unsharable(model.backbone) is not None:
        return
    for system in subject.structures():
        expected = model.evaluate(system)
        for count, trained in _WORKERS:
            model.requires_grad_(trained)
            parts = run_workers(count, partial(evaluate_share, model, system))
            name = f"of {system.sid[0]} from {count} workers"
            energies = torch.cat([part.energies for part, _ in parts])
            forces = torch.cat([part.forces for part, _ in parts])
            order = torch.cat([own for _, own in parts]).argsort()
            tolerance = subject.tolerance
            require_close(f"Energies {name}", energies[order], expected.energies, tolerance)
            require_close(f"Forces {name}", forces[order], expected.forces, tolerance, floor=1e-2)
            for part, _ in parts:
                require_close(f"Virial {name}", part.virial, expected.virial, tolerance, floor=1e-2)


def evaluate_share(model: Model, system: AtomicData, links: Links) -> tuple[Outcome, torch.Tensor]:
    """Evaluate a worker's part of a system.

    Returns:
        Energies and forces of own atoms, energy and virial of the system; and the own atoms.
    """
    backbone = model.backbone
    domains = Domains(
        links,
        backbone.cutoff,
        layers=search_layers(backbone),
        max_neighbors=backbone.max_neighbors,
    )
    domain = domains.of(system.pos, system.cell, system.pbc)
    share = share_of(backbone, system, domain, model.dtype)
    features, data = share.own(backbone(share.data, share.layers))
    energies = model.head(features, data)["energies"]
    energy = energies.double().sum().unsqueeze(0)
    gradients = energy_gradients(energy, [share.edges], create_graph=False)
    total = domain.halo.total(energy.detach())
    outcome = Outcome(
        features, energies.detach(), total, share.forces(gradients), share.virial(gradients)
    )
    return outcome, domain.own
