"""A quantile of a sketch is never further than its bound from that of all values."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hasten.bench.stats import quantile
from hasten.measure.sketch import ERROR, LAST, LEAST, MOST, bucket, middle, quantiles

QS = (0.5, 0.9, 0.95, 0.99, 0.999)
ROUNDING = 1e-9

durations = st.floats(LEAST, MOST) | st.floats(-5, 4.556).map(lambda e: 10.0**e).filter(lambda x: x <= MOST)


def off(values: Sequence[float], qs: Sequence[float] = QS) -> float:
    """Return the largest relative error of the sketch's quantiles of ``values``."""
    ordered = sorted(values)
    found = quantiles(Counter(map(bucket, values)), qs)
    return max(abs(x - quantile(ordered, q)) / quantile(ordered, q) for q, x in zip(qs, found, strict=True))


@given(durations)
def test_a_bucket_stands_for_what_is_in_it(seconds: float) -> None:
    assert abs(middle(bucket(seconds)) - seconds) <= (ERROR + ROUNDING) * seconds


@given(st.lists(durations, min_size=1, max_size=300), st.lists(st.floats(0, 1), min_size=1, max_size=5))
def test_quantiles_are_within_the_bound(values: list[float], qs: list[float]) -> None:
    assert off(values, sorted(qs)) <= ERROR + ROUNDING


@given(st.lists(durations, max_size=50), st.lists(durations, min_size=1, max_size=50))
def test_a_sum_of_sketches_is_the_sketch_of_all(a: list[float], b: list[float]) -> None:
    assert Counter(map(bucket, a)) + Counter(map(bucket, b)) == Counter(map(bucket, a + b))


def bimodal(random: random.Random) -> float:
    return random.gauss(0.002, 0.0003) if random.random() < 0.4 else random.gauss(1.5, 0.3)


SHAPES: dict[str, Callable[[random.Random], float]] = {
    "lognormal": lambda r: r.lognormvariate(-1.6, 0.8),
    "bimodal": lambda r: max(LEAST, bimodal(r)),  # hits and calls
    "heavy tail": lambda r: min(MOST, 0.01 * r.paretovariate(1.1)),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_shapes_of_latencies(shape: str) -> None:
    source = random.Random(7)
    assert off([SHAPES[shape](source) for _ in range(100_000)]) <= ERROR


def test_the_ends_of_the_range() -> None:
    assert [bucket(x) for x in (-1.0, 0.0, LEAST)] == [0, 0, 0]
    assert [bucket(x) for x in (MOST, 1e9, float("inf"))] == [LAST, LAST, LAST]
    assert middle(LAST) == pytest.approx(MOST, rel=2 * ERROR)
    with pytest.raises(ValueError):
        quantiles({}, QS)
