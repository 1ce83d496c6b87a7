"""Stages know the shared vocabulary and themselves, and nothing of each other; the composition root knows them all."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src"
STAGES = {"accept", "cache", "route", "compress", "schedule", "engines"}
SHARED = {
    "types",
    "fields",
    "trace",
    "dials",
    "errors",
    "settings",
    "secrets",
    "board",
    "bodies",
    "anatomy",
    "budget",
    "tokens",
}
#: May know several stages: they put the house together, or stand outside of it.
ABOVE = {"app", "process", "cli", "bench", "testing", "__main__"}
FILES = [path for path in sorted((SOURCE / "hasten").rglob("*.py")) if path.name != "__init__.py"]


def room(module: str) -> str:
    """Return the part of the house that ``hasten.x.y`` belongs to: ``x``."""
    return module.split(".")[1] if "." in module else ""


def imported(path: Path) -> set[str]:
    """Return the modules of this project that a file imports, those under ``if TYPE_CHECKING`` included."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute here"
            module = node.module or ""
            found |= {f"{module}.{alias.name}" for alias in node.names} if module == "hasten" else {module}
    return {module for module in found if module.split(".")[0] == "hasten"}


@pytest.mark.parametrize("path", FILES, ids=[str(p.relative_to(SOURCE)) for p in FILES])
def test_imports(path: Path) -> None:
    own = room(".".join(path.relative_to(SOURCE).with_suffix("").parts))
    others = {room(module) for module in imported(path)} - {own, ""}
    if own in STAGES or own in SHARED:
        assert others <= SHARED
    elif own not in ABOVE:
        assert len(others & STAGES) <= 0, f"{own} knows stages: {others & STAGES}"
