"""OmegaConf containers, as records of a restricted pickle, into plain Python values."""

from __future__ import annotations

from typing import Any

from adatom.checkpoint.restricted_unpickler import ContainerRecord, ValueRecord
from adatom.core.errors import CheckpointError

_MAX_DEPTH = 40


def plain(value: Any, where: str = "the configuration", depth: int = 0) -> Any:
    """Return dicts, lists and plain values for any mix of dict, list and OmegaConf records.

    Args:
        value: What the pickle held.
        where: Named in messages.
        depth: How deep ``value`` lies; a record may contain itself.

    Raises:
        CheckpointError: If there is something else inside, an interpolation, or no end.
    """
    if depth > _MAX_DEPTH:
        raise CheckpointError(f"The entries of {where} are nested more than {_MAX_DEPTH} deep")
    if isinstance(value, (ContainerRecord, ValueRecord)):
        key = "_content" if isinstance(value, ContainerRecord) else "_val"
        state = value.state
        if not isinstance(state, dict) or key not in state:
            raise CheckpointError(f"An OmegaConf object in {where} has no contents")
        content = state[key]
        if isinstance(content, str) and content.startswith("${"):
            raise CheckpointError(
                f"An entry of {where} is the interpolation {content!r}", expected="its value"
            )
        return plain(content, where, depth + 1)
    if isinstance(value, dict):
        return {
            plain(k, where, depth + 1): plain(v, f"{where}, {k}", depth + 1)
            for k, v in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [plain(item, where, depth + 1) for item in value]
    if value is None or isinstance(value, (str, int, float)):
        return value
    raise CheckpointError(
        f"There is a {type(value).__name__} in {where}", expected="plain settings"
    )
