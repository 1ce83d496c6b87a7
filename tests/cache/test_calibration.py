"""From scored pairs to a limit that keeps its bound."""

from __future__ import annotations

import math
import random
from pathlib import Path

import msgspec
import pytest

from hasten.cache.semantic.calibration import Calibration, load, lowest_limit


def pairs(n: int, seed: int) -> list[tuple[float, bool]]:
    """Return (score, right) where P(wrong) = sigma(-score)."""
    rng = random.Random(seed)
    scores = [rng.gauss(2.0, 3.0) for _ in range(n)]
    return [(s, rng.random() > 1 / (1 + math.exp(s))) for s in scores]


def wrong_share(data: list[tuple[float, bool]], limit: float) -> float:
    served = [right for score, right in data if score >= limit]
    return 1 - sum(served) / len(served)


@pytest.mark.parametrize("bound", [0.02, 0.05])
def test_the_limit_keeps_its_bound_on_fresh_data(bound: float) -> None:
    fresh = pairs(100_000, 1000)
    limits = [lowest_limit(pairs(4000, seed), bound) for seed in range(60)]
    known = [limit for limit in limits if limit is not None]
    assert len(known) > 50
    broken = sum(wrong_share(fresh, limit) > bound for limit in known)
    assert broken <= 7  # 5% of 60, and what chance adds


def test_a_looser_bound_gives_a_lower_limit() -> None:
    data = pairs(5000, 3)
    limits = [lowest_limit(data, bound) for bound in (0.01, 0.02, 0.05, 0.1)]
    known = [limit for limit in limits if limit is not None]
    assert len(known) == 4
    assert known == sorted(known, reverse=True)


def test_too_few_or_too_bad_give_none() -> None:
    assert lowest_limit([], 0.01) is None
    assert lowest_limit([(1.0, True)] * 499, 0.01) is None  # 5 wrong ones would be allowed in 500
    assert lowest_limit([(1.0, True)] * 500, 0.01) == 1.0
    assert lowest_limit([(float(i), False) for i in range(500)], 0.05) is None


def test_equal_scores_are_served_together() -> None:
    data = [(2.0, True)] * 1000 + [(1.0, True)] * 1000 + [(1.0, False)] * 1000
    assert lowest_limit(data, 0.05) == 2.0
    assert lowest_limit(data[::-1], 0.05) == 2.0


def test_reading_limits(tmp_path: Path) -> None:
    made = Calibration(((0.005, 4.0), (0.01, 3.0), (0.05, 1.0)), 0.5, 1.5, 1000)
    file = tmp_path / "verifier.json"
    file.write_bytes(msgspec.json.encode(made))
    read = load(file)
    assert read == made
    assert read.limit(0.01) == 3.0
    assert read.limit(0.04) == 3.0
    assert read.limit(0.5) == 1.0
    assert read.limit(0.001) is None
    file.write_bytes(b'{"limits": 5}')
    with pytest.raises(msgspec.DecodeError):
        load(file)
