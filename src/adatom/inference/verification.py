"""A fast path is compared with the plain one before it is trusted."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch

from adatom.data.atomic_data import AtomicData
from adatom.inference.tolerances import TOLERANCES

#: Properties that are compared, where there are any.
COMPARED = ("energy", "forces", "stress", "relaxed_energy")
#: Edges of the sample that both paths compute: a fraction of a second for any model.
MAX_SAMPLE_EDGES = 400
#: Atoms of the piece that is cut out of a larger input; all pairs of them may be edges.
_CLUSTER = 20
#: Angstrom beyond the cutoff between atoms that must not see each other.
_APART = 1.0


@dataclass(frozen=True)
class Agreement:
    """Result of one comparison.

    Attributes:
        trusted: Whether all deviations are within their tolerances.
        text: Deviations or the error, in words.
    """

    trusted: bool
    text: str


class Predicts(Protocol):
    """What is compared: a potential, or what computes like one."""

    @property
    def dtype(self) -> torch.dtype:
        """Floating dtype of the parameters."""

    def __call__(self, data: AtomicData, properties: list[str]) -> dict[str, torch.Tensor]:
        """Predict in network units."""

    def properties(self, dataset: str) -> list[str]:
        """Return what systems of a dataset can be given."""

    def denormalize(
        self, raw: dict[str, torch.Tensor], data: AtomicData
    ) -> dict[str, torch.Tensor]:
        """Convert to physical units."""

    def reference_energies(self, data: AtomicData) -> torch.Tensor:
        """Return each atom's element reference."""


def compare(fast: Predicts, plain: Predicts, sample: AtomicData) -> Agreement:
    """Compare two potentials that should be the same but for rounding.

    Args:
        fast: The path that is to be trusted.
        plain: The path that is.
        sample: A system with edges, on their device.
    """
    names = list(COMPARED)
    for potential in (fast, plain):
        names = [name for name in names if name in potential.properties(sample.dataset[0])]
    try:
        found = _physical(fast, sample, names)
    # Compilers of kernels raise anything.
    except Exception as error:  # noqa: BLE001
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        return Agreement(False, f"it failed: {reason}")
    expected = _physical(plain, sample, names)
    tolerances = TOLERANCES[plain.dtype]
    deviations = {name: _deviation(found[name], expected[name], name, sample) for name in names}
    text = ", ".join(f"{name} {value:.1e}" for name, value in deviations.items())
    # A NaN is not within any tolerance.
    trusted = all(value <= tolerances[name] for name, value in deviations.items())
    return Agreement(trusted, f"greatest relative deviations on {sample.num_atoms} atoms: {text}")


def sample_of(
    data: AtomicData, cutoff: float, *, exact: bool, max_neighbors: int | None
) -> AtomicData:
    """Return a small system made of the same as the first system of a batch.

    A large system is represented by a cluster cut out of it, as it is, and by single atoms far
    apart that complete its reduced formula, so that merged experts see the same composition.

    Args:
        data: A batch with edges.
        cutoff: In angstrom.
        exact: Complete the formula of the whole system instead of the reduced one.
        max_neighbors: Limit of the neighbor list.
    """
    first = data if data.num_systems == 1 else data.unbatch()[0]
    if first.edges is None or first.edges.index.shape[1] <= MAX_SAMPLE_EDGES:
        return first
    numbers, pos = _cluster(first)
    rest = _rest(first.atomic_numbers.tolist(), numbers.tolist(), exact=exact)
    line = torch.arange(1, len(rest) + 1, dtype=pos.dtype, device=pos.device)
    alone = torch.zeros(len(rest), 3, dtype=pos.dtype, device=pos.device)
    alone[:, 0] = pos[:, 0].max() + line * (cutoff + _APART)
    count = len(numbers) + len(rest)
    small = AtomicData(
        pos=torch.cat([pos, alone]),
        atomic_numbers=torch.cat([numbers, numbers.new_tensor(rest)]),
        # Not periodic: the cell only gives the stress a volume.
        cell=torch.eye(3, dtype=pos.dtype, device=pos.device)[None] * cutoff,
        pbc=torch.zeros_like(first.pbc),
        natoms=torch.full_like(first.natoms, count),
        batch=first.batch.new_zeros(count),
        charge=first.charge,
        spin=first.spin,
        dataset=first.dataset,
        tags=first.tags.new_zeros(count),
        fixed=first.fixed.new_zeros(count),
        sid=first.sid,
    )
    return small.with_edges(cutoff, max_neighbors=max_neighbors)


def _cluster(system: AtomicData) -> tuple[torch.Tensor, torch.Tensor]:
    """Return an atom and its nearest neighbors, images included, where they are."""
    edges = system.edges
    if edges is None:
        return system.atomic_numbers, system.pos
    vectors = edges.vectors(system.pos.detach(), system.cell.detach())
    # The rarest element is the one that a cluster around another atom would miss.
    counts = torch.bincount(system.atomic_numbers)[system.atomic_numbers]
    center = int(torch.argmin(counts))
    own = torch.nonzero(edges.index[1] == center).flatten()
    nearest = own[torch.argsort(vectors[own].norm(dim=1))[: _CLUSTER - 1]]
    sources = edges.index[0, nearest]
    numbers = torch.cat(
        [system.atomic_numbers[center : center + 1], system.atomic_numbers[sources]]
    )
    pos = torch.cat([torch.zeros_like(vectors[:1]), vectors[nearest]])
    return numbers, pos


def _rest(whole: list[int], cluster: list[int], *, exact: bool) -> list[int]:
    """Return the atoms that complete a cluster to a multiple of the reduced formula."""
    elements = sorted(set(whole))
    counts = {z: whole.count(z) for z in elements}
    divisor = 1 if exact else math.gcd(*counts.values())
    formula = {z: count // divisor for z, count in counts.items()}
    units = max(math.ceil(cluster.count(z) / formula[z]) for z in elements)
    return [z for z in elements for _ in range(units * formula[z] - cluster.count(z))]


def _physical(potential: Predicts, data: AtomicData, names: list[str]) -> dict[str, torch.Tensor]:
    with torch.no_grad():
        raw = potential(data, names)
        out = potential.denormalize(raw, data)
        for name in {"energy", "relaxed_energy"} & set(out):
            # References are the same on both sides and may be much larger than what is compared.
            references = potential.reference_energies(data)
            out[name] = out[name] - references.sum()
    return out


def _deviation(found: torch.Tensor, expected: torch.Tensor, name: str, data: AtomicData) -> float:
    """Return the greatest deviation divided by the greatest value, if that is above 1."""
    found, expected = found.double(), expected.double()
    if name in ("energy", "relaxed_energy"):
        found, expected = found / data.num_atoms, expected / data.num_atoms
    if name == "stress":
        volume = torch.linalg.det(data.cell.double()).abs().clamp(min=1e-3)
        volume = (volume / data.num_atoms).view(-1, 1, 1)
        found, expected = found * volume, expected * volume
        if bool(expected.isnan().all() & found.isnan().all()):
            return 0.0
    scale = max(1.0, float(expected.abs().max()))
    return float((found - expected).abs().max()) / scale
