"""From a typed function to a command: its signature and docstring are the options.

Parameters without a default are positional (a list takes one or more), the others are options;
``--config file.yaml`` reads them from a file and ``--print_config`` writes them. A mistake becomes
one sentence with the nearest valid name (:class:`~adatom.core.errors.ConfigError`).
"""

from __future__ import annotations

import contextlib
import inspect
import json
import sys
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from jsonargparse import ArgumentParser, Namespace, auto_cli, set_parsing_settings

from adatom.cli.mistakes import explain, type_hint
from adatom.cli.nested_options import merge_nested_options

#: Short forms of options; an option that a function does not have is skipped.
SHORT_OPTIONS: Mapping[str, str] = types.MappingProxyType({"output": "-o"})

_LISTS = (list, Sequence)


class Parser(ArgumentParser):
    """A jsonargparse parser whose mistakes are one sentence.

    It also accepts ``-o`` for ``--output``, ``--flag`` for ``--flag true`` and ``--max-steps`` for
    ``--max_steps``.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("allow_abbrev", False)
        # A configuration must not make objects of any class where a plain value may stand, nor
        # import what can start programs. (Both will be the default of jsonargparse 5.)
        set_parsing_settings(instantiate_subclass_spec_in_any=False, import_path_denylist=[])
        super().__init__(*args, **kwargs)

    def add_function_arguments(self, *args: Any, **kwargs: Any) -> list[str]:
        """Add the parameters of a function, with short options and list positionals."""
        added: list[str] = super().add_function_arguments(*args, **kwargs)
        for action in self._actions:
            short = SHORT_OPTIONS.get(action.dest)
            if short and action.option_strings and short not in self._option_string_actions:
                action.option_strings = [short, *action.option_strings]
                self._option_string_actions[short] = action
            if not action.option_strings and typing.get_origin(type_hint(action)) in _LISTS:
                element = (*typing.get_args(type_hint(action)), str)[0]
                # What add_argument(name, type=element, nargs="+") would have made.
                vars(action).update(nargs="+", _typehint=element)
        return added

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, *others: Any, **kwargs: Any
    ) -> Namespace:
        """Parse, after spelling options the way jsonargparse expects them."""
        given = self._spelled_out(list(sys.argv[1:] if args is None else args))
        return super().parse_args(self._merged(given), *others, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise the mistake as one sentence.

        Raises:
            ConfigError: Always.
        """
        raise explain(message, getattr(ex, "subcommand_parser", None) or self, ex) from ex

    def _merged(self, args: list[str]) -> list[str]:
        """Merge options inside of values, also those of a subcommand."""
        commands = self._subcommands_action.choices if self._subcommands_action else {}
        at = next((i for i, word in enumerate(args) if word in commands), -1) + 1
        parser = commands[args[at - 1]] if at else self

        def values(given: list[str]) -> Namespace:
            found = super(Parser, self).parse_args([*args[:at], *given])
            return found[args[at - 1]] if at else found

        return [*args[:at], *merge_nested_options(args[at:], parser, values)]

    def _spelled_out(self, args: list[str]) -> list[str]:
        spelled = []
        for i, arg in enumerate(args):
            name, equals, value = arg.partition("=")
            if name.startswith("--") and name not in self._option_string_actions:
                underscored = "--" + name[2:].replace("-", "_")
                if underscored in self._option_string_actions:
                    name = underscored
            action = self._option_string_actions.get(name)
            following = args[i + 1].lower() if i + 1 < len(args) else ""
            if action is not None and type_hint(action) is bool and not equals:
                equals, value = ("", "") if following in ("true", "false") else ("=", "true")
            spelled.append(name + equals + value)
        return spelled


def run_function(function: Callable[..., Any], arguments: Sequence[str], prog: str) -> Any:
    """Call ``function`` with what the command line says.

    Args:
        function: Typed, with a Google docstring; its first line and ``Args:`` are the help.
        arguments: What follows the verb.
        prog: Name in the help, such as ``"adatom predict"``.

    Returns:
        What the function returns.

    Raises:
        ConfigError: On an unknown option, a wrong type, a missing argument, a broken YAML file.
    """
    return auto_cli(_evaluated(function), args=list(arguments), prog=prog, parser_class=Parser)


def run_functions(
    functions: Mapping[str, Callable[..., Any]], arguments: Sequence[str], prog: str
) -> Any:
    """Call the function whose name comes first, with the arguments that follow.

    Args:
        functions: Name to function, such as ``{"check": check, "stats": stats}``.
        arguments: What follows the verb: a name, then that function's own arguments.
        prog: Name in the help, such as ``"adatom data"``.

    Returns:
        What the function returns.

    Raises:
        ConfigError: As :func:`run_function`, or if the name is unknown or missing.
    """
    components: dict[str, Any] = {
        name: _evaluated(function) for name, function in functions.items()
    }
    return auto_cli(components, args=list(arguments), prog=prog, parser_class=Parser)


def with_lists(arguments: Sequence[str], *options: str) -> list[str]:
    """Make a list of the words that follow an option: ``--species Si O`` as ``["Si", "O"]``.

    Args:
        arguments: The command line.
        options: Those that take lists, such as ``"--species"``. A list that is spelled as one
            (``[Si, O]``) stays as it is.
    """
    rewritten: list[str] = []
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        rewritten.append(word)
        if word not in options:
            continue
        values = leading_values(rest)
        if len(values) == 1 and values[0].startswith("["):
            rewritten += values
        elif values:
            rewritten.append(json.dumps(values))
    return rewritten


def leading_values(rest: list[str]) -> list[str]:
    """Take words off the front, up to the next option (a negative number is none)."""
    values = []
    while rest and not (rest[0].startswith("-") and not rest[0][1:2].isdigit()):
        values.append(rest.pop(0))
    return values


def _evaluated(function: Callable[..., Any]) -> Callable[..., Any]:
    """Replace annotations that are text by what they mean.

    For text, jsonargparse imports whatever stands under ``TYPE_CHECKING`` in the module, and with
    it torch, only to print a help.
    """
    # A name that exists for the type checker only is left to jsonargparse.
    with contextlib.suppress(NameError):
        function.__annotations__ = inspect.get_annotations(function, eval_str=True)
    return function
