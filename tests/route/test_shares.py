"""A share is held whatever the scores are, and however they change."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hasten.route.shares import Scores, ShareKeeper

Mix = Callable[[random.Random], float]

MIXES: dict[str, Mix] = {
    "uniform": lambda rng: rng.random(),
    "easy": lambda rng: rng.betavariate(1, 20),
    "hard": lambda rng: rng.betavariate(12, 2),
    "two kinds": lambda rng: rng.betavariate(40, 4) if rng.random() < 0.3 else rng.betavariate(2, 60),
    "one score": lambda rng: 0.37,
    "two scores": lambda rng: rng.choice((0.2, 0.8)),
    "hardest": lambda rng: 1.0,
    "easiest": lambda rng: 0.0,
}


def chosen(keeper: ShareKeeper, score: float) -> bool:
    took = keeper.chooses(score)
    keeper.chose(took)
    keeper.scores.saw(score)
    return took


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5, 0.8])
@pytest.mark.parametrize("first", MIXES)
def test_every_thousand_within_three_points(first: str, share: float) -> None:
    """The mix changes at once, twice, and every stretch of a thousand keeps the share."""
    for then in ("hard", "easy", "one score"):
        rng = random.Random(7)
        keeper = ShareKeeper(Scores())
        keeper.share = share
        took = [chosen(keeper, MIXES[mix](rng)) for mix in (first, then, first) for _ in range(1500)]
        sums = [0]
        for t in took:
            sums.append(sums[-1] + t)
        worst = max(abs(sums[i + 1000] - sums[i] - 1000 * share) for i in range(len(took) - 999))
        assert worst <= 30, (first, then, worst)


def test_the_hard_ones_are_chosen() -> None:
    rng = random.Random(3)
    keeper = ShareKeeper(Scores())
    keeper.share = 0.3
    seen = []
    for _ in range(4000):
        score = rng.random()
        seen.append((score, chosen(keeper, score)))
    rest = seen[1000:]
    right = sum(took == (score > 0.7) for score, took in rest) / len(rest)
    assert right > 0.95


def test_choices_made_elsewhere_are_made_up_for() -> None:
    """A tenth goes to the strong tier for other reasons: the score decides about the rest of the share."""
    rng = random.Random(5)
    keeper = ShareKeeper(Scores())
    keeper.share = 0.3
    strong = 0
    for i in range(4000):
        score = rng.random()
        if i % 10 == 0:
            keeper.chose(True)
            keeper.scores.saw(score)
            strong += 1
        else:
            strong += chosen(keeper, score)
    assert abs(strong / 4000 - 0.3) < 0.01


@given(st.lists(st.floats(0, 1), max_size=60), st.floats(0, 1))
def test_all_or_nothing(scores: list[float], score: float) -> None:
    keeper = ShareKeeper(Scores())
    for share, expected in ((0.0, False), (1.0, True)):
        keeper.share = share
        for each in scores:
            chosen(keeper, each)
        assert keeper.chooses(score) is expected


@given(st.lists(st.floats(-1, 2), max_size=200), st.floats(-0.5, 1.5), st.floats(-0.5, 1.5))
def test_quantiles_are_monotone(scores: list[float], a: float, b: float) -> None:
    held = Scores()
    for score in scores:
        held.saw(score)
    low, high = sorted((a, b))
    assert 0.0 <= held.quantile(low) <= held.quantile(high) <= 1.0


def test_old_scores_are_forgotten() -> None:
    held = Scores(half_life=100)
    for _ in range(1000):
        held.saw(0.9)
    for _ in range(1000):
        held.saw(0.1)
    assert held.quantile(0.5) == pytest.approx(0.1, abs=0.01)
    assert held.quantile(0.99) < 0.2


def test_a_long_life_stays_finite() -> None:
    held = Scores(half_life=2)
    for i in range(5000):
        held.saw(i % 100 / 100)
    assert 0.0 < held.quantile(0.5) < 1.0


def test_the_share_that_keeps_a_quality() -> None:
    """Uniform scores: sending those below t to the weak tier spoils t*t/2 of the answers."""
    held = Scores()
    rng = random.Random(1)
    for _ in range(5000):
        held.saw(rng.random())
    for quality in (0.6, 0.9, 0.98):
        t = (2 * (1 - quality)) ** 0.5
        assert held.share_for_quality(quality) == pytest.approx(1 - t, abs=0.05)
    assert held.share_for_quality(0.0) == pytest.approx(0.0, abs=0.01)
    assert held.share_for_quality(1.0) == pytest.approx(1.0, abs=0.01)
