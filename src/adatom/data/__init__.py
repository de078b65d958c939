"""From files to checked structures: ``AtomicData``, readers, labels and units."""

from adatom.data.ase_convert import from_ase, to_ase
from adatom.data.atomic_data import AtomicData, collate
from adatom.data.open_dataset import open_dataset
from adatom.data.structure_dataset import StructureDataset
from adatom.data.validation import validate
from adatom.data.writers import with_predictions, write_structures

__all__ = [
    "AtomicData",
    "StructureDataset",
    "collate",
    "from_ase",
    "open_dataset",
    "to_ase",
    "validate",
    "with_predictions",
    "write_structures",
]
