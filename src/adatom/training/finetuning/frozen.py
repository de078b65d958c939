"""Proof that frozen weights did not change in a training, and that the others did."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from adatom.core.console import say
from adatom.core.errors import AdatomError
from adatom.training.finetuning.lora import plain_name
from adatom.training.sharding import whole

_SHOWN = 4


class FrozenWeightError(AdatomError, RuntimeError):
    """A weight that should have stayed as it was has changed."""


@dataclass(frozen=True, slots=True)
class WeightReport:
    """What a training did to the weights.

    Attributes:
        frozen: Names of weights that were not to change; each has the same bytes as before.
        changed: Names of trained weights that changed.
        unmoved: Names of trained weights with the same bytes as before: nothing in the data
            depends on them.
    """

    frozen: list[str]
    changed: list[str]
    unmoved: list[str]

    def show(self) -> None:
        """Say it in one message."""
        text = (
            f"Weights by SHA-256: {len(self.frozen)} frozen tensors are unchanged, "
            f"{len(self.changed)} of {len(self.changed) + len(self.unmoved)} trained ones changed"
        )
        if self.unmoved:
            more = f" and {len(self.unmoved) - _SHOWN} more" if len(self.unmoved) > _SHOWN else ""
            text += f" (not {', '.join(self.unmoved[:_SHOWN])}{more}: no data depend on them)"
        say(text + ".")


def weight_checksums(module: nn.Module) -> dict[str, str]:
    """Return the SHA-256 of the bytes of each parameter; with several processes on all of them."""
    return {
        name: hashlib.sha256(
            whole(p.detach()).cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
        ).hexdigest()
        for name, p in module.named_parameters()
    }


def require_unchanged(before: Mapping[str, str], module: nn.Module) -> None:
    """Compare the frozen parameters of what was trained with the base.

    Args:
        before: Of the base, see :func:`weight_checksums`.
        module: After the training; low-rank changes are not merged.

    Raises:
        FrozenWeightError: If one has other bytes.
    """
    now = weight_checksums(module)
    frozen = {name for name, p in module.named_parameters() if not p.requires_grad}
    names = {name: plain_name(name) for name in frozen}
    _refuse([name for name, plain in names.items() if plain and now[name] != before.get(plain)])


def compare_weights(
    before: Mapping[str, str], after: Mapping[str, str], trained: Collection[str]
) -> WeightReport:
    """Compare the checksums of a base with those of what was made of it.

    Args:
        before: Of the base, see :func:`weight_checksums`.
        after: Of the fine-tuned potential, with the same names.
        trained: Names that were trained.

    Raises:
        FrozenWeightError: If another one changed, appeared or went away, or no trained one
            changed.
    """
    frozen = sorted(set(before) - set(trained))
    wrong = [name for name in frozen if after.get(name) != before[name]]
    wrong += sorted(set(after) - set(before))
    if wrong:
        raise FrozenWeightError(
            f"{len(wrong)} frozen weights changed during the training: {', '.join(wrong[:_SHOWN])}",
            fix="Please report this; the fine-tuned potential should not be used.",
        )
    changed = sorted(name for name in trained if after.get(name) != before[name])
    if not changed:
        raise FrozenWeightError(
            f"None of the {len(trained)} trained weights changed",
            expected="a training that changes them",
            fix="Give data that depend on them, a higher learning rate, or more steps.",
        )
    unmoved = sorted(set(trained) - set(changed))
    return WeightReport(frozen, changed, unmoved)


def _refuse(wrong: list[str]) -> None:
    if wrong:
        raise FrozenWeightError(
            f"{len(wrong)} frozen weights changed during the training: "
            f"{', '.join(sorted(wrong)[:_SHOWN])}",
            fix="Please report this; the fine-tuned potential should not be used.",
        )
