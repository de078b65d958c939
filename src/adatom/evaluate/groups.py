"""Configuration types: what kind of structure each one is, as its file says."""

from __future__ import annotations

from adatom.core.errors import MissingLabelError
from adatom.data.structure_dataset import StructureDataset

#: Info keys that usually hold a configuration type, tried in this order.
GROUP_KEYS = ("config_type", "group", "configuration_type")


def configuration_groups(systems: StructureDataset, key: str | None = None) -> list[str] | None:
    """Read the configuration type of each structure.

    Args:
        systems: The opened file.
        key: Info key to read; None tries the usual ones and accepts that there is none.

    Returns:
        One name per structure ("none" where a structure lacks the key), or None.

    Raises:
        MissingLabelError: If ``key`` is given and no structure has it.
    """
    infos = [systems.info(i) for i in range(len(systems))]
    for name in (key,) if key else GROUP_KEYS:
        if any(name in info for info in infos):
            return [str(info.get(name, "none")) for info in infos]
    if key is None:
        return None
    there = sorted({name for info in infos for name in info})
    raise MissingLabelError(
        f"No structure of {systems.path} has the info key {key!r}",
        expected=f"one of: {', '.join(there) or '(there are none)'}",
    )
