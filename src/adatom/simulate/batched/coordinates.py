"""The coordinates that minimizers move: atoms, and cells where they relax too."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from adatom.data.atomic_data import AtomicData
from adatom.simulate.batched.cells import CellRelaxation
from adatom.simulate.batched.evaluation import Evaluated
from adatom.simulate.batched.intake import Entry
from adatom.simulate.batched.minimizers import Minimizer
from adatom.simulate.batched.pool import Pool
from adatom.simulate.batched.rows import Rows, owners


class Coordinates:
    """Coordinates and the minimizer's state of the systems in a pool.

    The rows of a system are its atoms, in the undeformed cell, then three rows of its cell.

    Args:
        how: How cells relax; None keeps them.
        device: Where the systems are.

    Attributes:
        state: The minimizer's, for the systems of the pool.
    """

    def __init__(self, how: CellRelaxation | None, device: torch.device) -> None:
        self._filter = None if how is None else how.filter(device)
        self._extra = 0 if how is None else 3
        empty = torch.zeros(0, dtype=torch.int64, device=device)
        self.state = Rows(empty)
        self._own = Rows(empty)

    def enter(self, entries: Sequence[Entry], order: torch.Tensor, minimizer: Minimizer) -> None:
        """Let new systems in.

        Args:
            entries: The new ones.
            order: As returned by :meth:`Pool.add`.
            minimizer: Whose state they get.
        """
        device = order.device
        natoms = torch.tensor([e.system.num_atoms for e in entries], device=device)
        cells = torch.cat([e.system.cell for e in entries])
        one = torch.eye(3, dtype=torch.float64, device=device).expand(len(entries), 3, 3)
        zero_row = self._filter.rows(one, natoms) if self._filter is not None else None
        parts: list[torch.Tensor] = []
        for i, entry in enumerate(entries):
            parts.append(entry.system.pos)
            if zero_row is not None:
                parts.append(zero_row[i])
        own = Rows(
            natoms + self._extra,
            {"x": torch.cat(parts), "before": torch.cat(parts)},
            {"cell": cells, "deformation": one.clone(), "before": cells},
        )
        fresh = minimizer.fresh(own.sizes)
        if len(self.state.sizes):
            own = self._own.joined(own)
            fresh = minimizer.joined(self.state, fresh)
        self._own, self.state = own.taken(order), fresh.taken(order)

    def keep(self, order: torch.Tensor, forces: torch.Tensor) -> torch.Tensor:
        """Drop all systems but some, and return their rows of ``forces``."""
        with_forces = Rows(self._own.sizes, {"forces": forces}).taken(order)
        self._own, self.state = self._own.taken(order), self.state.taken(order)
        return with_forces.by_row["forces"]

    def forces(self, batch: AtomicData, found: Evaluated) -> torch.Tensor:
        """Return the forces on all rows ``[R, 3]``, zero on what is held."""
        forces = torch.where(batch.fixed[:, None], 0.0, found.forces)
        if self._filter is None or found.stress is None:
            return forces
        atoms, cells = self._places()
        deformation = self._own.by_system["deformation"]
        # Of a cell that is beyond repair it is not finite, and that system fails alone.
        inverse = torch.linalg.inv_ex(deformation).inverse
        rows = forces.new_empty(len(self._own.by_row["x"]), 3)
        turned = torch.bmm(forces[:, None], deformation.mT[batch.batch])
        rows[atoms] = turned.squeeze(1)
        virial = self._filter.virial(found.stress, batch.cell)
        x = self._own.by_row["x"][cells].reshape(-1, 3, 3)
        rows[cells] = self._filter.forces(virial, x, inverse, batch.natoms).reshape(-1, 3)
        return rows

    def move(self, pool: Pool, minimizer: Minimizer, forces: torch.Tensor) -> None:
        """Take a step with all systems."""
        batch, own = pool.batch, self._own
        x = own.by_row["x"]
        x = x + minimizer.step(self.state, x, forces)
        atoms, cells = self._places()
        before = torch.empty_like(x)
        before[atoms] = batch.pos
        own.by_row["before"], own.by_system["before"] = before, batch.cell
        if self._filter is None:
            own.by_row["x"] = x
            pool.move(x)
            return
        rows = x[cells].reshape(-1, 3, 3)
        deformation = self._filter.deformation(rows, batch.natoms)
        if self._filter.mask is not None:
            # What the mask undid must not remain in the coordinates.
            x[cells] = self._filter.rows(deformation, batch.natoms).reshape(-1, 3)
        own.by_row["x"] = x
        own.by_system["deformation"] = deformation
        pos = torch.bmm(x[atoms][:, None], deformation[batch.batch]).squeeze(1)
        pool.move(pos, own.by_system["cell"] @ deformation)

    def before(self, i: int, entry: Entry) -> tuple[torch.Tensor, torch.Tensor]:
        """Return positions and cell of a system before its last step."""
        start = int(self._own.sizes[:i].sum())
        rows = slice(start, start + entry.system.num_atoms)
        return self._own.by_row["before"][rows], self._own.by_system["before"][i]

    def _places(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the rows that are atoms and those that are cells."""
        sizes = self._own.sizes
        ends = torch.cumsum(sizes, 0)[owners(sizes)]
        number = torch.arange(len(ends), device=sizes.device)
        is_cell = number >= ends - self._extra
        return torch.nonzero(~is_cell).flatten(), torch.nonzero(is_cell).flatten()
