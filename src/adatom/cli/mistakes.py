"""From a message of argparse or jsonargparse to one sentence for the user."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Union

from adatom.core.errors import AdatomError, ConfigError, did_you_mean

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

_KEY = re.compile(r'Parser key "([^"]+)"')
_VALUE = re.compile(r"(?:Got value|Given value): (.*)", re.DOTALL)
_CHOICE = re.compile(r"(?P<value>'[^']*') not among choices (?P<choices>.*)", re.DOTALL)
_NOT_ACCEPTED = re.compile(r"(?:Group '(?P<group>[^']+)' )?.*?[Oo]ption '(?P<name>[^']+)'")
_INSIDE = re.compile(r"NestedArg\(key='([^']*)'")
_INVALID_CHOICE = re.compile(r"invalid choice: '(?P<name>[^']*)'")
_SUBCOMMAND = re.compile(r'expected "subcommand" to be one of \{(?P<names>[^}]*)\}')

#: Lines of a nested complaint that tell the user nothing.
_NOISE = (
    "Does not validate",
    "Subtypes:",
    "Errors:",
    "Expected a <class 'NoneType'>",
    "Given value",
)

#: How a complaint about what is inside of a class begins.
_INNER = ("Unknown key", "An argument is missing", "Arguments are missing")

_NAMES: Mapping[Any, str] = types.MappingProxyType(
    {
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        str: "text",
        Path: "a path",
        type(None): "null",
    }
)


def explain(message: str, parser: ArgumentParser, error: Exception | None = None) -> AdatomError:
    """Turn what a parser complains about into one error with found, expected and fix.

    Args:
        message: The parser's own message; its form depends on the version of jsonargparse, so what
            is not recognized is passed on in one line.
        parser: Where the mistake was found; it knows the valid names and types.
        error: What caused the complaint; an error of adatom is passed on as it is.
    """
    if isinstance(error, AdatomError):
        return error
    readers = (
        _unknown_option,
        _inside_a_class,
        _unknown_key,
        _missing,
        _no_value,
        _command,
        _file,
        _wrong_type,
    )
    for reader in readers:
        found = reader(message, parser)
        if found is not None:
            return found
    return ConfigError(_one_line(message), fix=_see_help(parser))


def describe_type(hint: Any) -> str:
    """Return a type hint in words, such as ``a whole number or null``."""
    origin, parameters = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(describe_type(parameter) for parameter in parameters)
    if origin is Literal:
        return "one of: " + ", ".join(str(parameter) for parameter in parameters)
    if origin is dict or hint is dict:
        return "a mapping such as {name: value}"
    if origin is tuple and Ellipsis not in parameters:
        return f"a list of {len(parameters)} values such as [a, b]"
    if origin is not None and parameters:
        return f"a list such as [a, b], each {describe_type(parameters[0])}"
    return _NAMES.get(hint, getattr(hint, "__name__", str(hint)))


def type_hint(action: Any) -> Any:
    """Return the type hint behind an option of a parser, or None (a flag, ``--help``)."""
    return getattr(action, "_typehint", None)


def actions_of(parser: ArgumentParser) -> list[Any]:
    """Return all options of a parser."""
    return list(parser._actions)


def _unknown_option(message: str, parser: ArgumentParser) -> AdatomError | None:
    prefix, _, rest = message.partition("unrecognized arguments: ")
    if prefix or not rest:
        return None
    first = next((word for word in rest.split() if word.startswith("-")), None)
    if first is None:
        return ConfigError(f"Unexpected argument {rest.split()[0]!r}", fix=_see_help(parser))
    name = first.split("=")[0]
    choices = [option for action in parser._actions for option in action.option_strings]
    return ConfigError(
        f"Unknown option {name!r}{did_you_mean(name, choices)}", fix=_see_help(parser)
    )


def _unknown_key(message: str, parser: ArgumentParser) -> AdatomError | None:
    if "not accept" not in message:
        return None
    complaints = list(_NOT_ACCEPTED.finditer(message))
    if not complaints:
        return None
    innermost = complaints[-1]
    name, group = innermost["name"], innermost["group"]
    keys = [key[len(group) + 1 :] if group else key for key in _keys(parser, group)]
    known = list(dict.fromkeys(key.split(".")[0] for key in keys))
    where = f" of {group!r}" if group else ""
    return ConfigError(
        f"Unknown key {name!r}{where}{did_you_mean(name, {*keys, *known})}",
        expected=f"one of: {', '.join(known)}" if known else None,
    )


def _inside_a_class(message: str, parser: ArgumentParser) -> AdatomError | None:
    """Read complaints about ``class_path`` and ``init_args``, which come as an indented list."""
    key = _KEY.match(message)
    action = _action(parser, key[1]) if key else None
    if key is None or not any(_classes(type_hint(action))):
        return None
    lines = [line.strip(" -") for line in message.splitlines()[1:]]
    told = [line for line in lines if line and not line.startswith(_NOISE)]
    # What is wrong inside of the class says more than that it is none of the other classes.
    told = [line for line in told if line.startswith(_INNER)] or told
    # Each member of a union complains, often in the same words.
    text = " ".join(line.partition(" See: ")[0] for line in dict.fromkeys(told))
    return ConfigError(f"In {key[1]!r}: {text}") if told else None


def _action(parser: ArgumentParser, key: str) -> Any:
    """Return the option of that name of a parser or of one of its commands."""
    commands = parser._subcommands_action
    parsers = [parser, *(commands.choices.values() if commands else ())]
    return next((a for p in parsers for a in p._actions if a.dest == key), None)


def _missing(message: str, parser: ArgumentParser) -> AdatomError | None:
    prefix, _, names = message.partition("the following arguments are required: ")
    if prefix or not names:
        return None
    command = next((name for name in _commands(parser) if names.startswith(f"{name}.")), "")
    names = names.replace(f"{command}.", "") if command else names
    kind = "Arguments are" if "," in names else "An argument is"
    return ConfigError(f"{kind} missing: {names}", fix=_see_help(parser, command))


def _no_value(message: str, parser: ArgumentParser) -> AdatomError | None:
    match = re.match(r"argument (\S+?)(?:/\S+)?: expected (?:one|at least one) argument", message)
    if match is None:
        return None
    action = parser._option_string_actions.get(match[1])
    return ConfigError(
        f"Option {match[1]!r} has no value",
        expected=describe_type(type_hint(action)) if type_hint(action) else "a value after it",
    )


def _command(message: str, parser: ArgumentParser) -> AdatomError | None:
    missing, invalid = _SUBCOMMAND.search(message), _INVALID_CHOICE.search(message)
    known = _commands(parser)
    if missing:
        return ConfigError("A command is missing", expected=f"one of: {', '.join(known)}")
    if invalid:
        return ConfigError(
            f"Unknown command {invalid['name']!r}{did_you_mean(invalid['name'], known)}",
            expected=f"one of: {', '.join(known)}",
        )
    return None


def _file(message: str, parser: ArgumentParser) -> AdatomError | None:
    del parser
    missing = re.search(r"File does not exist: '?([^'\n]+)", message)
    if missing:
        return ConfigError(f"The file {missing[1]!r} does not exist")
    if "Problems parsing config" in message or "Unable to load config" in message:
        return ConfigError(
            _one_line(message), expected="a YAML file with one 'key: value' per line"
        )
    return None


def _wrong_type(message: str, parser: ArgumentParser) -> AdatomError | None:
    keys = _KEY.findall(message)
    value = _VALUE.search(message) or _CHOICE.search(message)
    if not keys or value is None:
        return None
    key = keys[-1]
    action = next((a for a in parser._actions if a.dest == key), None)
    hint = type_hint(action)
    if hint is None:
        return None
    inside = _INSIDE.search(value[1])
    if inside:
        name = f"--{key}.{inside[1]}"
        known = [option for a in parser._actions for option in a.option_strings]
        return ConfigError(f"Unknown option {name!r}{did_you_mean(name, known)}")
    given = value[1].strip().splitlines()[0].strip("'")
    choices = [str(choice) for choice in _choices(hint)]
    return ConfigError(
        f"{key} is {given!r}{did_you_mean(given, choices)}",
        expected=describe_type(hint),
    )


def _keys(parser: ArgumentParser, group: str | None) -> list[str]:
    hidden = ("help", "config", "print_config", "print_shtab", "subcommand")
    keys = [action.dest for action in parser._actions if action.dest not in hidden]
    keys = [key for key in keys if not key.endswith(".help")]
    return [key for key in keys if group is None or key.startswith(group + ".")]


def _choices(hint: Any) -> Iterator[Any]:
    if typing.get_origin(hint) is Literal:
        yield from typing.get_args(hint)
    else:
        for parameter in typing.get_args(hint):
            yield from _choices(parameter)


def _classes(hint: Any) -> Iterator[type]:
    """Yield the classes in a hint that a configuration describes by class path or by keys."""
    if isinstance(hint, type) and hint not in _NAMES and hint not in (dict, list, tuple, set):
        yield hint
    for part in typing.get_args(hint):
        yield from _classes(part)


def _one_line(message: str) -> str:
    return "; ".join(line.strip(" -") for line in message.splitlines() if line.strip(" -"))


def _commands(parser: ArgumentParser) -> list[str]:
    action = parser._subcommands_action
    return sorted(action.choices) if action else []


def _see_help(parser: ArgumentParser, command: str = "") -> str:
    words = [parser.prog.replace(" [options]", ""), command, "--help"]
    return f"See: {' '.join(filter(None, words))}"
