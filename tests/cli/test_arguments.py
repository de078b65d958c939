from pathlib import Path
from typing import Literal

import pytest

from adatom.cli.arguments import run_function, run_functions, with_lists
from adatom.core.errors import AdatomError, ConfigError


def predict(
    structures: str,
    *,
    output: Path | None = None,
    steps: int = 3,
    step_size: float = 0.5,
    dtype: Literal["float32", "float64"] | None = None,
    keys: dict[str, str] | None = None,
    fractions: list[float] = [0.8, 0.1],  # noqa: B006 (never changed)
    relax_cell: bool = False,
) -> dict:
    """Predict what nobody asked for.

    Args:
        structures: The file of structures.
        output: Where the result goes.
        steps: How many steps.
        step_size: How far, in angstrom.
    """
    return dict(locals())


def check(files: list[str], *, strict: bool = False) -> tuple:
    """Check files.

    Args:
        files: One or more files.
        strict: Complain about everything.
    """
    return files, strict


FUNCTIONS = {"predict": predict, "check": check}


def run(line: str):
    return run_function(predict, line.split(), "adatom predict")


def test_positional_and_defaults():
    got = run("a.xyz")
    assert got["structures"] == "a.xyz"
    assert got["output"] is None
    assert got["fractions"] == [0.8, 0.1]


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("a.xyz -o b.xyz", "output", Path("b.xyz")),
        ("a.xyz --output b.xyz", "output", Path("b.xyz")),
        ("--steps 5 a.xyz", "steps", 5),
        ("a.xyz --step-size 1", "step_size", 1.0),
        ("a.xyz --step-size=1e-3", "step_size", 1e-3),
        ("a.xyz --dtype float64", "dtype", "float64"),
        ("a.xyz --keys.energy E --keys.forces F", "keys", {"energy": "E", "forces": "F"}),
        ("a.xyz --fractions [0.5,0.5]", "fractions", [0.5, 0.5]),
        ("a.xyz --relax-cell", "relax_cell", True),
        ("--relax_cell a.xyz", "relax_cell", True),
        ("a.xyz --relax_cell true", "relax_cell", True),
        ("a.xyz --relax_cell false --steps 1", "relax_cell", False),
        ("a.xyz --relax_cell=false", "relax_cell", False),
    ],
)
def test_option(line, name, value):
    got = run(line)
    assert got[name] == value
    assert got["structures"] == "a.xyz"


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("a.xyz --steps x", "steps is 'x'. Expected a whole number."),
        ("a.xyz --steps 1.5", "steps is '1.5'. Expected a whole number."),
        ("a.xyz --stepz 3", "Unknown option '--stepz'; did you mean '--steps'?"),
        ("a.xyz --stepz=3", "Unknown option '--stepz'; did you mean '--steps'?"),
        ("a.xyz --step 3", "Unknown option '--step'; did you mean '--steps'?"),
        ("a.xyz b.xyz", "Unexpected argument 'b.xyz'. See: adatom predict --help."),
        ("", "An argument is missing: structures."),
        ("a.xyz --steps", "Option '--steps' has no value. Expected a whole number."),
        ("a.xyz --dtype float61", "'float61'; did you mean 'float64'? Expected one of: float32,"),
        ("a.xyz --relax_cell=maybe", "relax_cell is 'maybe'. Expected true or false."),
        ("a.xyz --fractions [a,b]", "Expected a list such as [a, b], each a number."),
        ("a.xyz --keys 3", "keys is '3'. Expected a mapping"),
        ("--config missing.yaml", "missing.yaml' does not exist"),
    ],
)
def test_mistake_is_one_sentence(line, text, capsys):
    with pytest.raises(ConfigError) as caught:
        run(line)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capsys.readouterr() == ("", "")


