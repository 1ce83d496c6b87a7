"""``hasten route`` and ``hasten train-router``."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hasten.cli import main, route, train_router
from hasten.cli.train_router import Row, auc, cross_validate, loss, read
from hasten.engines import weights
from hasten.errors import HastenError
from hasten.route.complexity import Complexity
from tests.cache.semantics import embed as bag_of_words

CONFIG = """
engines: {e: {kind: openai, base_url: 'http://127.0.0.1:1/v1'}}
models:
  tiny: {engines: [e]}
  huge: {engines: [e]}
  plain: {engines: [e]}
  smart: {tiers: [tiny, huge], route: {holdback: 0, hold: {strong_share: 1}}}
  cheap: {tiers: [tiny, huge], route: {holdback: 0, hold: {strong_share: 0}}}
"""


@pytest.fixture
def configured(tmp_path: Path) -> list[str]:
    (tmp_path / "h.yaml").write_text(CONFIG)
    return ["--config", str(tmp_path / "h.yaml")]


def explained(capsys: pytest.CaptureFixture[str], *argv: str) -> dict[str, Any]:
    assert main(["route", *argv, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_it_explains_a_decision(capsys: pytest.CaptureFixture[str]) -> None:
    found = explained(capsys, "What is the capital of France?")
    assert (found["model"], found["held_share"]) == ("auto", 0.5)
    assert found["tier"] == ("large" if found["score"] > found["threshold"] else "small")
    assert found["score"] == found["frozen_score"] == Complexity().score("What is the capital of France?")
    assert all(isinstance(name, str) and amount for name, amount in found["features"])
    assert main(["route", "What is the capital of France?"]) == 0
    said = capsys.readouterr().out
    assert f"auto -> {found['tier']} ({found['reason']})" in said
    assert f"{found['score']:.3f}" in said
    assert found["features"][0][0] in said
    assert "no --config" in said


def test_it_goes_by_the_configuration(capsys: pytest.CaptureFixture[str], configured: list[str]) -> None:
    assert explained(capsys, "Hi", *configured)["tier"] == "huge"  # the first that has tiers
    cheap = explained(capsys, "Hi", *configured, "--model", "cheap")
    assert (cheap["model"], cheap["tier"], cheap["reason"]) == ("cheap", "tiny", "easy")


def test_what_was_learnt_counts(
    capsys: pytest.CaptureFixture[str], configured: list[str], tmp_path: Path
) -> None:
    learnt = tmp_path / "learnt.json"
    learnt.write_text('{"b": 1.5, "examples": 9}')
    text = CONFIG.replace("strong_share: 0}", f"strong_share: 0}}, learn: {{share: 1, path: {learnt}}}")
    (tmp_path / "h.yaml").write_text(text)
    found = explained(capsys, "Why is it so? " * 20, *configured, "--model", "cheap")
    assert found["score"] > found["frozen_score"] + 0.05
    assert main(["route", "Why is it so? " * 20, *configured, "--model", "cheap"]) == 0
    assert "before what was learnt" in capsys.readouterr().out


def test_it_reads_standard_input(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("What is the capital of France?"))
    assert explained(capsys, "-") == explained(capsys, "What is the capital of France?")
    assert main(["route", " ", "--json"]) == 1
    assert "the prompt is empty" in capsys.readouterr().err
    assert main(["route", "\udce4", "--json"]) == 0  # an argument that is no UTF-8


@pytest.mark.parametrize("name", ["plain", "nobody"])
def test_names_without_tiers(capsys: pytest.CaptureFixture[str], configured: list[str], name: str) -> None:
    assert main(["route", "Hi", *configured, "--model", name]) == 1
    assert "these have: smart, cheap" in capsys.readouterr().err


def test_a_configuration_without_tiers(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "h.yaml"
    path.write_text(CONFIG.split("  smart")[0])
    assert main(["route", "Hi", "--config", str(path)]) == 1
    assert "no model of this configuration has tiers" in capsys.readouterr().err


STEERED = (
    CONFIG.replace("strong_share: 0}", "strong_share: 0}, cascade: true")
    + """
tenants: {shop: {keys: [key-of-the-shop], require: [eu]}}
routes:
  greeting: {patterns: ['^hello'], to: plain}
  news: {patterns: [today], to: cheap, cache: {policy: bypass}}
  again: {patterns: [again], cache: {policy: refresh}}
  parcel: {models: [smart], examples: [where is my parcel, my parcel has not come], cache: {policy: exact}}
"""
).replace("huge: {engines: [e]}", "huge: {engines: [e], tags: [eu]}")


@pytest.fixture
def steered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the arguments for settings with named routes; the embedder is a bag of words."""
    monkeypatch.setattr(route, "needs_embedder", lambda settings: True)
    monkeypatch.setattr(weights, "resolve", lambda name: tmp_path)
    monkeypatch.setattr(route, "load_embedder", lambda path: bag_of_words)
    (tmp_path / "h.yaml").write_text(STEERED)
    return ["--config", str(tmp_path / "h.yaml")]


