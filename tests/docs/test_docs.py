"""What the documentation says can be done as it says."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import jsonargparse
import pytest

from adatom.checkpoint.names import EMBEDDED
from adatom.cli.main import VERBS, main

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def name_of(page: Path) -> str:
    return str(page.relative_to(REPOSITORY))


def blocks(page: Path, language: str) -> list[str]:
    """Return the code blocks of a page in one language."""
    found = _BLOCK.findall(page.read_text(encoding="utf-8"))
    return [text for kind, text in found if kind == language]


def prose(page: Path) -> str:
    """Return a page without its code blocks."""
    return _BLOCK.sub("", page.read_text(encoding="utf-8"))


def commands() -> list[tuple[str, str]]:
    """Return (page, command) for every ``adatom ...`` line of the shell blocks."""
    found = []
    for page in PAGES:
        for block in blocks(page, "sh"):
            for line in block.replace("\\\n", " ").splitlines():
                # Settings of the environment may go before it.
                match = re.match(r"(?:[A-Z_]+=\S+ )*adatom (.*)", line.strip())
                if match:
                    found.append((name_of(page), match[1]))
    return found


def anchors(page: Path) -> set[str]:
    """Return the anchors of the headings of a page, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_resolve(page):
    without_code = re.sub(r"`[^`\n]+`", "", prose(page))
    for link in _LINK.findall(without_code):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


class Parsed(BaseException):
    """The command line was understood; nothing is to be run."""


@pytest.fixture
def only_parse(monkeypatch):
    """Let a verb stop as soon as its arguments are understood."""
    parse = jsonargparse.ArgumentParser.parse_args

    def parse_and_stop(self, *args, **kwargs):
        parse(self, *args, **kwargs)
        raise Parsed

    monkeypatch.setattr(jsonargparse.ArgumentParser, "parse_args", parse_and_stop)
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.syspath_prepend(REPOSITORY / "examples")


def understand(command: str) -> None:
    """Parse a command.

    Raises:
        Parsed: If it was understood.
        AssertionError: If it was not, with what adatom says.
    """
    arguments = shlex.split(command, comments=True)
    try:
        code = main(arguments)
    except SystemExit as ending:  # --help and --print_config end so
        code = ending.code or 0
    assert code == 0, command
    raise Parsed


@pytest.mark.parametrize(("page", "command"), commands())
def test_commands_parse(page, command, only_parse, capsys):
    del page
    with pytest.raises(Parsed):
        understand(command)
    capsys.readouterr()


def test_a_wrong_command_does_not_parse(only_parse, capsys):
    with pytest.raises(AssertionError):
        understand("md in.xyz -o out.traj --stepps 5")
    with pytest.raises(AssertionError):
        understand("s2ef fit --config examples/train_small.yaml --model.lrr 1")
    assert "did you mean '--model.lr'" in capsys.readouterr().err


def test_every_verb_is_documented():
    verbs = {command.split()[0] for _, command in commands()}
    assert set(VERBS) <= verbs


@pytest.mark.parametrize(
    ("page", "snippet"),
    [(name_of(page), snippet) for page in PAGES for snippet in blocks(page, "python")],
)
def test_python_snippets_run(page, snippet, tmp_path, monkeypatch, request):
    """Run each snippet in a folder with a structure and a trained potential."""
    if '"default"' in snippet and not EMBEDDED["default"].is_file():
        snippet = snippet.replace('"default"', repr(str(request.getfixturevalue("tiny"))))
    prepare(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    exec(compile(snippet, page, "exec"), {"__name__": "snippet"})


def prepare(folder: Path) -> None:
    """Make the files that the snippets speak of."""
    source = REPOSITORY / "examples" / "structures" / "silicon_64_300K.extxyz"
    (folder / "structure.xyz").write_text(source.read_text(encoding="utf-8"), encoding="utf-8")
    (folder / "examples").symlink_to(REPOSITORY / "examples")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """Train a tiny potential where the embedded one is absent."""
    path = tmp_path_factory.mktemp("tiny") / "tiny.safetensors"
    script = REPOSITORY / "examples" / "train_small.py"
    subprocess.run(
        [sys.executable, str(script), "--epochs", "1", "--output", str(path)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
    )
    return path


def test_the_shown_minimal_configuration_is_the_real_one():
    shown = (REPOSITORY / "docs/how-to/train.md").read_text(encoding="utf-8")
    real = (REPOSITORY / "configs/minimal.yaml").read_text(encoding="utf-8")
    assert real.split("\n", 1)[1] in shown
    assert len(real.splitlines()) <= 15
