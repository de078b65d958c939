"""Contract checks that follow from symmetry and locality; each raises ContractError."""

from __future__ import annotations

from dataclasses import replace

import torch

from adatom.data.atomic_data import AtomicData, collate
from adatom.models.base import Neighborhood
from adatom.models.contract_subject import (
    ContractError,
    Model,
    Outcome,
    Subject,
    moved,
    neighborhood,
    require_close,
)


def batch_equals_singles(subject: Subject) -> None:
    """Check that a batch gives the same as its systems one by one."""
    model = subject.model()
    systems = subject.structures()
    together = model.evaluate(collate(systems))
    alone = [model.evaluate(system) for system in systems]
    expected = Outcome(
        together.features,
        torch.cat([one.energies for one in alone]),
        torch.cat([one.energy for one in alone]),
        torch.cat([one.forces for one in alone]),
        torch.cat([one.virial for one in alone]),
    )
    _require_same("A batch against its systems alone", together, expected, subject.tolerance)


def atom_permutation(subject: Subject) -> None:
    """Check that reordering atoms reorders energies and forces and no more."""
    model = subject.model()
    for system in subject.structures():
        order = torch.arange(system.num_atoms).flip(0)
        shuffled = replace(
            system,
            pos=system.pos[order],
            atomic_numbers=system.atomic_numbers[order],
            edges=None,
        )
        before, after = model.evaluate(system), model.evaluate(shuffled)
        what = "Energies and forces after reordering the atoms"
        expected = replace(before, energies=before.energies[order], forces=before.forces[order])
        _require_same(what, after, expected, subject.tolerance)


def translation(subject: Subject) -> None:
    """Check that moving everything, and atoms by lattice vectors, changes nothing."""
    model = subject.model()
    for system in subject.structures():
        shift = torch.tensor([[1.37, -2.61, 0.59]], dtype=torch.float64)
        images = torch.zeros_like(system.pos)
        images[0] = (torch.tensor([1.0, -2.0, 0.0]).double() * system.pbc[0]) @ system.cell[0]
        before = model.evaluate(system)
        after = model.evaluate(moved(system, system.pos + shift + images))
        # Positions shifted by a few angstrom round differently in the last digits.
        _require_same("Translated structure", after, before, 10 * subject.tolerance)


def rotation(subject: Subject) -> None:
    """Check that a rotated structure has the same energy and turned forces and features."""
    model = subject.model()
    axis_swap = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]).double()
    for system in subject.structures():
        for turn in (_random_rotation(3), axis_swap):
            _require_turned(model, system, turn, subject.tolerance)


def reflection(subject: Subject) -> None:
    """Check that a mirrored structure has the same energy, for backbones that promise it."""
    model = subject.model()
    if not model.backbone.reflection_invariant:
        return
    for system in subject.structures():
        _require_turned(model, system, -_random_rotation(5), subject.tolerance)


def extensivity(subject: Subject) -> None:
    """Check that a supercell, and two copies far apart, have energies in proportion."""
    model = subject.model()
    crystal = subject.crystal()
    one = model.evaluate(crystal)
    two_by_three = model.evaluate(_supercell(crystal, (2, 1, 3)))
    what = "Energy of a 2x1x3 supercell over six"
    require_close(what, two_by_three.energy / 6, one.energy, 10 * subject.tolerance)
    require_close(
        "Forces in a supercell",
        two_by_three.forces,
        one.forces.repeat(6, 1),
        1e-8,
        floor=1e-5,
    )
    molecule = subject.molecule()
    far = torch.tensor([[50.0 + 3 * model.backbone.cutoff, 0.0, 0.0]], dtype=torch.float64)
    twice = _repeated(molecule, torch.cat([torch.zeros_like(far), far]))
    require_close(
        "Half the energy of two distant copies",
        model.evaluate(twice).energy / 2,
        model.evaluate(molecule).energy,
        10 * subject.tolerance,
    )


def isolated_atom(subject: Subject) -> None:
    """Check that an atom without neighbors has the same finite energy everywhere."""
    model = subject.model()
    atom = subject.system(torch.zeros(1, 3))
    alone = model.evaluate(atom)
    elsewhere = model.evaluate(moved(atom, atom.pos + 7.3))
    require_close("An isolated atom at another place", elsewhere.energy, alone.energy, 1e-12)
    require_close("Forces on an isolated atom", alone.forces, torch.zeros(1, 3), 0.0)
    batch = model.evaluate(collate([subject.molecule(), atom, subject.crystal()]))
    require_close("An isolated atom in a batch", batch.energy[1:2], alone.energy, 1e-9)


def empty_neighborhood(subject: Subject) -> None:
    """Check that atoms without neighbors give zero forces and no NaN."""
    model = subject.model()
    spacing = 2.5 * model.backbone.cutoff
    apart = subject.system(spacing * torch.arange(3)[:, None] * torch.ones(1, 3))
    outcome = model.evaluate(apart)
    require_close("Energies without any edge", outcome.energies, outcome.energies, 0.0)
    require_close("Forces without any edge", outcome.forces, torch.zeros(3, 3), 0.0)
    molecule = subject.molecule()
    lone = moved(molecule, molecule.pos.clone())
    lone.pos[-1, 0] -= spacing
    outcome = model.evaluate(lone)
    require_close("Energies with one lone atom", outcome.energies, outcome.energies, 0.0)
    require_close("The force on a lone atom", outcome.forces[-1], torch.zeros(3), 0.0)


