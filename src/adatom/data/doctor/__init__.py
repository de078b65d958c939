"""The dataset doctor: what is wrong or suspicious in a dataset, and what to do about it."""

from adatom.data.doctor.finding import Finding, Severity
from adatom.data.doctor.registry import check_dataset

__all__ = ["Finding", "Severity", "check_dataset"]
