"""Predict units by the names of published checkpoints."""

from __future__ import annotations

from adatom.compat.fairchem.predict_unit import load_predict_unit

__all__ = ["get_predict_unit", "load_predict_unit"]

#: Loads a checkpoint by name or path.
get_predict_unit = load_predict_unit
