from __future__ import annotations

import random
from pathlib import Path

import pytest

from hasten.errors import SettingsError
from hasten.route.complexity import Complexity
from hasten.route.fit import apgr, fit, quantiles, save

TOPICS = ["pears", "trains", "clouds", "letters", "gardens", "rivers"]


def rows(n: int, seed: int = 0) -> list[tuple[str, float]]:
    """A deployment where the strong tier is better at contracts, and nowhere else."""
    rng = random.Random(seed)
    made = []
    for _ in range(n):
        topic = rng.choice(TOPICS)
        if rng.random() < 0.4:
            text = f"Does the contract about {topic} let the owner sue in court for {rng.randrange(99)} days?"
            made.append((text, 1.0 if rng.random() < 0.8 else 0.0))
        else:
            text = (
                f"Tell me something nice about {topic} and {rng.choice(TOPICS)}, {rng.randrange(99)} words."
            )
            made.append((text, 1.0 if rng.random() < 0.05 else 0.0))
    return made


def test_a_deployments_own_router_learns_what_is_hard_there(tmp_path: Path) -> None:
    save(fit(rows(200)), tmp_path)
    own = Complexity(tmp_path)
    fresh = rows(200, seed=1)
    gains = [gain for _, gain in fresh]
    before = apgr([Complexity().score(text) for text, _ in fresh], gains)
    after = apgr([own.score(text) for text, _ in fresh], gains)
    assert after > 0.7
    assert after >= before
    assert own.explain(fresh[0][0])
    assert len(own.prior()) == 64


def test_the_same_rows_make_the_same_router() -> None:
    assert fit(rows(60)) == fit(rows(60))


def test_too_little_is_refused() -> None:
    with pytest.raises(SettingsError, match="too few"):
        fit(rows(10))
    with pytest.raises(SettingsError, match="never better"):
        fit([(text, 0.0) for text, _ in rows(60)])


def test_apgr() -> None:
    gains = [1.0] * 10 + [0.0] * 10
    perfect = [1.0 - i / 20 for i in range(20)]
    assert apgr(perfect, gains) == pytest.approx(0.75)
    assert apgr(perfect[::-1], gains) == pytest.approx(0.25)
    assert apgr([0.5] * 20, gains) == pytest.approx(0.5)
    with pytest.raises(ValueError):
        apgr([0.5], [0.0])


def test_quantiles_are_in_order() -> None:
    assert quantiles([3.0, 1.0, 2.0], 3) == [1.0, 2.0, 3.0]
