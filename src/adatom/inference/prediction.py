"""What a predict unit returns."""

from __future__ import annotations

import torch

from adatom.core.errors import MissingLabelError


class Prediction(dict[str, torch.Tensor]):
    """Detached tensors by property name, one row per system or atom in input order.

    ``energy [B]`` and ``energies [N]`` in eV, float64; ``forces [N, 3]`` in eV/angstrom, in the
    potential's dtype; ``stress [B, 3, 3]`` in eV/angstrom^3, float64. A property that none of the
    systems has is not a key, and asking for it says why. Where only some systems have it, the rows
    of the others are NaN and named in :attr:`absent`.

    Args:
        values: The tensors.
        sids: One identifier per system.
        absent: Reasons, by property and index of the system.
    """

    def __init__(
        self,
        values: dict[str, torch.Tensor],
        sids: list[str],
        absent: dict[str, dict[int, str]],
    ) -> None:
        super().__init__(values)
        self.sids = sids
        self.absent = absent

    def __missing__(self, name: str) -> torch.Tensor:
        """Say why a property is not there.

        Raises:
            MissingLabelError: Always.
        """
        reasons = self.absent.get(name)
        if not reasons:
            raise MissingLabelError(
                f"The property {name!r} was not predicted",
                expected=f"one of: {', '.join(self)}",
                fix="Name it in the argument 'properties'.",
            )
        first, reason = next(iter(reasons.items()))
        others = f" (and {len(reasons) - 1} others)" if len(reasons) > 1 else ""
        raise MissingLabelError(f"Structure {self.sids[first]!r}{others} has no {name}: {reason}")
