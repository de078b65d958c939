"""What the contract suite tests: a model under test, its evaluation and small structures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from adatom.core.errors import AdatomError
from adatom.data.atomic_data import AtomicData
from adatom.models.base import Backbone, Head, Neighborhood, NodeFeatures
from adatom.models.gradients import energy_gradients, forces_from, virial_from
from adatom.models.placement import displaced

#: Builds one fresh, randomly initialized model (the suite seeds torch around the call).
ModelFactory = Callable[[], tuple[Backbone, Head]]


class ContractError(AdatomError, AssertionError):
    """A model breaks a promise that the rest of adatom relies on."""


@dataclass(slots=True)
class Outcome:
    """Everything that is compared.

    Attributes:
        features: Output of the backbone.
        energies: ``[N]`` in network units.
        energy: ``[B]`` float64.
        forces: ``[N, 3]``.
        virial: ``[B, 3, 3]`` float64, dE/d(strain).
    """

    features: NodeFeatures
    energies: torch.Tensor
    energy: torch.Tensor
    forces: torch.Tensor
    virial: torch.Tensor


class Model(nn.Module):
    """A backbone and an energy head, evaluated as :class:`adatom.tasks.potential.Potential` does.

    Args:
        backbone: Geometry to node features.
        head: Node features to per-atom energies.
    """

    def __init__(self, backbone: Backbone, head: Head) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    @property
    def dtype(self) -> torch.dtype:
        """Floating dtype of the parameters."""
        return next(self.parameters()).dtype

    def with_edges(self, data: AtomicData) -> AtomicData:
        """Return a copy of ``data`` with the edges this model wants."""
        backbone = self.backbone
        return data.with_edges(backbone.cutoff, max_neighbors=backbone.max_neighbors)

    def evaluate(
        self,
        data: AtomicData,
        *,
        layers: Sequence[Neighborhood] | None = None,
        create_graph: bool = False,
    ) -> Outcome:
        """Predict energies and their derivatives.

        Args:
            data: A batch; edges are built if it has none.
            layers: One neighborhood per message layer; None shares the edges of ``data``.
            create_graph: Keep the graph of the derivatives.
        """
        data = data if data.edges is not None else self.with_edges(data)
        if layers is None:
            layers = [neighborhood(data, self.dtype)] * self.backbone.num_message_layers
        distinct = list({id(layer): layer for layer in layers}.values())
        placement = None
        if self.backbone.uses_positions:
            data, placement = displaced(data)
        features = self.backbone(data, layers)
        energies = self.head(features, data)["energies"]
        energy = torch.zeros(data.num_systems, dtype=torch.float64)
        energy = energy.index_add(0, data.batch, energies.double())
        gradients = energy_gradients(energy, distinct, placement, create_graph=create_graph)
        return Outcome(
            features,
            energies,
            energy,
            forces_from(gradients, distinct, data.num_atoms),
            virial_from(gradients, distinct, data.num_systems),
        )


@dataclass(slots=True, frozen=True)
class Subject:
    """The model under test and what it may be asked about.

    Attributes:
        make: Builds a fresh model.
        elements: Atomic numbers the model knows; at least one.
        datasets: Dataset names the model knows.
        charges: Total charges to try.
        spins: Multiplicities to try.
        tolerance: Relative accuracy asked of float64 identities.
    """

    make: ModelFactory
    elements: tuple[int, ...] = (1, 6, 8)
    datasets: tuple[str, ...] = ("default",)
    charges: tuple[int, ...] = (0,)
    spins: tuple[int, ...] = (0,)
    tolerance: float = 1e-9

    def model(self, dtype: torch.dtype = torch.float64, seed: int = 1) -> Model:
        """Build a model in evaluation mode; the same seed gives the same weights."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return Model(*self.make()).to(dtype).eval()

    def system(
        self,
        positions: torch.Tensor,
        cell: torch.Tensor | None = None,
        pbc: tuple[bool, bool, bool] = (True, True, True),
        variant: int = 0,
    ) -> AtomicData:
        """Build one system, cycling through the known elements, datasets, charges and spins.

        Args:
            positions: ``[N, 3]`` angstrom.
            cell: ``[3, 3]`` angstrom, or None for a system without periodicity.
            pbc: Periodic directions, used when there is a cell.
            variant: Which dataset, charge and spin.
        """
        count = len(positions)
        numbers = [self.elements[i % len(self.elements)] for i in range(count)]
        box = torch.zeros(3, 3, dtype=torch.float64) if cell is None else cell.double()
        return AtomicData(
            pos=positions.double(),
            atomic_numbers=torch.tensor(numbers),
            cell=box[None].clone(),
            pbc=torch.tensor([pbc if cell is not None else (False, False, False)]),
            natoms=torch.tensor([count]),
            batch=torch.zeros(count, dtype=torch.int64),
            charge=torch.tensor([self.charges[variant % len(self.charges)]]),
            spin=torch.tensor([self.spins[variant % len(self.spins)]]),
            dataset=[self.datasets[variant % len(self.datasets)]],
            tags=torch.zeros(count, dtype=torch.int64),
            fixed=torch.zeros(count, dtype=torch.bool),
            sid=[f"contract-{variant}"],
        )

    def molecule(self, variant: int = 0) -> AtomicData:
        """Return five atoms without symmetry or cell."""
        positions = [
            [0.0, 0.0, 0.0],
            [1.12, 0.21, -0.13],
            [-0.42, 1.21, 0.34],
            [0.23, -0.71, 1.24],
            [-0.91, -0.52, -1.02],
        ]
        return self.system(torch.tensor(positions), variant=variant)

    def crystal(self, variant: int = 0) -> AtomicData:
        """Return three atoms in a small skewed cell, one of them outside of it."""
        cell = torch.tensor([[3.1, 0.0, 0.0], [0.9, 3.4, 0.0], [-0.6, 0.7, 3.7]])
        positions = torch.tensor([[0.1, 0.2, -0.1], [1.5, 1.7, 1.4], [3.9, 0.6, 5.3]])
        return self.system(positions, cell, variant=variant)

    def slab(self, variant: int = 0) -> AtomicData:
        """Return a layer that is periodic in two directions, with edges along all axes."""
        cell = torch.diag(torch.tensor([2.9, 2.9, 12.0]))
        positions = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 2.1], [1.45, 1.45, 1.05]])
        return self.system(positions, cell, (True, True, False), variant)

    def structures(self) -> list[AtomicData]:
        """Return the standard structures, each with another dataset, charge and spin."""
        return [self.molecule(0), self.crystal(1), self.slab(2)]


