"""What can go wrong in a simulation."""

from __future__ import annotations

from adatom.core.errors import AdatomError


class SimulationError(AdatomError, RuntimeError):
    """A simulation cannot go on: the energy is not finite, or the atoms fly apart."""
