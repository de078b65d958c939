"""The file that describes a descriptor, as kliff and libdescriptor write it.

Words in this order; a comment runs from # to the end of its line, and layout does not matter here
(the published reader wants lines, which are written):

================= ================================================================================
all kinds         ``cos`` (the cutoff function), number of species, rows of two species and their
                  cutoff in angstrom, each pair once or both ways
SymmetryFunctions number of types; per type its name, rows and columns, then that many numbers
                  (``eta Rs``, ``kappa``, or ``zeta lambda eta``; g1 has none, or one that is
                  not used). At the end ``center_and_normalize`` False, or True with the number
                  of values, means and standard deviations
Bispectrum        jmax, rfac0, diagonalstyle, rmin0, switch_flag, bzero_flag, a weight per species
SOAP              n_max, l_max, cutoff, radial_basis, eta
================= ================================================================================

The published reader of SOAP knows another order, without what all kinds have: n_max, l_max,
cutoff, eta, radial_basis, number of species, species. There is no cutoff function then.

The file does not name its kind; the parameter file of the model does.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from adatom.core.errors import AdatomError, ConfigError, DataError, unknown_name
from adatom.core.files import require_readable
from adatom.deploy.kim.descriptor_words import Words, is_number
from adatom.nn.descriptors.base import Descriptor
from adatom.nn.descriptors.bispectrum import Bispectrum
from adatom.nn.descriptors.build import KINDS, build_descriptor
from adatom.nn.descriptors.soap import SOAP
from adatom.nn.descriptors.symmetry_functions import PARAMETERS, SymmetryFunctions

_RULE = "#" + "=" * 80


@dataclass(frozen=True)
class DescriptorFile:
    """What a file says.

    Attributes:
        settings: For :func:`adatom.nn.descriptors.build.build_descriptor`: ``kind`` and arguments;
            species in the order of the file.
    """

    settings: Mapping[str, Any]

    @property
    def species(self) -> tuple[str, ...]:
        """Chemical symbols, in the order of the file."""
        return tuple(self.settings["species"])

    def descriptor(self, species: Sequence[str] | None = None) -> Descriptor:
        """Build the descriptor in float64.

        Args:
            species: In the order of the codes; None takes that of the file.

        Raises:
            ConfigError: If the species are others than those of the file.
        """
        settings = dict(self.settings)
        if species is not None:
            if sorted(species) != sorted(self.species):
                raise ConfigError(
                    f"The descriptor file is for {', '.join(self.species)}",
                    expected=f"the model's species {', '.join(species)}",
                )
            if "weights" in settings:
                of = dict(zip(self.species, settings["weights"], strict=True))
                settings["weights"] = [of[symbol] for symbol in species]
            settings["species"] = list(species)
        return build_descriptor(settings).double()


def read_descriptor_file(path: str | os.PathLike[str], kind: str) -> DescriptorFile:
    """Read a descriptor file.

    Args:
        path: Of the file.
        kind: As in the parameter file, in upper or lower case: ``SymmetryFunctions``,
            ``Bispectrum`` or ``SOAP``.

    Raises:
        FileAccessError: If there is no such file.
        UnknownNameError: If the kind is unknown.
        DataError: If something is missing, is not what is expected there, or is too much.
    """
    known = {name.lower(): name for name in KINDS}
    if kind.lower() not in known:
        raise unknown_name("kind of descriptor", kind, KINDS)
    kind = known[kind.lower()]
    words = Words(require_readable(path).read_text(encoding="utf-8"))
    try:
        settings = {"kind": kind, **_read(kind, words)}
        if words:
            raise DataError(f"It has {words.peek()!r} where it should end")
        build_descriptor(settings)
    except AdatomError as error:
        raise DataError(f"The descriptor file {str(path)!r} is wrong: {error}") from error
    return DescriptorFile(settings)


def descriptor_file_text(descriptor: Descriptor) -> str:
    """Return the file of a descriptor; numbers are written exactly.

    Raises:
        ConfigError: If the file cannot say what the descriptor does.
    """
    species = descriptor.species
    rows = [
        f"{a}  {b}  {descriptor.cutoffs[i][j]!r}"
        for i, a in enumerate(species)
        for j, b in enumerate(species)
    ]
    head = [
        "# Descriptor parameters, written by adatom.",
        "cos  # cutoff type",
        f"{len(species)}  # number of species",
        "\n".join(["# species 1    species 2    cutoff", *rows]),
    ]
    if isinstance(descriptor, SymmetryFunctions):
        return "\n\n".join(head + _symmetry_function_blocks(descriptor)) + "\n"
    if isinstance(descriptor, SOAP):
        return "\n\n".join(_soap_blocks(descriptor, head)) + "\n"
    if isinstance(descriptor, Bispectrum):
        return "\n\n".join(head + _bispectrum_blocks(descriptor)) + "\n"
    raise ConfigError(
        f"{type(descriptor).__name__} has no file format", expected=f"one of: {', '.join(KINDS)}"
    )


def _read(kind: str, words: Words) -> dict[str, Any]:
    if kind == "SOAP" and is_number(words.peek()):
        return _read_published_soap(words)
    function = words.take("the cutoff function")
    if function != "cos":
        raise DataError(
            f"It has {function!r} for the cutoff function",
            expected="cos, the only one",
            fix="Numbers come first in files of early versions, which are not read."
            if is_number(function)
            else None,
        )
    species, cutoffs = words.pair_cutoffs()
    found: dict[str, Any] = {"species": list(species), "cutoffs": cutoffs}
    if kind == "Bispectrum":
        return found | _read_bispectrum(words, len(species))
    if kind == "SOAP":
        return found | _read_soap(words, max(cutoffs.values()))
    return found | _read_symmetry_functions(words)


def _read_symmetry_functions(words: Words) -> dict[str, Any]:
    functions: list[list[str | float]] = []
    for _ in range(words.whole("the number of types of symmetry functions", least=1)):
        name = words.take("the name of a symmetry function").lower()
        if name not in PARAMETERS:
            raise unknown_name("symmetry function", name, PARAMETERS)
        functions += _read_rows(words, name)
    if words.peek().lower() == "center_and_normalize":
        words.take("center_and_normalize")
        _read_normalization(words, len(functions))
    return {"functions": functions}


def _read_rows(words: Words, name: str) -> list[list[str | float]]:
    wanted = PARAMETERS[name]
    # A g1 may come without any numbers.
    if name == "g1" and not is_number(words.peek()):
        return [[name]]
    rows = words.whole(f"the number of rows of {name}", least=1)
    columns = words.whole(f"the number of columns of {name}")
    if columns != len(wanted) and not (name == "g1" and columns == 1):
        raise DataError(
            f"It has {columns} columns for {name}", expected=f"{len(wanted)}: {' '.join(wanted)}"
        )
    values = [[words.number(f"a parameter of {name}") for _ in range(columns)] for _ in range(rows)]
    return [[name, *row[: len(wanted)]] for row in values]


def _read_normalization(words: Words, width: int) -> None:
    """Skip numbers that change nothing; published drivers ignore all of them."""
    wanted = words.flag("center_and_normalize")
    if not words and not wanted:
        return
    size = words.whole("the number of descriptor values", least=1)
    rest = [words.number("a mean or a standard deviation") for _ in range(len(words))]
    if size != width or (len(rest) not in (2, 2 * width) and (wanted or rest)):
        raise DataError(
            f"It promises {size} values with {len(rest)} means and standard deviations",
            expected=f"{width} values with as many of each, or with one of each",
        )
    half = len(rest) // 2
    if wanted and (any(rest[:half]) or any(value != 1.0 for value in rest[half:])):
        raise DataError(
            "It asks to center and normalize values, which the published driver does not do",
            expected="means 0 and standard deviations 1",
            fix="Make this the first step of the network, as adatom's export does.",
        )


def _read_bispectrum(words: Words, count: int) -> dict[str, Any]:
    return {
        "jmax": words.number("jmax"),
        "rfac0": words.number("rfac0"),
        "diagonalstyle": words.whole("diagonalstyle"),
        "rmin0": words.number("rmin0"),
        "switch_flag": words.flag("switch_flag"),
        "bzero_flag": words.flag("bzero_flag"),
        "weights": [words.number("a weight of a species") for _ in range(count)],
    }


def _read_soap(words: Words, longest: float) -> dict[str, Any]:
    sizes = {name: words.whole(name) for name in ("n_max", "l_max")}
    cutoff = words.number("the cutoff")
    if cutoff != longest:
        raise DataError(
            f"It has the cutoff {cutoff:g}", expected=f"the longest of the pairs, {longest:g}"
        )
    return {**sizes, "radial_basis": words.take("radial_basis"), "eta": words.number("eta")}


def _read_published_soap(words: Words) -> dict[str, Any]:
    found: dict[str, Any] = {name: words.whole(name) for name in ("n_max", "l_max")}
    found["cutoffs"] = words.number("the cutoff")
    found["eta"] = words.number("eta")
    found["radial_basis"] = words.take("radial_basis")
    count = words.whole("the number of species", least=1)
    found["species"] = [words.take("a species") for _ in range(count)]
    return {**found, "smooth": False}


def _soap_blocks(descriptor: SOAP, head: list[str]) -> list[str]:
    values: dict[str, float | int | str] = {
        "n_max": descriptor.n_max,
        "l_max": descriptor.l_max,
        "cutoff": descriptor.cutoff,
    }
    if descriptor.smooth:
        values |= {"radial_basis": descriptor.radial_basis, "eta": descriptor.eta}
        return head + [f"# {name}\n{value}" for name, value in values.items()]
    if len({length for row in descriptor.cutoffs for length in row}) != 1:
        raise ConfigError(
            "SOAP without a cutoff function has several cutoffs",
            expected="one for all pairs, which is all that the file can say",
        )
    values |= {"eta": descriptor.eta, "radial_basis": descriptor.radial_basis}
    values["species"] = f"{len(descriptor.species)}\n{' '.join(descriptor.species)}"
    return head[:1] + [f"# {name}\n{value}" for name, value in values.items()]


def _bispectrum_blocks(descriptor: Bispectrum) -> list[str]:
    values: dict[str, float | int | str] = {
        # The published reader takes whole numbers only.
        "jmax": int(descriptor.jmax) if descriptor.jmax.is_integer() else descriptor.jmax,
        "rfac0": descriptor.rfac0,
        "diagonalstyle": descriptor.diagonalstyle,
        "rmin0": int(descriptor.rmin0) if descriptor.rmin0.is_integer() else descriptor.rmin0,
        "switch_flag": int(descriptor.smooth),
        "bzero_flag": int(descriptor.bzero_flag),
        "weights": "    ".join(map(repr, descriptor.weights)),
    }
    return [f"# {name}\n{value}" for name, value in values.items()]


def _symmetry_function_blocks(descriptor: SymmetryFunctions) -> list[str]:
    if descriptor.resolved:
        raise ConfigError(
            "The symmetry functions are resolved by species",
            expected="functions of all neighbors alike, which is all that the file can say",
            fix="Train with resolved: false, or export with the pattern raw.",
        )
    blocks: list[tuple[str, list[tuple[float, ...]]]] = []
    for name, values in descriptor.functions:
        if not blocks or blocks[-1][0] != name:
            blocks.append((name, []))
        blocks[-1][1].append(values)
    names = [name for name, _ in blocks]
    if len(set(names)) != len(names):
        raise ConfigError(
            f"The symmetry functions come in the order {', '.join(names)}",
            expected="all functions of a type together, which is all that the file can say",
        )
    texts = [
        f"{_RULE}\n# symmetry functions\n{_RULE}",
        f"{len(blocks)}  # number of symmetry functions types",
        "# sym_function    rows    cols",
    ]
    for name, rows in blocks:
        # Of g1 the published reader wants one number, too.
        shown = rows if PARAMETERS[name] else [(0.0,)] * len(rows)
        about = "  ".join(PARAMETERS[name]) or "not used"
        lines = ["    ".join(repr(value) for value in row) + f"    # {about}" for row in shown]
        texts.append("\n".join([f"{name}    {len(rows)}    {len(shown[0])}", *lines]))
    texts.append(f"center_and_normalize  False\n\n{descriptor.width}  # descriptor size")
    texts.append("# mean\n0.0\n\n# standard deviation\n1.0")
    return texts
