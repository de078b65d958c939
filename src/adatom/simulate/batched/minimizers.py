"""Minimizers of many systems at once; the same paths as those of ASE's, to rounding."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch

from adatom.simulate.batched.rows import Rows, dot, longest, owners

#: No step is longer, in angstrom.
MAX_STEP = 0.2


class Minimizer(ABC):
    """Moves many systems downhill; each has its own state."""

    @abstractmethod
    def fresh(self, sizes: torch.Tensor) -> Rows:
        """Return the state of systems before their first step.

        Args:
            sizes: ``[B]`` rows of each system.
        """

    def joined(self, state: Rows, fresh: Rows) -> Rows:
        """Return the state of systems on their way and of new ones after them."""
        return state.joined(fresh)

    @abstractmethod
    def step(self, state: Rows, x: torch.Tensor, forces: torch.Tensor) -> torch.Tensor:
        """Return how to move, and update the state.

        Args:
            state: Of all systems; changed in place.
            x: ``[R, 3]`` coordinates, angstrom.
            forces: ``[R, 3]`` minus the gradient, eV/angstrom.

        Returns:
            ``[R, 3]`` displacements.
        """


class FIRE(Minimizer):
    """Fast inertial relaxation engine: Bitzek et al., Phys. Rev. Lett. 97, 170201 (2006).

    The parameters are those of ASE: time steps from 0.1 to 1.0, and at most 0.2 angstrom for the
    norm of the displacement of a whole system.
    """

    def fresh(self, sizes: torch.Tensor) -> Rows:
        """Return the state before the first step; see the base class."""
        count, rows = len(sizes), int(sizes.sum())
        one = torch.ones(count, dtype=torch.float64, device=sizes.device)
        return Rows(
            sizes,
            {"v": one.new_zeros(rows, 3)},
            {
                "dt": 0.1 * one,
                "mix": 0.1 * one,
                "downhill": torch.zeros_like(sizes),
                "moving": torch.zeros_like(sizes, dtype=torch.bool),
            },
        )

    def step(self, state: Rows, x: torch.Tensor, forces: torch.Tensor) -> torch.Tensor:
        """Return how to move; see the base class."""
        del x
        of, count, owner = state.by_system, len(state.sizes), owners(state.sizes)
        v, dt, mix, downhill = state.by_row["v"], of["dt"], of["mix"], of["downhill"]
        along = dot(forces, v, owner, count) > 0
        speed = dot(v, v, owner, count).sqrt()
        force = dot(forces, forces, owner, count).sqrt()
        toward = torch.where(along, mix * speed / force, 0.0)
        kept = torch.where(along, 1.0 - mix, 0.0)
        v = kept[owner, None] * v + toward[owner, None] * forces
        faster = along & (downhill > 5)
        turned = ~along & of["moving"]
        dt = torch.where(faster, (dt * 1.1).clamp(max=1.0), torch.where(turned, dt * 0.5, dt))
        of["mix"] = torch.where(faster, mix * 0.99, torch.where(turned, 0.1, mix))
        of["downhill"] = torch.where(along, downhill + 1, 0)
        of["moving"] = torch.ones_like(of["moving"])
        of["dt"] = dt
        state.by_row["v"] = v = v + dt[owner, None] * forces
        step = dt[owner, None] * v
        norm = dot(step, step, owner, count).sqrt()
        return torch.where(norm > MAX_STEP, MAX_STEP / norm, 1.0)[owner, None] * step


class LBFGS(Minimizer):
    """Limited-memory BFGS without line search, in the compact form.

    Nocedal, Math. Comput. 35, 773 (1980); the product with the inverse Hessian is equation 3.1 of
    Byrd, Nocedal and Schnabel, Math. Program. 63, 129 (1994), which takes a few products for all
    systems where the usual two loops take hundreds. The parameters are those of ASE: 100 steps are
    remembered, the first curvature is 70 eV/angstrom^2, and no atom moves more than 0.2 angstrom.

    Steps and changes of the gradient are kept as ``s`` and ``y`` ``[R, K, 3]``, the newest last,
    zero where a system has fewer; ``sy`` (the upper triangle of ``s_i . y_j``) and ``yy`` are
    ``[B, K, K]``.

    Args:
        memory: Steps that are remembered.
    """

    def __init__(self, memory: int = 100) -> None:
        self._memory = memory
        self._h0 = 1.0 / 70.0

    def fresh(self, sizes: torch.Tensor) -> Rows:
        """Return the state before the first step; see the base class."""
        rows, zero = int(sizes.sum()), torch.zeros((), dtype=torch.float64, device=sizes.device)
        return Rows(
            sizes,
            {name: zero.new_zeros(rows, 3) for name in ("x", "f")}
            | {name: zero.new_zeros(rows, 0, 3) for name in ("s", "y")},
            {name: zero.new_zeros(len(sizes), 0, 0) for name in ("sy", "yy")}
            | {"steps": torch.zeros_like(sizes)},
        )

    def joined(self, state: Rows, fresh: Rows) -> Rows:
        """Return the state of old and new systems; see the base class."""
        length = state.by_row["s"].shape[1]
        for name in ("s", "y"):
            new = fresh.by_row[name]
            fresh.by_row[name] = new.new_zeros(len(new), length, 3)
        for name in ("sy", "yy"):
            new = fresh.by_system[name]
            fresh.by_system[name] = new.new_zeros(len(new), length, length)
        return state.joined(fresh)

    def step(self, state: Rows, x: torch.Tensor, forces: torch.Tensor) -> torch.Tensor:
        """Return how to move; see the base class."""
        owner, count = owners(state.sizes), len(state.sizes)
        self._remember(state, x, forces, owner)
        step = self._product(state, forces, owner)
        longest_step = longest(step, owner, count)
        shorter = torch.where(longest_step >= MAX_STEP, MAX_STEP / longest_step, 1.0)
        state.by_row |= {"x": x, "f": forces}
        state.by_system["steps"] = state.by_system["steps"] + 1
        return shorter[owner, None] * step

    def _remember(
        self, state: Rows, x: torch.Tensor, forces: torch.Tensor, owner: torch.Tensor
    ) -> None:
        """Append the last step of every system that made one."""
        rows, of = state.by_row, state.by_system
        made = int(of["steps"].max())
        if not made:
            return
        older = min(made, self._memory) - 1
        s, y = x - rows["x"], rows["f"] - forces
        # Neither a first step nor one without any curvature says anything.
        has = (of["steps"] > 0) & (dot(s, y, owner, len(state.sizes)) != 0)
        s, y = (torch.where(has[owner, None], v, 0.0) for v in (s, y))
        for name, new in (("s", s), ("y", y)):
            kept = rows[name]
            rows[name] = torch.cat([kept[:, kept.shape[1] - older :], new[:, None]], 1)
        for name, left in (("sy", "s"), ("yy", "y")):
            column = _products(rows[left], y, owner, len(state.sizes))
            kept = of[name]
            start = kept.shape[1] - older
            wider = kept.new_zeros(len(kept), older + 1, older + 1)
            wider[:, :older, :older] = kept[:, start:, start:]
            wider[:, :, older] = column
            if name == "yy":
                wider[:, older, :] = column
            of[name] = wider

    def _product(self, state: Rows, forces: torch.Tensor, owner: torch.Tensor) -> torch.Tensor:
        """Return the inverse Hessian times the forces."""
        s, y, h0 = state.by_row["s"], state.by_row["y"], self._h0
        step = h0 * forces
        if not s.shape[1]:
            return step
        count = len(state.sizes)
        sy, yy = state.by_system["sy"], state.by_system["yy"]
        curvatures = torch.diagonal(sy, dim1=1, dim2=2)
        # Where nothing is remembered, ones on the diagonal make the solution zero.
        triangle = sy + torch.diag_embed((curvatures == 0).to(sy.dtype))
        along_s = _products(s, forces, owner, count)[:, :, None]
        along_y = _products(y, forces, owner, count)[:, :, None]
        u = torch.linalg.solve_triangular(triangle, along_s, upper=True)
        right = curvatures[:, :, None] * u + h0 * (yy @ u) - h0 * along_y
        w = torch.linalg.solve_triangular(triangle.mT, right, upper=False)
        step = step + torch.einsum("rkd,rk->rd", s, w[owner, :, 0])
        return step - h0 * torch.einsum("rkd,rk->rd", y, u[owner, :, 0])


def _products(
    many: torch.Tensor, one: torch.Tensor, owner: torch.Tensor, count: int
) -> torch.Tensor:
    """Return ``[B, K]`` the scalar products of ``[R, K, 3]`` and ``[R, 3]`` in each system."""
    rows = torch.einsum("rkd,rd->rk", many, one)
    return rows.new_zeros(count, many.shape[1]).index_add(0, owner, rows)


#: By the names of ASE's optimizers.
MINIMIZERS: dict[str, type[Minimizer]] = {"FIRE": FIRE, "LBFGS": LBFGS}