def test_config_file_and_print_config(tmp_path, capsys):
    file = tmp_path / "run.yaml"
    file.write_text("structures: b.xyz\nsteps: 7\n")
    assert run(f"--config {file}")["steps"] == 7
    assert run(f"--config {file} --steps 8")["steps"] == 8
    with pytest.raises(SystemExit) as stop:
        run(f"--config {file} --print_config")
    assert stop.value.code == 0
    printed = capsys.readouterr().out
    assert "steps: 7\n" in printed
    file.write_text(printed)
    assert run(f"--config {file}")["structures"] == "b.xyz"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("structures: a\nstepz: 7\n", "Unknown key 'stepz'; did you mean 'steps'? Expected one of"),
        ("structures: a\nsteps: many\n", "steps is 'many'. Expected a whole number."),
        ("structures: a\n steps: : 1\n", "Expected a YAML file"),
        ("steps: 2\n", "An argument is missing: structures."),
    ],
)
@pytest.mark.parametrize(
    "call",
    [
        lambda file: run_function(predict, ["--config", file], "adatom predict"),
        lambda file: run_functions(FUNCTIONS, ["predict", "--config", file], "adatom data"),
    ],
)
def test_mistake_in_a_config_file(tmp_path, text, message, call):
    file = tmp_path / "run.yaml"
    file.write_text(text)
    with pytest.raises(AdatomError) as caught:
        call(str(file))
    assert message in str(caught.value)


def test_several_functions():
    def data(line):
        return run_functions(FUNCTIONS, line.split(), "adatom data")

    assert data("check a b --strict") == (["a", "b"], True)
    assert data("check --strict a b") == (["a", "b"], True)
    assert data("predict a --steps 4 -o x")["output"] == Path("x")
    with pytest.raises(
        ConfigError, match=r"An argument is missing: files\. See: adatom data check"
    ):
        data("check")
    with pytest.raises(ConfigError, match=r"Unknown command 'chek'; did you mean 'check'\?"):
        data("chek a")
    with pytest.raises(
        ConfigError, match=r"A command is missing\. Expected one of: check, predict"
    ):
        data("")
    with pytest.raises(
        ConfigError, match=r"'--strikt'; did you mean '--strict'\? See: adatom data"
    ):
        data("check a --strikt")


def test_list_may_come_from_a_config_file(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("files: [a, b]\n")
    line = ["check", "--config", str(file)]
    assert run_functions(FUNCTIONS, line, "adatom data") == (["a", "b"], False)


class Model:
    """A model.

    Args:
        channels: How wide.
    """

    def __init__(self, channels: int = 3) -> None:
        self.channels = channels


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("chanels: 4", "In 'model': Unknown key 'chanels'; did you mean 'channels'?"),
        ("channels: four", "In 'model': channels is 'four'. Expected a whole number."),
    ],
)
def test_mistake_inside_a_class_of_the_config_file(tmp_path, text, message):
    def fit(*, model: Model | None = None) -> None:
        """Fit.

        Args:
            model: The model.
        """

    file = tmp_path / "run.yaml"
    path = f"{Model.__module__}.Model"
    file.write_text(f"model:\n  class_path: {path}\n  init_args:\n    {text}\n")
    with pytest.raises(ConfigError) as caught:
        run_function(fit, ["--config", str(file)], "adatom fit")
    assert str(caught.value).startswith(message)


def test_help_comes_from_the_docstring(capsys):
    with pytest.raises(SystemExit) as stop:
        run("--help")
    assert stop.value.code == 0
    out = capsys.readouterr().out
    for text in ("Predict what nobody asked for.", "How far, in angstrom.", "-o OUTPUT"):
        assert text in out


def test_errors_of_the_function_itself_pass_through():
    def broken(name: str) -> None:
        """Break.

        Args:
            name: Of what breaks.
        """
        raise TypeError(name)

    with pytest.raises(TypeError, match="thing"):
        run_function(broken, ["thing"], "adatom break")


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (["a", "--species", "Si", "O"], ["a", "--species", '["Si", "O"]']),
        (["--species", "Si", "--charge", "-1"], ["--species", '["Si"]', "--charge", "-1"]),
        (["--species", "[Si, O]", "a"], ["--species", '["[Si, O]", "a"]']),
        (["--species", "[Si, O]"], ["--species", "[Si, O]"]),
        (["--species"], ["--species"]),
    ],
)
def test_words_after_an_option_become_a_list(given, meant):
    assert with_lists(given, "--species") == meant
