"""The shape of the house: small files, small functions, few parameters, no globals, errors caught by name."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "hasten"
FILES = sorted(SOURCE.rglob("*.py"))
NAMES = [str(path.relative_to(SOURCE)) for path in FILES]

FILE_LINES = 400  # never over 600
FUNCTION_LINES = 60
PARAMETERS = 8
BOUNDARY = SOURCE / "accept" / "exchange.py"  # the one place that catches everything


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def broad(handler: ast.ExceptHandler) -> bool:
    """Whether it catches everything and lets it go no further."""
    caught = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    names = {node.id for node in caught if isinstance(node, ast.Name)}
    ends_in_raise = isinstance(handler.body[-1], ast.Raise) and handler.body[-1].exc is None
    return (None in caught or bool(names & {"Exception", "BaseException"})) and not ends_in_raise


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_shape(path: Path) -> None:
    text = path.read_text()
    tree = ast.parse(text)
    assert text.count("\n") <= FILE_LINES
    for function in functions(tree):
        where = f"{path.name}:{function.lineno} {function.name}"
        assert (function.end_lineno or 0) - function.lineno + 1 <= FUNCTION_LINES, where
        given = function.args
        count = len(given.posonlyargs) + len(given.args) + len(given.kwonlyargs)
        count -= bool(given.args) and given.args[0].arg in ("self", "cls")
        assert count <= PARAMETERS, where
    assert not any(isinstance(node, ast.Global) for node in ast.walk(tree))
    if path != BOUNDARY:
        assert not any(isinstance(node, ast.ExceptHandler) and broad(node) for node in ast.walk(tree))
