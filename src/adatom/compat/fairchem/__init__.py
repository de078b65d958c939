"""The names that scripts for fairchem-core use: change ``from fairchem.core`` to this module.

What differs is listed in docs/how-to/port-from-fairchem.md.
"""

from adatom.calculators.formation_energy import FormationEnergyCalculator
from adatom.compat.fairchem import pretrained_mlip
from adatom.compat.fairchem.atomic_data import AtomicData, atomicdata_list_to_batch
from adatom.compat.fairchem.calculator import FAIRChemCalculator
from adatom.compat.fairchem.predict_unit import MLIPPredictUnit, load_predict_unit
from adatom.compat.fairchem.settings import InferenceSettings
from adatom.compat.fairchem.structures import (
    get_fcc_carbon_xtal,
    get_fcc_crystal_by_num_atoms,
    get_fcc_crystal_by_num_cells,
)
from adatom.compat.fairchem.task import UMATask

__all__ = [
    "AtomicData",
    "FAIRChemCalculator",
    "FormationEnergyCalculator",
    "InferenceSettings",
    "MLIPPredictUnit",
    "UMATask",
    "atomicdata_list_to_batch",
    "get_fcc_carbon_xtal",
    "get_fcc_crystal_by_num_atoms",
    "get_fcc_crystal_by_num_cells",
    "load_predict_unit",
    "pretrained_mlip",
]
