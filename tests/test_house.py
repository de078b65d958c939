"""The house rules that a linter does not hold, read from the syntax tree."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "src" / "adatom"
FILES = sorted(PACKAGE.rglob("*.py"))
LONGEST_FILE = 600
LONGEST_FUNCTION = 60
EXECUTES = ("torch.load", "pickle.load", "pickle.loads", "eval", "exec")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def is_public(name: str) -> bool:
    return not name.startswith("_")


def public_definitions(body: list[ast.stmt]) -> Iterator[Function | ast.ClassDef]:
    """Yield public functions and classes of a module, and public methods of those classes."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and is_public(node.name):
            yield node
        if isinstance(node, ast.ClassDef) and is_public(node.name):
            yield node
            yield from public_definitions(node.body)


def is_exempt(node: Function | ast.ClassDef) -> bool:
    """Tell overloads (typed twice) and setters (documented at the getter)."""
    return any(
        ast.unparse(decorator).split(".")[-1] in ("overload", "setter", "override")
        for decorator in node.decorator_list
    )


def unannotated(function: Function) -> list[str]:
    arguments = function.args
    listed = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    listed += [a for a in (arguments.vararg, arguments.kwarg) if a is not None]
    return [a.arg for a in listed if a.annotation is None and a.arg not in ("self", "cls")]


def body_lines(function: Function) -> int:
    """Count the lines below the signature and the docstring, which may be as long as they must."""
    statements = function.body[ast.get_docstring(function) is not None :]
    return (function.end_lineno or 0) - statements[0].lineno + 1 if statements else 0


def file_findings(text: str, tree: ast.Module) -> Iterator[str]:
    lines = text.count("\n")
    if lines > LONGEST_FILE:
        yield f"has {lines} lines, at most {LONGEST_FILE}"
    if ast.get_docstring(tree) is None:
        yield "has no docstring"
    for node in public_definitions(tree.body):
        if ast.get_docstring(node) is None and not is_exempt(node):
            yield f"line {node.lineno}: {node.name} has no docstring"


def statement_findings(tree: ast.Module) -> Iterator[str]:
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        name = ast.unparse(call.func)
        restricted = any(ast.unparse(keyword) == "weights_only=True" for keyword in call.keywords)
        if name in EXECUTES and not restricted:
            yield f"line {call.lineno}: {name} can execute what a file says"
        if name == "print":
            yield f"line {call.lineno}: print; use adatom.core.console"
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert):
            yield f"line {node.lineno}: assert vanishes under -O; raise an AdatomError"


def function_findings(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = body_lines(node)
            if length > LONGEST_FUNCTION:
                yield f"{node.name} has {length} lines, at most {LONGEST_FUNCTION}"
            if missing := unannotated(node):
                yield f"{node.name} does not annotate {', '.join(missing)}"


def findings(path: Path) -> list[str]:
    """Return one line per broken rule."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    return [*file_findings(text, tree), *statement_findings(tree), *function_findings(tree)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_file_keeps_the_rules(path: Path) -> None:
    assert findings(path) == []


def test_rules_are_seen_when_broken(tmp_path: Path) -> None:
    bad = tmp_path / "bad.py"
    bad.write_text("def f(x):\n    assert x\n    print(torch.load(x))\n" + "\n" * 600)
    assert len(findings(bad)) == 7


def test_only_the_resume_of_training_reads_what_torch_saved() -> None:
    users = [path for path in FILES if "torch.load(" in path.read_text(encoding="utf-8")]
    assert [path.name for path in users if path.parent.name != "training"] == []


def test_folders_have_no_knows_all() -> None:
    names = {path.name for path in PACKAGE.rglob("*") if path.is_dir()}
    assert not names & {"utils", "util", "helpers", "common", "misc"}


def test_every_folder_is_a_package() -> None:
    folders = {path.parent for path in FILES}
    assert [folder for folder in folders if not (folder / "__init__.py").exists()] == []


def test_package_says_that_it_is_typed() -> None:
    assert (PACKAGE / "py.typed").exists()
