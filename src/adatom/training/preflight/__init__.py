"""A look at a training before its first step, which changes nothing of it."""

from adatom.training.preflight.callback import Preflight, PreflightDone

__all__ = ["Preflight", "PreflightDone"]
