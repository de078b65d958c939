"""The line-oriented parameter file, as the published Torch driver of KIM reads it."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass

from adatom.core.errors import DataError
from adatom.core.files import require_readable
from adatom.deploy.kim.description import ModelDescription, Pattern

_PATTERNS: dict[str, Pattern] = {"none": "raw", "descriptor": "descriptor", "graph": "graph"}
_PREPROCESSING: dict[Pattern, str] = {
    "raw": "None",
    "descriptor": "Descriptor",
    "graph": "Graph",
}


@dataclass(frozen=True, kw_only=True)
class ParameterFile:
    """What a parameter file says.

    Attributes:
        species: Symbols in the order of their codes.
        pattern: How ``forward`` is called.
        cutoff: In angstrom.
        layers: 1 unless the pattern is ``"graph"``.
        model_file: Name of the network's file.
        returns_forces: Whether ``forward`` returns forces, too.
        num_inputs: Number of tensors that ``forward`` takes.
        descriptor: Kind of descriptor in lower case, ``"none"`` where there is none.
    """

    species: tuple[str, ...]
    pattern: Pattern
    cutoff: float
    layers: int
    model_file: str
    returns_forces: bool
    num_inputs: int
    descriptor: str


def parameter_file_text(description: ModelDescription) -> str:
    """Return the parameter file of a model, readable by the published driver too.

    Blocks are separated by one empty line, and there is none inside of a block: the published
    reader counts lines.
    """
    cutoff = [repr(float(description.cutoff))]
    if description.pattern == "graph":
        cutoff.append(str(description.layers))
    blocks: list[tuple[str, list[str]]] = [
        ("Num of elements", [str(len(description.species)), " ".join(description.species)]),
        ("Preprocessing", [_PREPROCESSING[description.pattern]]),
        ("Cutoff and, for graphs, number of layers", cutoff),
        ("Model name", [description.model_file]),
        ("Return forces", [str(description.returns_forces)]),
        ("Number of inputs", [str(description.num_inputs)]),
        ("Descriptor, if any", [description.descriptor or "None"]),
    ]
    return "\n\n".join("\n".join([f"# {title}", *lines]) for title, lines in blocks) + "\n"


def read_parameter_file(path: str | os.PathLike[str]) -> ParameterFile:
    """Read a parameter file word by word; comments run from # to the end of a line.

    Raises:
        FileAccessError: If there is no such file.
        DataError: If something is missing or is not what is expected there.
    """
    text = require_readable(path).read_text(encoding="utf-8")
    try:
        return _parse(word for line in text.splitlines() for word in line.split("#")[0].split())
    except ValueError as error:
        raise DataError(f"The parameter file {str(path)!r} is wrong: {error}") from error


def _parse(words: Iterator[str]) -> ParameterFile:
    species = _species(words)
    word = _next(words, "the preprocessing")
    if word.lower() not in _PATTERNS:
        raise ValueError(
            f"{word!r} stands where the preprocessing (None, Descriptor or Graph) was expected; "
            "there may be more elements than promised"
        )
    pattern = _PATTERNS[word.lower()]
    return ParameterFile(
        species=species,
        pattern=pattern,
        cutoff=_length(_next(words, "the cutoff")),
        layers=_whole(_next(words, "the number of layers"), "layers") if pattern == "graph" else 1,
        model_file=_next(words, "the model file"),
        returns_forces=_truth(_next(words, "whether forces are returned")),
        num_inputs=_whole(_next(words, "the number of inputs"), "inputs"),
        descriptor=next(words, "none").lower(),
    )


def _species(words: Iterator[str]) -> tuple[str, ...]:
    count = _whole(_next(words, "the number of elements"), "elements")
    species: list[str] = []
    for _ in range(count):
        word = _next(words, "the elements")
        if word.lower() in _PATTERNS:
            raise ValueError(f"it promises {count} elements and lists {len(species)}")
        species.append(word)
    return tuple(species)


def _next(words: Iterator[str], what: str) -> str:
    word = next(words, None)
    if word is None:
        raise ValueError(f"it ends before {what}")
    return word


def _whole(word: str, what: str) -> int:
    if not word.isascii() or not word.isdigit() or int(word) < 1:
        raise ValueError(f"{word!r} is no number of {what}")
    return int(word)


def _length(word: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"the cutoff {word!r} is no positive length")
    return value


def _truth(word: str) -> bool:
    if word.lower() not in ("true", "false"):
        raise ValueError(f"{word!r} stands where True or False was expected")
    return word.lower() == "true"
