"""Settings of learning and of one's own router: what is refused, and where it is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hasten import config
from hasten.cli import main
from hasten.errors import SettingsError

TREE: dict[str, Any] = {
    "engines": {"e": {"kind": "openai", "base_url": "http://127.0.0.1:1/v1"}},
    "models": {"small": {"engines": ["e"]}, "large": {"engines": ["e"]}},
}


def build(**routes: dict[str, Any]) -> Any:
    routed = {name: {"tiers": ["small", "large"], "route": route} for name, route in routes.items()}
    return config.build({**TREE, "models": {**TREE["models"], **routed}}, environ={})


@pytest.mark.parametrize(
    ("routes", "problem"),
    [
        ({"m": {"router": "/nowhere"}}, "models.m.route.router: there is no router in a folder /nowhere"),
        ({"m": {"learn": {"path": "/nowhere/x"}}}, "models.m.route.learn.path: there is no folder /nowhere"),
        ({"m": {"learn": {"share": 2}}}, "models.m.route.learn.share: expected"),
        ({"m": {"learn": {"rate": 2}}}, "models.m.route.learn.rate: unknown key"),
        (
            {"m": {"learn": {"path": "/tmp/x"}}, "n": {"learn": {"path": "/tmp/x"}}},
            "models.n.route.learn.path: each model needs a file of its own",
        ),
    ],
)
def test_what_is_refused(routes: dict[str, Any], problem: str) -> None:
    with pytest.raises(SettingsError) as caught:
        build(**routes)
    assert any(said.startswith(problem) for said in caught.value.problems)


def test_learning_is_off_unless_asked_for(tmp_path: Path) -> None:
    assert build(m={}).models["m"].route.learn.share == 0.0
    (tmp_path / "router.json").touch()
    made = build(m={"learn": {"share": 0.5, "path": str(tmp_path / "x")}, "router": str(tmp_path)})
    assert made.models["m"].route.learn.share == 0.5


def test_check_reads_the_router(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("hasten.route.fit")  # what reads routers came with what writes them
    (tmp_path / "router.json").write_text("{}")
    text = "engines: {e: {kind: openai, base_url: 'http://127.0.0.1:1/v1'}}\nmodels:\n"
    text += "  a: {engines: [e]}\n  b: {engines: [e]}\n"
    text += f"  m: {{tiers: [a, b], route: {{router: {tmp_path}}}}}\n"
    (tmp_path / "h.yaml").write_text(text)
    assert main(["check", str(tmp_path / "h.yaml")]) == 2
    assert "models.m.route.router" in capsys.readouterr().err
