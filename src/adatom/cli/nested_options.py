"""Options for one entry deep inside a value: ``--model.losses.energy.coefficient 5``.

jsonargparse knows one level: below that it replaces the whole entry, and in a list it takes the
last one. Here the value is merged first and then handed over whole.
"""

from __future__ import annotations

import json
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Union

from adatom.cli.mistakes import actions_of, type_hint
from adatom.core.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Nested:
    """One such option.

    Attributes:
        dest: The option of the parser that it is inside of.
        parts: Names and positions below it.
        value: What was given.
        words: Of the command line.
    """

    dest: str
    parts: tuple[str, ...]
    value: str
    words: tuple[str, ...]


def merge_nested_options(
    arguments: Sequence[str],
    parser: ArgumentParser,
    parse: Callable[[list[str]], Namespace],
) -> list[str]:
    """Replace options inside dictionaries and lists by the whole values with that change.

    Args:
        arguments: Of the command line, without the name of a subcommand.
        parser: Knows the options.
        parse: Parses arguments without these options, to find the values that they change.

    Returns:
        Arguments for ``parser``; the same ones if there is no such option.

    Raises:
        ConfigError: If an option leads to nothing that exists.
    """
    hints = {a.dest: type_hint(a) for a in actions_of(parser)}
    hints = {dest: hint for dest, hint in hints.items() if _holds(hint, (dict, list))}
    kept, nested = _split(list(arguments), hints)
    if not nested:
        return list(arguments)
    values = parse([word for word in kept if not word.startswith("--print_config")])
    merged: dict[str, Any] = {}
    for option in nested:
        value = merged.get(option.dest, values.get(option.dest))
        if value is None and len(option.parts) > 1 and _holds(hints[option.dest], (dict,)):
            value = {}
        if isinstance(value, (Mapping, list)) or not _is_plain(value):
            merged[option.dest] = _put(value, option, 0)
        else:
            kept += option.words
    return [*kept, *(f"--{dest}={json.dumps(_plain(value))}" for dest, value in merged.items())]


def _split(words: list[str], hints: Mapping[str, Any]) -> tuple[list[str], list[_Nested]]:
    kept: list[str] = []
    found: list[_Nested] = []
    i = 0
    while i < len(words):
        name, equals, value = words[i].partition("=")
        dest = next((d for d in hints if name.startswith(f"--{d}.")), None)
        parts = tuple(name[len(dest) + 3 :].split(".")) if dest else ()
        used = 1 if equals else 2
        if dest is None or parts[-1] == "help" or i + used > len(words):
            kept.append(words[i])
            used = 1
        else:
            given = tuple(words[i : i + used])
            found.append(_Nested(dest, parts, value if equals else given[1], given))
        i += used
    return kept, found


def _put(value: Any, option: _Nested, depth: int) -> Any:
    """Return ``value`` with the part that the option names from ``depth`` on."""
    if depth == len(option.parts):
        return _loaded(option.value)
    here = ".".join((option.dest, *option.parts[:depth]))
    part = option.parts[depth]
    if isinstance(value, list):
        if not part.isdecimal() or int(part) >= len(value):
            raise ConfigError(
                f"Unknown option {option.words[0].split('=')[0]!r}: {here} is a list of "
                f"{len(value)} entries",
                expected=f"the position of one, from {here}.0 to {here}.{len(value) - 1}",
            )
        rest = list(value)
        rest[int(part)] = _put(value[int(part)], option, depth + 1)
        return rest
    if _is_plain(value) and not isinstance(value, Mapping):
        raise ConfigError(
            f"Unknown option {option.words[0].split('=')[0]!r}: {here} is {value!r}",
            expected=f"a value for --{here} itself",
        )
    entries = dict(value) if isinstance(value, Mapping) else dict(vars(value))
    if not isinstance(value, Mapping) and part not in entries:
        raise ConfigError(
            f"Unknown key {part!r} of {here!r}{did_you_mean(part, entries)}",
            expected=f"one of: {', '.join(entries)}",
        )
    inner = entries.get(part)
    if inner is None and depth + 1 < len(option.parts):
        inner = {}
    return {**entries, part: _put(inner, option, depth + 1)}


def _loaded(text: str) -> Any:
    import yaml

    # YAML takes 1e-3 for text.
    return float(text) if _NUMBER.fullmatch(text) and "e" in text.lower() else yaml.safe_load(text)


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, (str, int, float, bool, Mapping, list))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    return value if _is_plain(value) else _plain(vars(value))


def _holds(hint: Any, kinds: tuple[type, ...]) -> bool:
    """Tell whether a type hint, or a member of its union, is one of these containers."""
    origin = typing.get_origin(hint)
    if origin in (Union, types.UnionType):
        return any(_holds(member, kinds) for member in typing.get_args(hint))
    return (origin or hint) in kinds