def nested_edges(subject: Subject) -> None:
    """Check that layer k uses edges[k] alone: nested lists give inner atoms the same energy."""
    model = subject.model()
    crystal = model.with_edges(subject.crystal())
    whole = neighborhood(crystal, model.dtype)
    expected = model.evaluate(crystal, layers=[whole] * model.backbone.num_message_layers)
    inner = torch.zeros(crystal.num_atoms, dtype=torch.bool)
    inner[0] = True
    layers: list[Neighborhood] = []
    for _ in range(model.backbone.num_message_layers):
        kept = inner[whole.target]
        layers.insert(0, _part(whole, kept))
        inner = inner.clone()
        inner[whole.source[kept]] = True
    found = model.evaluate(crystal, layers=layers)
    require_close(
        "Energy of an inner atom with nested edge lists",
        found.energies[:1],
        expected.energies[:1],
        subject.tolerance,
    )


def _part(whole: Neighborhood, kept: torch.Tensor) -> Neighborhood:
    vectors = whole.vectors.detach()[kept].requires_grad_(True)
    return Neighborhood(whole.source[kept], whole.target[kept], vectors, kept.sum().reshape(1))


def _require_same(what: str, found: Outcome, expected: Outcome, tolerance: float) -> None:
    """Compare energies, forces and virials, at force accuracy for the derivatives."""
    require_close(f"{what}: energy", found.energy, expected.energy, tolerance)
    require_close(f"{what}: energies", found.energies, expected.energies, tolerance)
    scale = 10 * tolerance
    require_close(f"{what}: forces", found.forces, expected.forces, scale, floor=1e-3)
    require_close(f"{what}: virial", found.virial, expected.virial, scale, floor=1e-3)


def _require_turned(model: Model, system: AtomicData, turn: torch.Tensor, tolerance: float) -> None:
    """Compare a structure with its image under an orthogonal matrix (acting on row vectors)."""
    before = model.evaluate(system)
    after = model.evaluate(moved(system, system.pos @ turn, system.cell @ turn))
    expected = replace(
        before,
        forces=before.forces @ turn.to(before.forces),
        virial=turn.T @ before.virial @ turn,
    )
    kind = "Rotated" if torch.linalg.det(turn) > 0 else "Mirrored"
    _require_same(f"{kind} structure", after, expected, 10 * tolerance)
    require_close(
        f"{kind} structure: scalar features",
        after.features.scalars,
        before.features.scalars,
        100 * tolerance,
    )
    if before.features.spherical is not None and after.features.spherical is not None:
        _require_turned_features(before.features.spherical, after.features.spherical, turn)


def _require_turned_features(before: torch.Tensor, after: torch.Tensor, turn: torch.Tensor) -> None:
    """Check l = 1 in component order x, y, z (as e3nn), and inner products for every l.

    Equal inner products between all atoms and channels mean that one orthogonal matrix per l
    relates the two, whatever the convention of the components.
    """
    lmax = int(before.shape[1] ** 0.5) - 1
    if (lmax + 1) ** 2 != before.shape[1]:
        raise ContractError(
            f"Spherical features have {before.shape[1]} components",
            expected="(lmax + 1)^2 of them",
        )
    for degree in range(lmax + 1):
        rows = slice(degree**2, (degree + 1) ** 2)
        grams = [
            x[:, rows].transpose(0, 1).flatten(1).T @ x[:, rows].transpose(0, 1).flatten(1)
            for x in (before.detach().double(), after.detach().double())
        ]
        what = f"Inner products of the l = {degree} features of a turned structure"
        require_close(what, grams[1], grams[0], 1e-7)
    if lmax >= 1 and torch.linalg.det(turn) > 0:
        require_close(
            "l = 1 features (order x, y, z) of a rotated structure",
            after[:, 1:4].double(),
            torch.einsum("nac,ab->nbc", before[:, 1:4].double(), turn),
            1e-7,
        )


def _random_rotation(seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(3, 3, generator=generator, dtype=torch.float64)
    orthogonal, _ = torch.linalg.qr(matrix)
    proper: torch.Tensor = orthogonal * torch.linalg.det(orthogonal).sign()
    return proper


def _supercell(system: AtomicData, repeats: tuple[int, int, int]) -> AtomicData:
    """Repeat one periodic system; copies are block by block in the atom order."""
    counts = [torch.arange(n, dtype=torch.float64) for n in repeats]
    larger = _repeated(system, torch.cartesian_prod(*counts) @ system.cell[0])
    return moved(larger, larger.pos, system.cell * torch.tensor(repeats)[None, :, None])


def _repeated(system: AtomicData, shifts: torch.Tensor) -> AtomicData:
    """Return one system with a copy of the atoms at each of the ``[K, 3]`` shifts."""
    copies = len(shifts)
    return replace(
        system,
        pos=(shifts[:, None] + system.pos[None]).reshape(-1, 3),
        atomic_numbers=system.atomic_numbers.repeat(copies),
        batch=system.batch.repeat(copies),
        tags=system.tags.repeat(copies),
        fixed=system.fixed.repeat(copies),
        natoms=system.natoms * copies,
        edges=None,
    )
