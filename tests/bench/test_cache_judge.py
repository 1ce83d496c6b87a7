"""The cache's quality benchmark: what a hit is worth, and how the thresholds and shares come about."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hasten.dials import wilson

FOLDER = Path(__file__).parents[2] / "bench"


def module(name: str) -> ModuleType:
    """Return a module of the folder of benchmarks, which is no package."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        made = importlib.util.module_from_spec(spec)
        sys.modules[name] = made
        spec.loader.exec_module(made)
    return sys.modules[name]


cache = module("cache_judge")
data = module("cache_data")


def said(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def pair(a: str, b: str, same: bool, trap: str = "negation") -> object:
    return cache.Pair(said(a), said(b), same, trap)


def labels(*rows: tuple[str, str, bool]) -> object:
    made = cache.Labels()
    for a, b, same in rows:
        made.add(cache.form(said(a)), cache.form(said(b)), same)
    return made


# -- a hit's worth


@pytest.mark.parametrize(
    ("served", "same", "verdict"),
    [
        ("Open on Sunday?", True, "right"),
        ("Open on Sunday?", False, "wrong"),
        ("are you open sundays", False, "right"),  # the question itself, but for case and punctuation
        ("Sunday opening?", False, "right"),  # labelled the same
        ("Closed on Sunday?", True, "wrong"),  # labelled different
        ("Open on Monday?", True, "other"),  # not labelled
    ],
)
def test_a_hit_is_judged_by_the_question_whose_answer_came(served: str, same: bool, verdict: str) -> None:
    asked = pair("Open on Sunday?", "Are you open Sundays?", same)
    known = labels(
        ("Are you open Sundays?", "Sunday opening?", True),
        ("Closed on Sunday?", "Are you open Sundays?", False),
    )
    assert cache.judge(cache.form(said(served)), asked, known) == verdict


def test_a_contradiction_in_the_labels_is_no_licence() -> None:
    known = labels(("a", "b", True), ("b", "a", False), ("a", "c", False), ("c", "a", True))
    assert [known.of("user: a", "user: b"), known.of("user: c", "user: a")] == [False, False]  # type: ignore[attr-defined]


def test_another_context_is_another_question() -> None:
    a = [*said("I have a dog."), {"role": "assistant", "content": "Nice."}, *said("What does it eat?")]
    b = [*said("I have a cat."), {"role": "assistant", "content": "Nice."}, *said("What does it eat?")]
    assert cache.judge(cache.form(a), cache.Pair(a, b, False, "context"), cache.Labels()) == "wrong"


# -- thresholds


def test_the_best_threshold_is_the_lowest_that_keeps_the_share() -> None:
    scored = [(0.9, True)] * 60 + [(0.8, True)] * 39 + [(0.8, False)] + [(0.7, True)] * 50 + [(0.7, False)]
    assert cache.best_threshold(scored, 0.01) == 0.8
    assert cache.best_threshold(scored, 0.02) == 0.7
    assert cache.best_threshold([(0.9, False), (0.8, True)], 0.01) is None
    assert cache.best_threshold([], 0.01) is None


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([i / 8 for i in range(9)]), st.booleans()), max_size=60),
    st.floats(0, 0.5),
)
def test_no_lower_threshold_keeps_the_share(scored: list[tuple[float, bool]], share: float) -> None:
    def keeps(threshold: float) -> bool:
        hits = [right for score, right in scored if score >= threshold]
        return bool(hits) and hits.count(False) <= share * len(hits)

    best = cache.best_threshold(scored, share)
    assert best is None or keeps(best)
    assert not any(keeps(score) for score, _ in scored if best is None or score < best)


# -- counting


def test_held_back_pairs_are_misses_and_recall_counts_right_hits_of_same_pairs() -> None:
    same, trap = pair("a", "b", True, "paraphrase"), pair("a", "c", False)
    tally = cache.Tally(
        [
            cache.Outcome(same, "semantic", "right", "x", 4.0),
            cache.Outcome(same, "semantic", "wrong", "x", 6.0),
            cache.Outcome(same, "miss", "", "", 8.0, "holdback: verifier 4.20 >= 1.00"),
            cache.Outcome(same, "miss", "", "", 8.0, "verifier -0.20 < 1.00"),
            cache.Outcome(trap, "semantic", "other", "y", 5.0),
            cache.Outcome(trap, "semantic", "right", "z", 5.0),  # another question's answer, which fits
        ]
    )
    assert (tally.pairs, tally.hits, tally.right, tally.other, tally.held) == (6, 4, 2, 1, 1)
    assert (tally.recall, tally.wrong) == (cache.Share(1, 4), cache.Share(2, 4))
    assert tally.traps == {"negation": cache.Share(1, 2)}
    assert tally.whys == {"holdback: verifier x >= x": 1, "verifier x < x": 1}
    assert tally.as_json()["wrong"]["ci95"] == wilson(2, 4)


def test_a_share_is_told_with_its_wilson_interval() -> None:
    low, high = wilson(3, 200)
    assert str(cache.Share(3, 200)) == f"1.5% [{low:.1%}, {high:.1%}]"
    assert str(cache.Share(0, 0)) == "–"
    assert cache.Share(0, 0).as_json()["share"] is None


# -- answers


def test_questions_that_ask_the_same_get_one_text_and_their_own_ids() -> None:
    pairs = [pair("a", "b", True), pair("c", "b", True), pair("a", "d", False)]
    answers = data.DataSet("x", pairs, cache.Labels()).answers()
    texts = {question[-1]: text for question, (_, text) in answers.items()}
    assert texts["a"] == texts["b"] == texts["c"] != texts["d"]
    assert len({name for name, _ in answers.values()}) == 4