def neighborhood(data: AtomicData, dtype: torch.dtype) -> Neighborhood:
    """Return the edges of ``data`` as a neighborhood whose vectors require gradients."""
    if data.edges is None:
        raise ContractError("The batch has no edges", fix="Call data.with_edges first.")
    vectors = data.edges.vectors(data.pos, data.cell).to(dtype).detach().requires_grad_(True)
    return Neighborhood(data.edges.index[0], data.edges.index[1], vectors, data.edges.counts)


def moved(data: AtomicData, pos: torch.Tensor, cell: torch.Tensor | None = None) -> AtomicData:
    """Return ``data`` with other positions (and cell), without edges."""
    return replace(data, pos=pos, cell=data.cell if cell is None else cell, edges=None)


def require_close(
    what: str,
    found: torch.Tensor,
    expected: torch.Tensor,
    tolerance: float,
    *,
    floor: float = 1e-6,
) -> None:
    """Raise :class:`ContractError` unless two tensors agree.

    Args:
        what: The promise, in words.
        found: What the model gave.
        expected: What it should have given.
        tolerance: Allowed largest difference, relative to the largest expected magnitude.
        floor: Magnitudes below this count as this, so that zeros can be compared.
    """
    if found.shape != expected.shape:
        raise ContractError(
            f"{what}: shape {tuple(found.shape)}",
            expected=f"shape {tuple(expected.shape)}",
        )
    if not bool(torch.isfinite(found).all()):
        raise ContractError(f"{what}: NaN or infinite values", expected="finite values")
    if found.numel() == 0:
        return
    found, expected = found.detach().double(), expected.detach().double()
    scale = max(float(expected.abs().max()), floor)
    error = float((found - expected).abs().max())
    if error > tolerance * scale:
        raise ContractError(
            f"{what}: differs by up to {error:.3g} where values reach {scale:.3g}",
            expected=f"a difference of at most {tolerance * scale:.3g}",
        )
