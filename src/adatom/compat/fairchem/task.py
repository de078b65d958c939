"""The names of UMA's tasks."""

from __future__ import annotations

from enum import StrEnum


class UMATask(StrEnum):
    """What UMA was trained on; a member can be used wherever a task name can."""

    OMOL = "omol"
    OMAT = "omat"
    ODAC = "odac"
    OC20 = "oc20"
    OC25 = "oc25"
    OMC = "omc"
