"""Expert weights merged for one composition at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable

from adatom.data.atomic_data import AtomicData
from adatom.inference.composition import Key
from adatom.tasks.potential import Potential

#: Merged potentials that are kept, newest last: enough for a few runs side by side in threads.
_KEPT = 4


class MergedPotentials:
    """Merged potentials by what they were merged for.

    A potential is never changed after it is made, so one thread may merge while others compute.

    Args:
        merge: From one system to a potential whose experts are merged for it, or None if that is
            not to be trusted.
    """

    def __init__(self, merge: Callable[[AtomicData], Potential | None]) -> None:
        self._merge = merge
        self._lock = threading.RLock()
        # Replaced as a whole and never changed, so that reading needs no lock.
        self._made: dict[Key, Potential] = {}

    def __len__(self) -> int:
        """Return how many are kept."""
        return len(self._made)

    def __contains__(self, key: Key) -> bool:
        """Tell whether a composition is merged."""
        return key in self._made

    def get(self, key: Key, system: AtomicData) -> Potential | None:
        """Return the potential merged for ``key``, made from ``system`` if it is not there."""
        potential = self._made.get(key)
        if potential is not None:
            return potential
        with self._lock:
            potential = self._made.get(key) or self._merge(system)
            if potential is not None and key not in self._made:
                kept = list(self._made.items())[1 - _KEPT :]
                self._made = {**dict(kept), key: potential}
            return potential
