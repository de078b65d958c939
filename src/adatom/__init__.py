"""Machine-learned interatomic potentials, from labelled structures to running simulations.

Every public name is imported on first use, so that ``import adatom`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adatom.calculators.ase_calculator import MLIPCalculator
    from adatom.calculators.formation_energy import FormationEnergyCalculator
    from adatom.calculators.remote import RemoteCalculator
    from adatom.checkpoint.format import load_potential, save_potential
    from adatom.data.atomic_data import AtomicData
    from adatom.data.open_dataset import open_dataset
    from adatom.inference import pretrained_mlip
    from adatom.inference.batcher import InferenceBatcher
    from adatom.inference.parallel.predict_unit import ParallelMLIPPredictUnit
    from adatom.inference.predict_unit import MLIPPredictUnit
    from adatom.inference.settings import InferenceSettings
    from adatom.simulate.md import run_md
    from adatom.simulate.relax import relax
    from adatom.tasks.potential import Potential

__version__ = "0.1.0"

__all__ = [
    "AtomicData",
    "FormationEnergyCalculator",
    "InferenceBatcher",
    "InferenceSettings",
    "MLIPCalculator",
    "MLIPPredictUnit",
    "ParallelMLIPPredictUnit",
    "Potential",
    "RemoteCalculator",
    "__version__",
    "load_potential",
    "open_dataset",
    "pretrained_mlip",
    "relax",
    "run_md",
    "save_potential",
]

_HOMES = {
    "AtomicData": "adatom.data.atomic_data",
    "FormationEnergyCalculator": "adatom.calculators.formation_energy",
    "InferenceBatcher": "adatom.inference.batcher",
    "InferenceSettings": "adatom.inference.settings",
    "MLIPCalculator": "adatom.calculators.ase_calculator",
    "MLIPPredictUnit": "adatom.inference.predict_unit",
    "ParallelMLIPPredictUnit": "adatom.inference.parallel.predict_unit",
    "Potential": "adatom.tasks.potential",
    "RemoteCalculator": "adatom.calculators.remote",
    "load_potential": "adatom.checkpoint.format",
    "open_dataset": "adatom.data.open_dataset",
    "pretrained_mlip": "adatom.inference",
    "relax": "adatom.simulate.relax",
    "run_md": "adatom.simulate.md",
    "save_potential": "adatom.checkpoint.format",
}


def __getattr__(name: str) -> Any:
    """Import a public name on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module 'adatom' has no attribute {name!r}")
    home = importlib.import_module(_HOMES[name])
    if not hasattr(home, name):  # a module that was not imported yet
        importlib.import_module(f"{_HOMES[name]}.{name}")
    value = getattr(home, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
