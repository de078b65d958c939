"""Names of the potentials that fairchem publishes, and where their files are.

Source: shared/reference/uma.md, section 4.3 (facts about fairchem-core 2.24.0). All repositories
are on huggingface.co and need an account whose request for access was accepted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from adatom.core.errors import UnknownNameError, did_you_mean

#: Tables that go with a checkpoint: energies of isolated atoms, and of elements as references of
#: formation energies.
ReferenceKind = Literal["atom_refs", "form_elem_refs"]


@dataclass(slots=True, frozen=True)
class Published:
    """Where a published potential is.

    Attributes:
        repo_id: Repository.
        filename: Path of the checkpoint in it.
        atom_refs: Path of the energies of isolated atoms, or None.
        form_elem_refs: Path of the reference energies of elements, or None.
        revision: Branch, tag or commit; None means the newest.
    """

    repo_id: str
    filename: str
    atom_refs: str | None = None
    form_elem_refs: str | None = None
    revision: str | None = None


_ATOMS = "references/iso_atom_elem_refs.yaml"
_FORMATION = "references/form_elem_refs.yaml"


def _uma(name: str, *, references: bool = True) -> Published:
    tables = (_ATOMS, _FORMATION) if references else (None, None)
    return Published("facebook/UMA", f"checkpoints/{name}.pt", *tables)


def _omol(file: str) -> Published:
    return Published("facebook/OMol25", f"checkpoints/{file}.pt", _ATOMS)


def _oc25(file: str) -> Published:
    return Published("facebook/OC25", f"checkpoints/{file}.pt", _ATOMS)


def _odac25(file: str) -> Published:
    return Published("facebook/ODAC25", f"checkpoints/{file}.pt", "references/odac_elem_refs.yaml")


PUBLISHED: Mapping[str, Published] = MappingProxyType(
    {
        "uma-s-1p2p1": _uma("uma-s-1p2p1"),
        "uma-s-1p2": _uma("uma-s-1p2"),
        "uma-s-1p1": _uma("uma-s-1p1"),
        "uma-m-1p1": _uma("uma-m-1p1"),
        "uma-s-1p2p1-ft-d4rev": _uma("uma-s-1p2p1-ft-d4rev", references=False),
        "uma-s-1p2p1-ft-r2scan": _uma("uma-s-1p2p1-ft-r2scan", references=False),
        "esen-md-direct-all-omol": _omol("esen_md_direct_all"),
        "esen-sm-conserving-all-omol": _omol("esen_sm_conserving_all"),
        "esen-sm-direct-all-omol": _omol("esen_sm_direct_all"),
        "esen-sm-conserving-all-oc25": _oc25("esen_sm_conserve"),
        "esen-md-direct-all-oc25": _oc25("esen_md_direct"),
        "esen-sm-filtered-odac25": _odac25("esen_sm_odac25_filtered"),
        "esen-sm-full-odac25": _odac25("esen_sm_odac25_full"),
    }
)

#: Names that can be met in scripts and papers but are not to be had, each with the reason.
_GONE: Mapping[str, str] = MappingProxyType(
    {
        "uma-sm": "was renamed to 'uma-s-1', which is UMA 1.0 and no longer supported",
        "uma-s-1": "is UMA 1.0, which computes something else and is no longer supported",
        "uma-s": "needs a version",
        "uma-m": "needs a version",
        "allscaip-md-conserving-all-omol": "is of another architecture, which adatom has not",
        "allscaip-md-direct-all-omol": "is of another architecture, which adatom has not",
    }
)
_INSTEAD = {"uma-m": "uma-m-1p1"}


def published(name: str) -> Published:
    """Return where a published potential is.

    Raises:
        UnknownNameError: If there is none of that name; a withdrawn or renamed one is explained.
    """
    known = ", ".join(PUBLISHED)
    if name in _GONE:
        raise UnknownNameError(
            f"The potential {name!r} {_GONE[name]}",
            expected=f"one of: {known}",
            fix=f"Use {_INSTEAD.get(name, 'uma-s-1p2p1')!r}." if name.startswith("uma") else None,
        )
    if name not in PUBLISHED:
        raise UnknownNameError(
            f"There is no published potential {name!r}{did_you_mean(name, PUBLISHED)}",
            expected=f"one of: {known}",
        )
    return PUBLISHED[name]


def is_withdrawn(name: str) -> bool:
    """Tell whether a name is known, but nothing can be loaded by it."""
    return name in _GONE
