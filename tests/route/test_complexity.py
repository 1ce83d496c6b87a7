from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hasten.errors import SettingsError
from hasten.route.complexity import FILE, HERE, Complexity

ROUTER = Complexity()


@given(st.text(alphabet=st.characters(), max_size=300))
@settings(max_examples=200, deadline=None)
def test_any_text_has_a_probability(text: str) -> None:
    assert 0.0 <= ROUTER.score(text) <= 1.0


@pytest.mark.parametrize("text", ["", " ", "\n\n", "\ud800", "?", "1", "a" * 100_000, "😀" * 500, "\x00"])
def test_odd_texts_too(text: str) -> None:
    assert 0.0 <= ROUTER.score(text) <= 1.0
    ROUTER.explain(text)


@pytest.mark.parametrize(
    ("easy", "hard"),
    [
        ("What is the capital of France?", "Write a python function that merges overlapping intervals."),
        (
            "Tom has 3 apples and buys 2 more. How many apples does he have?",
            "A train travels 120 miles at 40 miles per hour, rests 2 hours, then returns at half the speed. Each of "
            "its 6 cars holds 40 people who pay $12 per ticket, and a third of the total income is spent on fuel. "
            "After that, 25% of the remaining money is tax. How much money is left per hour of the whole journey?",
        ),
        ("thanks!", "Implement an LRU cache class with get and put in O(1), and explain why it is correct."),
    ],
)
def test_harder_prompts_score_higher(easy: str, hard: str) -> None:
    assert ROUTER.score(easy) < ROUTER.score(hard)


def test_the_prior_is_in_order() -> None:
    prior = ROUTER.prior()
    assert len(prior) == 64
    assert prior == sorted(prior)
    assert 0.0 <= prior[0] < prior[-1] <= 1.0


def test_an_explanation_adds_up() -> None:
    text = "Write a python function that merges overlapping intervals."
    told = ROUTER.explain(text)
    assert abs(told[0][1]) >= abs(told[-1][1])
    names = [name for name, _ in told]
    assert "“python function”" in names
    start = ROUTER.log_odds(text) - sum(value for _, value in told)
    other = "What is the capital of France?"
    assert start == pytest.approx(ROUTER.log_odds(other) - sum(value for _, value in ROUTER.explain(other)))


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no router"):
        Complexity(tmp_path)
    (tmp_path / FILE).write_text("{")
    with pytest.raises(SettingsError):
        Complexity(tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("version", 0, "another version"),
        ("names", ["length"], "another version"),
        ("means", [0.0], "do not fit"),
        ("prior", [2.0], "do not fit"),
        ("biases", {}, "do not fit"),
        ("weights", {}, "neither"),
        ("words", {"a": "b"}, "words"),
    ],
)
def test_a_model_that_does_not_fit_is_refused(tmp_path: Path, key: str, value: object, says: str) -> None:
    model = json.loads((HERE / FILE).read_bytes())
    model[key] = value
    (tmp_path / FILE).write_text(json.dumps(model))
    with pytest.raises(SettingsError, match=says):
        Complexity(tmp_path)


def test_the_weights_are_small() -> None:
    assert (HERE / FILE).stat().st_size < 1_500_000
