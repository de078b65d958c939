"""Verification checks of KIM for any ASE calculator: is a potential what it says it is?

The definitions are those of the checks of openkim.org, with structures that fit the elements.
"""

from adatom.evaluate.verification.records import CheckResult, Finding, Verification
from adatom.evaluate.verification.registry import CHECKS
from adatom.evaluate.verification.subject import Subject
from adatom.evaluate.verification.verify import verify

__all__ = ["CHECKS", "CheckResult", "Finding", "Subject", "Verification", "verify"]
