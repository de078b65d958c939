"""The command line as a user meets it: speed, exit codes, one sentence per mistake."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
import types

import pytest

import adatom
from adatom.cli import main as cli
from adatom.core.errors import DataError

#: The promise is 0.5 s; a shared machine under load gets more.
GENEROUS_SECONDS = 3.0


def python(code: str, *, seconds: float = 60) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=seconds, check=False
    )


@pytest.fixture
def verb(monkeypatch):
    """Put a verb ``try`` in the table and return a function that says what it does."""

    def install(function):
        module = types.ModuleType("adatom_test_verb")
        module.main = function
        monkeypatch.setitem(sys.modules, "adatom_test_verb", module)
        monkeypatch.setitem(cli.VERBS, "try", ("adatom_test_verb", "Tries"))

    return install


@pytest.mark.parametrize(
    "code", ["import adatom", "from adatom.cli.main import main; main(['--help'])"]
)
def test_start_is_quick_and_imports_nothing_heavy(code):
    heavy = ("torch", "numpy", "ase", "lightning", "jsonargparse", "rich", "matplotlib")
    start = time.perf_counter()
    done = python(f"import sys; {code}; assert not set({heavy}) & set(sys.modules), 'heavy'")
    assert done.returncode == 0, done.stderr
    assert time.perf_counter() - start < GENEROUS_SECONDS


def test_help_names_every_verb(capsys):
    assert cli.main(["--help"]) == cli.main([]) == 0
    out = capsys.readouterr().out
    for name in cli.VERBS:
        assert f"\n  {name} " in out


@pytest.mark.parametrize("name", sorted(cli.VERBS))
def test_every_verb_has_its_file(name):
    module, text = cli.VERBS[name]
    assert importlib.util.find_spec(module) is not None
    assert text
    assert not text.endswith(".")


@pytest.mark.parametrize("name", sorted(set(cli.VERBS) - {"s2ef", "is2re"}))
def test_help_of_a_verb_does_not_load_torch(name):
    done = python(
        "import sys; from adatom.cli.main import main\n"
        f"code = main(['{name}', '--help']); sys.exit(code or 'torch' in sys.modules)"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: adatom")


@pytest.mark.parametrize("name", sorted(set(adatom.__all__) - {"__version__"}))
def test_public_name_can_be_imported(name):
    assert getattr(adatom, name).__name__.rpartition(".")[2] == name


def test_unknown_public_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Potentiall'"):
        _ = adatom.Potentiall
    assert dir(adatom) == sorted(adatom.__all__)


def test_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"adatom {adatom.__version__}\n"


@pytest.mark.parametrize(
    ("argument", "text"),
    [
        ("evalute", "Unknown verb 'evalute'; did you mean 'evaluate'?"),
        ("--fast", "Unknown option '--fast'"),
    ],
)
def test_unknown_verb_is_one_sentence(argument, text, capsys):
    assert cli.main([argument]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert text in err
    assert err.count("\n") == 1


def test_arguments_reach_the_verb(verb):
    got = []
    verb(got.extend)
    assert cli.main(["try", "a", "--b", "c"]) == 0
    assert got == ["a", "--b", "c"]


def raising(error: BaseException):
    def main(arguments: list[str]) -> None:
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (DataError("Bad", expected="good", fix="Mend it"), 2, "Bad. Expected good. Mend it."),
        (KeyboardInterrupt(), 130, "Interrupted"),
        (FileNotFoundError(2, "No such file or directory", "x.xyz"), 2, "'x.xyz'"),
        (OSError(28, "No space left on device"), 2, "No space left on device"),
        (SystemExit(0), 0, None),
        (SystemExit(None), 0, None),
        (SystemExit(5), 5, None),
        (SystemExit("gone"), 2, "gone"),
    ],
)
def test_errors_become_one_sentence_and_an_exit_code(verb, error, code, text, capsys):
    verb(raising(error))
    assert cli.main(["try"]) == code
    err = capsys.readouterr().err
    if text is None:
        assert err == ""
    else:
        assert text in err
        assert err.count("\n") == 1


def test_a_bug_keeps_its_traceback(verb):
    verb(raising(RuntimeError("a bug")))
    with pytest.raises(RuntimeError, match="a bug"):
        cli.main(["try"])


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX pipes and signals")
class TestProcess:
    """The real process, where signals and pipes are."""

    VERB = (
        "import sys, types; from adatom.cli import main as cli\n"
        "module = types.ModuleType('verb'); sys.modules['verb'] = module\n"
        "cli.VERBS['try'] = ('verb', 'Tries')\n"
        "{body}\n"
        "sys.exit(cli.main(['try']))\n"
    )

    def test_broken_pipe_is_quiet(self):
        body = "def main(arguments):\n    [sys.stdout.write('x' * 99 + '\\n') for _ in range(9999)]"
        code = self.VERB.format(body=body + "\nmodule.main = main")
        process = subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        with process:
            process.stdout.read(10)
            process.stdout.close()
            assert process.stderr.read() == b""
        assert process.returncode == 141

    def test_ctrl_c_is_one_sentence(self):
        # A test run in the background of a shell ignores Ctrl-C, and so would this process.
        body = (
            "import signal, time\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
            "def main(arguments):\n"
            "    sys.stdout.write('ready\\n'); sys.stdout.flush(); time.sleep(60)\n"
            "module.main = main"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", self.VERB.format(body=body)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        with process:
            process.stdout.readline()
            process.send_signal(signal.SIGINT)
            assert process.stderr.read().count(b"\n") == 1
        assert process.returncode == 130
