"""Which copy of a potential computes what: modes of execution, merged experts, trust."""

from __future__ import annotations

import threading
import warnings
from collections import deque
from collections.abc import Callable, Sequence

from adatom.core.mapped_file import release_pages
from adatom.data.atomic_data import AtomicData
from adatom.inference.composition import Compositions, Key
from adatom.inference.merging import MergedPotentials
from adatom.inference.private_copy import sharing_weights
from adatom.inference.settings import InferenceSettings
from adatom.inference.verification import Agreement, compare, sample_of
from adatom.models.base import Execution
from adatom.tasks.potential import Potential

#: Bytes kept per call for the backward pass, unless activation_checkpointing says none.
KEPT_BYTES = 2**28
#: Edges per tile when memory is short.
_LEAN_EDGES = 128
#: Smaller weights stay in memory.
_RELEASED_BYTES = 2**20
#: A new composition is merged if it is among this many that came last: a stream of ever new ones
#: would pay for each merging once and never use it again.
_RECENT = 4


class InferenceWarning(UserWarning):
    """The fast path was left; the numbers are right, the speed is not what it could be."""


class Engine:
    """Chooses, per batch, the fastest copy of a potential that was found to be right.

    Args:
        potential: Frozen, on its device and in its dtype; left as it is.
        settings: What may be chosen.
        merge: From the unmerged potential and one system to the potential merged for it.
        sample: From a batch to the small system that fast paths are compared on.
        kept_bytes: Kept per call for the backward pass, unless the settings say none.

    Attributes:
        notes: What was chosen and why, by topic, in plain words.
    """

    def __init__(
        self,
        potential: Potential,
        settings: InferenceSettings,
        merge: Callable[[Potential, AtomicData], Potential],
        sample: Callable[..., AtomicData] = sample_of,
        kept_bytes: int = KEPT_BYTES,
    ) -> None:
        self._potential = potential
        self._kept_bytes = kept_bytes
        self._sample = sample
        self._settings = settings
        self._exact = Compositions(potential).exact
        self._lock = threading.RLock()
        self._unmerged: Potential | None = None
        self._released = False
        self._mode: dict[bool, str] = {}
        self._said: set[str] = set()
        self._recent: deque[Key] = deque(maxlen=_RECENT)
        self.notes: dict[str, str] = {}
        experts = getattr(potential.backbone, "init_args", {}).get("num_experts", 0)
        self._merged: MergedPotentials | None = None
        if not settings.merge_mole:
            self.notes["experts"] = (
                "Expert weights are summed per composition and remembered; all stay in memory."
                if experts
                else "The model has no experts, so there is nothing to merge."
            )
        elif not experts:
            self.notes["experts"] = "The model has no experts, so there is nothing to merge."
        else:
            self.notes["experts"] = "Experts are merged for the first composition that comes."
            self._merged = MergedPotentials(lambda system: self._make(merge, system))

    @property
    def mode(self) -> str | None:
        """The mode of execution last chosen, or None before the first prediction."""
        return self._mode.get(True) or self._mode.get(False)

    def ready(self, batch: AtomicData, keys: Sequence[Key]) -> Potential:
        """Return the potential that shall compute a batch.

        Args:
            batch: With edges, on the device.
            keys: What each system is made of.
        """
        if self._merged is not None:
            key = keys[0]
            if all(other == key for other in keys):
                merged = self._for_composition(key, batch)
                if merged is not None:
                    return merged
            else:
                self._warn_once(
                    "mixed",
                    "A batch has several compositions, charges, spins or datasets: it is computed "
                    "with the unmerged weights. Batches of one kind stay merged. For mixed input "
                    "the settings 'default' or 'batch' are made.",
                )
        if self._unmerged is None:
            with self._lock:
                if self._unmerged is None:
                    found = self._trusted(self._potential, batch, merged=False)
                    self._unmerged = self._potential if found is None else found
        return self._unmerged

    def finished(self, keys: Sequence[Key]) -> None:
        """Give back the memory of mapped weights once the experts are merged for a composition.

        Merging and the comparison with the plain computation read all experts; a run on one
        composition uses only their sums from then on. It is done once: who computes many
        compositions reads the experts for each, and pages that come again cost most of a second.

        Args:
            keys: Of the batch that was computed.
        """
        if not self._released and len(set(keys)) == 1:
            self._released = True
            release_mapped(self._potential)

    def lean(self, potential: Potential) -> Potential:
        """Return a copy that needs the least memory."""
        execution = potential.backbone.execution
        return sharing_weights(potential, Execution(execution.mode, _LEAN_EDGES, 0))

    def _for_composition(self, key: Key, batch: AtomicData) -> Potential | None:
        """Return the potential merged for a composition, or None if merging is not trusted."""
        # Read once: another thread may replace it, and a whole potential is never half made.
        merged = self._merged
        if merged is None:
            return None
        if key in merged:
            return merged.get(key, batch)
        with self._lock:
            if self._merged is None:
                return None
            if len(merged):
                self._warn_once(
                    "composition",
                    "The composition, charge, spin or dataset changed: the unmerged weights serve "
                    "at first, and the experts are merged again for what comes twice. For "
                    "changing input the settings 'default' or 'batch' are made.",
                )
                if key not in self._recent:
                    self._recent.append(key)
                    return None
            potential = merged.get(key, batch)
            if potential is None:
                self._merged = None
                return None
            count = len(merged)
            self.notes["experts"] = f"Experts are merged for {_named(key)}" + (
                f", and for {count - 1} other compositions." if count > 1 else "."
            )
            return potential

    def _make(
        self, merge: Callable[[Potential, AtomicData], Potential], batch: AtomicData
    ) -> Potential | None:
        system = batch if batch.num_systems == 1 else batch.unbatch()[0]
        base = merge(self._potential, system).eval().requires_grad_(False)
        return self._trusted(base, system, merged=True)

    def _trusted(self, base: Potential, batch: AtomicData, *, merged: bool) -> Potential | None:
        """Return a copy in the best mode that agrees with the plain computation, if any does."""
        known = self._mode.get(merged)
        if known is not None:
            return sharing_weights(base, self._execution(known))
        plain = sharing_weights(self._potential, self._execution("general"))
        sample: AtomicData | None = None
        skipped: list[str] = []
        for mode in self._modes():
            candidate = sharing_weights(base, self._execution(mode))
            reason = candidate.backbone.unavailable(mode)
            if reason is not None:
                skipped.append(f"'{mode}' is not available: {reason}")
                continue
            if mode == "general" and not merged:
                return self._accept(candidate, mode, skipped, None, merged=merged)
            if sample is None:
                sample = self._sample(
                    batch,
                    base.cutoff,
                    exact=self._exact,
                    max_neighbors=base.max_neighbors,
                )
            agreement = compare(candidate, plain, sample)
            if agreement.trusted:
                return self._accept(candidate, mode, skipped, agreement, merged=merged)
            what = f"{'merged, ' if merged else ''}{mode}"
            skipped.append(f"'{mode}' is not trusted: {agreement.text}")
            self._warn_once(
                what,
                f"The fast path ({what}) does not agree with the plain one, which is used instead "
                f"({agreement.text}). Please report this with the output of unit.explain().",
            )
        # Only merged weights can fail in every mode.
        self.notes["experts"] = "Merging is not trusted: " + "; ".join(skipped)
        return None

    def _accept(
        self,
        potential: Potential,
        mode: str,
        skipped: Sequence[str],
        agreement: Agreement | None,
        *,
        merged: bool,
    ) -> Potential:
        self._mode[merged] = mode
        reasons = "".join(f" {reason.rstrip('.')}." for reason in skipped)
        why = (
            "the fastest that is available and trusted"
            if self._settings.execution_mode is None
            else f"the settings say {self._settings.execution_mode!r}"
        )
        self.notes["execution"] = f"{_MODE_WORDS[mode]} ({why}).{reasons}"
        self.notes["trust"] = (
            "This is the plain computation itself."
            if agreement is None
            else f"Compared with the plain computation on the first input; {agreement.text}."
        )
        return potential

    def _modes(self) -> list[str]:
        if self._settings.execution_mode is not None:
            wanted = self._settings.execution_mode
            return [wanted] if wanted == "general" else [wanted, "general"]
        return [*(["compiled"] if self._settings.compile else []), "tiled", "general"]

    def _execution(self, mode: str) -> Execution:
        kept = 0 if self._settings.activation_checkpointing else self._kept_bytes
        return Execution(mode, self._settings.edge_chunk_size, kept)  # type: ignore[arg-type]

    def _warn_once(self, topic: str, message: str) -> None:
        with self._lock:
            if topic in self._said:
                return
            self._said.add(topic)
        warnings.warn(message, InferenceWarning, stacklevel=2)


_MODE_WORDS = {
    "general": "Execution 'general': plain autograd",
    "tiled": "Execution 'tiled': tile by tile in PyTorch, with a hand-written adjoint",
    "compiled": "Execution 'compiled': tile by tile, in a kernel compiled for this machine",
}


def release_mapped(potential: Potential) -> None:
    """Give back the memory of weights that lie in a mapped file, until they are used again."""
    for weights in potential.parameters():
        if weights.nbytes >= _RELEASED_BYTES:
            release_pages(weights)


def _named(key: Key) -> str:
    from ase.data import chemical_symbols

    charge, spin, dataset, formula = key
    symbols = "".join(f"{chemical_symbols[z]}{n if n > 1 else ''}" for z, n in formula)
    return f"{symbols} (charge {charge}, spin {spin}, dataset {dataset!r})"
