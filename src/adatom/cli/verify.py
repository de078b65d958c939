"""``adatom verify MODEL``: KIM's verification checks for a potential."""

from __future__ import annotations

from pathlib import Path

from adatom.cli.arguments import run_function
from adatom.cli.loading import Precision, load_unit


def main(arguments: list[str]) -> None:
    """Run the verb."""
    run_function(verify_model, arguments, "adatom verify")


def verify_model(
    model: str,
    *,
    task: str | None = None,
    charge: int | None = None,
    spin: int | None = None,
    checks: list[str] | None = None,
    json: str | None = None,
    dtype: Precision = "float64",
    device: str = "cpu",
) -> None:
    """Check that a potential is what it says it is: symmetries, forces, cutoff, threads, memory.

    The exit code is 1 if a mandatory or consistency check failed.

    Args:
        model: Checkpoint file, or the name of a known potential such as "default".
        task: Dataset of the potential; needed if it has several.
        charge: Total charge of all structures, if the task needs one.
        spin: Multiplicity of all structures, if the task needs one.
        checks: Some of the checks, such as [forces, dimers]; all without it.
        json: File for the results.
        dtype: Precision of the network; the limits follow it.
        device: Where to compute.
    """
    from adatom.cli.loading import warnings_as_messages
    from adatom.cli.verification_table import report
    from adatom.core.files import require_writable
    from adatom.evaluate.verification import verify
    from adatom.evaluate.verification.potential_subject import potential_subject

    if json is not None:
        require_writable(json)
    with warnings_as_messages():
        unit = load_unit(model, device=device, dtype=dtype)
        subject = potential_subject(unit, Path(model).name, task, charge=charge, spin=spin)
        result = verify(subject, checks)
    report(result, json)
