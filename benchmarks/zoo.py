"""The model zoo: ``python -m benchmarks.zoo``.

Trains every backbone on the same real structures with the same budget, through ``adatom s2ef fit``
and ``adatom is2re fit``, and writes ``docs/model-zoo.md``. A backbone that is done is not trained
again, and one that was interrupted continues where it was; what is done stands in the folder of
``--output``.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from adatom.core.console import say
from adatom.core.errors import AdatomError, ConfigError, unknown_name
from adatom.core.files import atomic_write
from benchmarks.records import load_average
from benchmarks.workers import ROOT
from benchmarks.zoo_models import MODELS
from benchmarks.zoo_page import write_page
from benchmarks.zoo_sets import SETS, ZooSet
from benchmarks.zoo_training import Budget, Training, circumstances_of, measure


def result_of(zoo_set: ZooSet, name: str, folder: Path, budget: Budget) -> dict[str, Any]:
    """Return the results of one backbone on one set, training it if they are not there.

    Raises:
        ConfigError: If the folder holds results of another budget or other settings, or the
            training fails.
    """
    training = Training(zoo_set, name, folder, budget)
    wanted = {"budget": budget.description, "configuration": training.configuration}
    stored = folder / "result.json"
    if stored.exists():
        found: dict[str, Any] = json.loads(stored.read_text())
        if {key: found[key] for key in wanted} != json.loads(json.dumps(wanted)):
            raise ConfigError(
                f"{str(stored)!r} holds results of another budget or configuration",
                fix="Take the same options as then, another --output, or delete that folder.",
            )
        say(f"{zoo_set.verb}, {name}: done before.")
        return found
    load = load_average()
    training.run()
    result = wanted | measure(training) | circumstances_of(load)
    with atomic_write(stored) as part:
        part.write_text(json.dumps(result, indent=1) + "\n")
    return result


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, compare, and write the page.

    Raises:
        ConfigError: If a training fails, or the folder holds results of other options.
    """
    options = _options(arguments)
    budget = Budget(options.seconds, options.structures)
    results: dict[str, dict[str, Any]] = {}
    sets: dict[str, ZooSet] = {}
    for task in options.sets:
        sets[task] = SETS[task](options.output / task)
        results[task] = {
            name: result_of(sets[task], name, options.output / task / name, budget)
            for name in options.backbones
        }
    command = shlex.join(sys.argv[1:] if arguments is None else list(arguments))
    write_page(options.page, sets, results, f"python -m benchmarks.zoo {command}".strip())
    say(f"Wrote {options.page}.")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.zoo", description=__doc__)
    parser.add_argument(
        "--seconds", type=float, default=None, help="optimizer steps take this long (default 240)"
    )
    parser.add_argument(
        "--structures", type=int, default=None, help="structures seen, instead of seconds"
    )
    parser.add_argument("--sets", type=_listed("set", list(SETS)), default=list(SETS))
    parser.add_argument("--backbones", type=_listed("backbone", list(MODELS)), default=list(MODELS))
    parser.add_argument("--output", type=Path, default=ROOT / "runs" / "zoo")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "model-zoo.md")
    options = parser.parse_args(arguments)
    if options.seconds is not None and options.structures is not None:
        raise ConfigError("Both --seconds and --structures are given", expected="one of them")
    if options.seconds is None and options.structures is None:
        options.seconds = 240.0
    return options


def _listed(kind: str, choices: list[str]) -> Any:
    def parse(text: str) -> list[str]:
        names = [name.strip() for name in text.split(",")]
        for name in names:
            if name not in choices:
                raise unknown_name(kind, name, choices)
        return names

    return parse


if __name__ == "__main__":
    try:
        main()
    except AdatomError as error:
        sys.exit(str(error))
