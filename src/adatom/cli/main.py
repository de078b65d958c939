"""The ``adatom`` command: one verb, then that verb's own arguments."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

from adatom.core.errors import AdatomError, ConfigError, unknown_name

#: Verb to (module, one line of help). A module has ``main(arguments: list[str]) -> None`` and is
#: imported only when its verb is called, so that ``adatom --help`` answers at once.
VERBS: dict[str, tuple[str, str]] = {
    "s2ef": (
        "adatom.cli.s2ef",
        "Train, validate or test a potential on energies and forces",
    ),
    "is2re": (
        "adatom.cli.is2re",
        "Train or test relaxed energies of initial structures; or relax them",
    ),
    "finetune": ("adatom.cli.finetune", "Train a potential further on other data"),
    "evaluate": (
        "adatom.cli.evaluate",
        "Measure a potential on labelled data; write a report",
    ),
    "verify": ("adatom.cli.verify", "Run KIM's verification checks on a potential"),
    "data": ("adatom.cli.data", "Check, describe or split labelled data"),
    "predict": (
        "adatom.cli.predict",
        "Predict energy, forces and stress of structures",
    ),
    "relax": ("adatom.cli.relax", "Relax positions, or positions and cell"),
    "md": ("adatom.cli.md", "Run molecular dynamics: NVE, NVT or NPT"),
    "serve": ("adatom.cli.serve", "Serve potentials to many clients over HTTP"),
    "bench": ("adatom.cli.bench", "Measure how fast a potential is on your own system"),
    "lammps": ("adatom.cli.lammps", "Run a LAMMPS script with forces of a potential"),
    "export": ("adatom.cli.export", "Write a potential in the form that OpenKIM reads"),
    "kim": ("adatom.cli.kim", "Install the OpenKIM driver and portable models; LAMMPS uses them"),
    "models": ("adatom.cli.models", "List potentials, describe a checkpoint"),
}

#: Exit codes: done, wrong input, Ctrl-C and broken pipe (128 plus the signal, as shells do).
OK, WRONG_INPUT, INTERRUPTED, BROKEN_PIPE = 0, 2, 130, 141


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: Without the program's name; None takes ``sys.argv``.

    Returns:
        The exit code: 0, or 2 for wrong input, 130 after Ctrl-C, 141 when the reader of a pipe
        went away.
    """
    try:
        code = _run(list(sys.argv[1:] if arguments is None else arguments))
        sys.stdout.flush()
    except AdatomError as error:
        _complain(str(error))
        return WRONG_INPUT
    except KeyboardInterrupt:
        _complain("Interrupted; files that were complete are kept.")
        return INTERRUPTED
    except BrokenPipeError:
        # Python flushes standard output once more at exit, which must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except OSError as error:
        _complain(_system_message(error))
        return WRONG_INPUT
    return code


def _run(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        sys.stdout.write(_help())
        return OK
    verb, *rest = arguments
    if verb in ("-V", "--version", "version"):
        from adatom import __version__

        sys.stdout.write(f"adatom {__version__}\n")
        return OK
    if verb == "--allow":
        return _run_with_allowed(arguments)
    if verb not in VERBS:
        raise unknown_name("option" if verb.startswith("-") else "verb", verb, VERBS)
    try:
        importlib.import_module(VERBS[verb][0]).main(rest)
    except SystemExit as stop:
        return _code_of(stop)
    return OK


def _run_with_allowed(arguments: list[str]) -> int:
    """Run with the user's own model classes, given as ``--allow package.module.Class``."""
    if len(arguments) < 2:
        raise ConfigError(
            "--allow is not followed by a class",
            expected="the import path of a backbone or head, then a verb",
        )
    from adatom.models.registry import allow

    with allow(arguments[1]):
        return _run(arguments[2:])


def _code_of(stop: SystemExit) -> int:
    """Return the exit code of ``sys.exit(x)``: nothing is 0, a text is shown and means failure."""
    if stop.code is None or isinstance(stop.code, int):
        return stop.code or OK
    _complain(str(stop.code))
    return WRONG_INPUT


def _help() -> str:
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {name:<{width}}  {text}" for name, (_, text) in VERBS.items())
    return (
        "adatom: machine-learned interatomic potentials, from data to dynamics\n\n"
        f"usage: adatom <verb> [arguments]\n\n{verbs}\n\n"
        "  adatom <verb> --help   tells the arguments of a verb\n"
        "  adatom --version       tells the version\n"
        "  adatom --allow package.module.Class <verb> ...   lets checkpoints name your own model\n"
    )


def _system_message(error: OSError) -> str:
    name = f" {str(error.filename)!r}" if error.filename else ""
    return f"The system refused a file operation{name}: {error.strerror or error}."


def _complain(message: str) -> None:
    sys.stderr.write(f"adatom: {message}\n")