LOOKED_UP = "exact key, call in flight, other wording"


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (
            ["hello"],
            {"tier": "plain", "reason": "named: greeting", "named": "greeting, by pattern", "score": None},
        ),
        (["hello"], {"cache": LOOKED_UP, "cascade": ""}),
        (
            ["who won today"],
            {"tier": "tiny", "reason": "named: news, easy", "cache": "passed by: the named route says so"},
        ),
        (["who won today"], {"cascade": "huge"}),
        (["again"], {"cache": "not looked up, the named route says so; the answer is kept"}),
        (["is my parcel where"], {"named": "parcel, by example", "cache": "exact key, call in flight"}),
        (["is my parcel where", "--model", "cheap"], {"named": "none", "tier": "tiny"}),
        (["what is this"], {"named": "none", "tier": "huge", "reason": "hard", "cascade": ""}),
        (["what", "--model", "cheap", "--tenant", "shop"], {"tier": "huge", "reason": "needs tags"}),
        (["what", "--model", "plain"], {"tier": "plain", "reason": "", "cache": LOOKED_UP}),
    ],
)
def test_it_plays_named_routes_cache_and_cascade(
    capsys: pytest.CaptureFixture[str], steered: list[str], argv: list[str], expected: dict[str, Any]
) -> None:
    found = explained(capsys, *argv, *steered)
    assert {key: found[key] for key in expected} == expected


