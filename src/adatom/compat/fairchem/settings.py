"""InferenceSettings as fairchem-core's scripts write them."""

from __future__ import annotations

import warnings
from typing import Any, Self

from adatom.inference import settings as own

#: Presets of fairchem-core that have another name here.
_RENAMED = {"nitro": "turbo", "multigpu": "turbo"}
_ITS_MODES = ("umas_fast_pytorch", "umas_fast_gpu")


class InferenceSettings(own.InferenceSettings):
    """Settings that also take what only fairchem-core has, with a warning that says why not.

    Args:
        **given: See :class:`adatom.inference.settings.InferenceSettings`.

    Raises:
        ConfigError: If a value cannot be used.
        UnknownNameError: If there is no such setting in either package.
    """

    def __new__(cls, **given: Any) -> Self:
        """Leave out what does not exist here."""
        return super().__new__(cls, **_kept(given, warn=False))

    def __init__(self, **given: Any) -> None:
        super().__init__(**_kept(given, warn=True))


def settings_of(settings: own.InferenceSettings | str | None) -> own.InferenceSettings:
    """Return settings by name, also by fairchem-core's.

    Args:
        settings: A preset's name or settings; None means the default.

    Raises:
        UnknownNameError: If there is no such preset.
    """
    if isinstance(settings, str) and settings in _RENAMED:
        warnings.warn(
            f"The preset {settings!r} of fairchem-core is {_RENAMED[settings]!r} here.",
            UserWarning,
            stacklevel=3,
        )
        settings = _RENAMED[settings]
    return own.inference_settings(settings)


def _kept(given: dict[str, Any], *, warn: bool) -> dict[str, Any]:
    kept = {}
    for name, value in given.items():
        reason = None
        if name in own.DROPPED:
            reason = f"The setting {name!r} is left out: {own.DROPPED[name][0]}."
        elif name == "execution_mode" and value in _ITS_MODES:
            reason = f"The execution_mode {value!r} is left out: the fastest mode is chosen."
        if reason is None:
            kept[name] = value
        elif warn and value not in (None, False):
            warnings.warn(reason, UserWarning, stacklevel=3)
    return kept
