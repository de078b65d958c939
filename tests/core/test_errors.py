import inspect

import pytest

from adatom.core import errors
from adatom.core.errors import AdatomError, DataError, MissingExtraError, unknown_name

CLASSES = [
    value
    for value in vars(errors).values()
    if inspect.isclass(value) and issubclass(value, AdatomError) and value is not AdatomError
]


@pytest.mark.parametrize("error", CLASSES)
def test_error_is_also_a_builtin(error):
    builtin = [base for base in error.__mro__[1:] if base.__module__ == "builtins"]
    assert builtin[0] is not Exception


def test_message_has_found_expected_and_fix():
    error = DataError("Found", expected="this", fix="Do that.")
    assert str(error) == "Found. Expected this. Do that."
    assert (error.found, error.expected, error.fix) == ("Found", "this", "Do that.")


def test_unknown_name_lists_the_choices_and_is_not_quoted():
    message = str(unknown_name("task", "omoll", ["omol", "omat"]))
    assert message == "Unknown task 'omoll'; did you mean 'omol'? Expected one of: omat, omol."
    assert "did you mean" not in str(unknown_name("task", "zzz", []))


def test_missing_extra_tells_how_to_install_it():
    assert "pip install 'adatom[wandb]'" in str(MissingExtraError("wandb", "wandb"))