def test_what_it_shows(
    capsys: pytest.CaptureFixture[str], steered: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["route", "who won today", *steered]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[:3] == [
        "smart -> tiny (named: news, easy)",
        "  named      news, by pattern",
        "  cache      passed by: the named route says so",
    ]
    assert "  cascade    tiny's answer is judged; where it falls short, huge answers" in said
    monkeypatch.setattr(route, "needs_embedder", lambda settings: False)
    assert main(["route", "where is my parcel", *steered]) == 0
    assert "none by a pattern; examples need the extra semantic" in capsys.readouterr().out
    for argv, wrong in (
        (["--tenant", "nobody"], "there is no tenant 'nobody'; there are: shop"),
        (["--model", "nobody"], "there is no model 'nobody'; there are: tiny, "),
    ):
        assert main(["route", "Hi", *argv, *steered]) == 1
        assert wrong in capsys.readouterr().err


@pytest.mark.parametrize(
    ("cache", "told"),
    [
        ("{exact: false, semantic: false, coalesce: false}", "off"),
        ("{sampled: false}", "passed by: sampled"),
        ("{semantic: false}", "exact key, call in flight"),
    ],
)
def test_what_the_cache_does(
    capsys: pytest.CaptureFixture[str], configured: list[str], tmp_path: Path, cache: str, told: str
) -> None:
    (tmp_path / "h.yaml").write_text(f"{CONFIG}cache: {cache}\n")
    assert explained(capsys, "Hi", *configured)["cache"] == told


# -- reading a log


def log(*lines: Any) -> list[bytes]:
    return [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]


CHAT = [{"role": "user", "content": "first"}, {"role": "assistant", "content": "x"}]
TURN = [*CHAT, {"role": "user", "content": [{"type": "text", "text": "last"}]}]


@pytest.mark.parametrize(
    ("line", "row"),
    [
        ({"prompt": "p", "small": 0.25, "large": 1}, ("p", 0.75)),
        ({"prompt": "p", "small": 1, "large": 0}, ("p", -1.0)),
        ({"prompt": "p", "score": 0.25}, ("p", 0.75)),
        ({"prompt": "p", "label": "good"}, ("p", 0.0)),
        ({"messages": TURN, "label": "bad"}, ("last", 1.0)),
        ({"messages": CHAT, "label": "bad"}, ("first", 1.0)),
        ({"request": json.dumps({"messages": TURN}), "label": "bad", "status": 200}, ("last", 1.0)),
        ({"request": json.dumps({"prompt": "p"}), "label": "bad"}, ("p", 1.0)),
    ],
)
def test_a_line_makes_a_row(line: dict[str, Any], row: Row) -> None:
    assert read(log(line)) == ([row], 0)


def test_prompts_and_outcomes_meet_by_their_id() -> None:
    lines = log(
        {"id": "2", "label": "good"},
        {"id": "1", "request": json.dumps({"messages": TURN}), "served_model": "small"},
        {"id": "2", "prompt": "two"},
        {"id": "1", "score": 0},
        {"id": "1", "score": 1},
    )
    assert sorted(read(lines).rows) == [("last", 1.0), ("two", 0.0)]
    assert read(lines).left == 0


def test_what_is_no_row_is_counted() -> None:
    lines = log(
        b"{cut", b"", b"\n", [], {"status": 200}, {"prompt": "p"}, {"label": "bad"}, {"id": "1", "prompt": "p"},
        {"id": "2", "label": "bad"}, {"request": '{"messages": [', "label": "bad"}, {"prompt": 5, "label": "bad"},
        {"messages": [], "label": "bad"}, {"prompt": "p", "label": "awful"}, {"prompt": "p", "small": 1},
    )  # fmt: skip
    assert read(lines) == ([], 12)


def test_only_one_tiers_judgements_count() -> None:
    lines = log(
        {"prompt": "a", "label": "bad", "served_model": "small"},
        {"prompt": "b", "label": "bad", "served_model": "large"},
        {"prompt": "c", "small": 0, "large": 1, "served_model": "large"},
    )
    assert read(lines, "small") == ([("a", 1.0), ("c", 1.0)], 1)
    with pytest.raises(HastenError, match="large, small"):
        read(lines)


# -- the validation


def test_measures() -> None:
    assert auc([0.1, 0.9], [0, 1]) == 1.0
    assert auc([0.9, 0.1], [0, 1]) == 0.0
    assert auc([0.5] * 4, [0, 1, 0, 1]) == 0.5
    assert auc([0.1, 0.2, 0.3, 0.4], [0, 1, 0, 1]) == 0.75
    assert auc([0.1, 0.2], [0, 0]) == 0.5
    assert loss(0.5, 1) == loss(0.5, 0) == pytest.approx(0.6931, abs=1e-4)
    assert loss(0.0, 1) == pytest.approx(9.21, abs=0.01)


class Known:
    """A router that looks at one word, or at nothing."""

    def __init__(self, good: bool) -> None:
        self._good = good

    def score(self, text: str) -> float:
        return (0.9 if "hard" in text else 0.1) if self._good else 0.5


ROWS: list[Row] = [(f"{'hard' if i % 3 == 0 else 'easy'} {i}", float(i % 3 == 0)) for i in range(200)]


def fake(monkeypatch: pytest.MonkeyPatch, good: bool) -> list[int]:
    """Have every fit return a router; returns the numbers of rows of the fits."""
    sizes: list[int] = []

    def fitted(rows: Sequence[Row], folder: Path) -> Known:
        sizes.append(len(rows))
        folder.mkdir(exist_ok=True)
        (folder / "router.json").write_text("{}")
        return Known(good)

    monkeypatch.setattr(train_router, "fitted", fitted)
    monkeypatch.setattr(train_router, "Complexity", lambda: Known(not good))
    return sizes


def write(path: Path, rows: Sequence[Row] = ROWS) -> str:
    path.write_text("".join(json.dumps({"prompt": text, "score": 1 - gain}) + "\n" for text, gain in rows))
    return str(path)


def test_no_prompt_is_judged_by_what_was_fitted_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[set[str]] = []

    def fitted(rows: Sequence[Row], folder: Path) -> Any:
        known = {text for text, _ in rows}
        seen.append(known)
        return SimpleNamespace(score=lambda text: 0.1 if text in known else 0.6)

    monkeypatch.setattr(train_router, "fitted", fitted)
    found = cross_validate([*ROWS, *ROWS], Known(True))  # type: ignore[arg-type]
    assert found.auc[1] == 0.5
    assert found.loss[1] == pytest.approx(sum(loss(0.6, y) for _, y in ROWS) / len(ROWS))
    assert not found.better
    assert set().union(*seen) == {text for text, _ in ROWS}


def test_a_better_one_is_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = fake(monkeypatch, good=True)
    out = tmp_path / "mine"
    assert main(["train-router", write(tmp_path / "log"), "--out", str(out)]) == 0
    assert (out / "router.json").exists()
    said = capsys.readouterr().out
    assert "200 prompts with an outcome; at 34% the weak tier fell short" in said
    assert "The fitted router is better." in said
    assert f"router: {out}" in said
    assert sum(sizes) == 4 * 200 + 200


def test_a_worse_one_only_by_force(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake(monkeypatch, good=False)
    out = tmp_path / "mine"
    given = ["train-router", write(tmp_path / "log"), "--out", str(out)]
    assert main(given) == 1
    assert not out.exists()
    assert "not better" in capsys.readouterr().out
    assert main([*given, "--force"]) == 0
    assert (out / "router.json").exists()


def test_logs_that_give_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train-router", str(tmp_path / "nowhere")]) == 1
    (tmp_path / "log").write_text("{}\n")
    assert main(["train-router", str(tmp_path / "log")]) == 1
    said = capsys.readouterr().err
    assert "cannot be read" in said
    assert "no prompt with an outcome (1 lines were left out)" in said


def test_from_a_log_to_a_router_that_serves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("hasten.route.fit")
    rows = [
        (f"{'Prove the lemma' if g else 'Greet the person'} number {i}", g) for i, (_, g) in enumerate(ROWS)
    ]
    out = tmp_path / "mine"
    assert main(["train-router", write(tmp_path / "log", rows), "--out", str(out)]) == 0
    capsys.readouterr()
    path = tmp_path / "h.yaml"
    path.write_text(CONFIG.replace("strong_share: 1}", f"strong_share: 0.4}}, router: {out}"))
    for text, tier in (("Prove the lemma number 7000", "huge"), ("Greet the person number 8000", "tiny")):
        assert explained(capsys, text, "--config", str(path), "--model", "smart")["tier"] == tier
