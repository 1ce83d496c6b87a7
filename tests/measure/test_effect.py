"""The effect of a dial: the statistics against figures worked out by hand, and what is shown of them."""

from __future__ import annotations

import math
import random
from statistics import mean, variance

import pytest

from hasten.measure.effect import Moments, moments, route, route_effect, t_quantile, welch
from hasten.measure.metrics import Metrics

# Tables of Student's t, two-sided 95%.
TABLE = {2: 4.303, 3: 3.182, 5: 2.571, 10: 2.228, 30: 2.042, 1000: 1.962}

# Worked out by hand: means 20.82 and 24.68, variances 7.758 and 22.687, 6.2 degrees of freedom.
ONE = [23.0, 18.1, 22.6, 24.2, 17.7, 19.3]
OTHER = [29.4, 21.2, 19.8, 30.1, 22.9]


def of(values: list[float]) -> Moments:
    return Moments(len(values), sum(values), sum(v * v for v in values))


def count(metrics: Metrics, side: str, measure: str, values: list[float]) -> None:
    for moment, amount in zip(("count", "sum", "squares"), of(values), strict=True):
        metrics.gauge("hasten_route_measured_total", "auto", side, measure, moment).add(amount)


@pytest.mark.parametrize("df", TABLE)
def test_students_t(df: int) -> None:
    assert t_quantile(df) == pytest.approx(TABLE[df], rel=0.01)


def test_moments() -> None:
    for values in (ONE, OTHER):
        assert of(values).mean == pytest.approx(mean(values))
        assert of(values).variance == pytest.approx(variance(values))
    assert Moments().mean == Moments().variance == Moments(1, 3, 9).variance == 0.0


def test_welch_by_hand() -> None:
    found = welch(of(ONE), of(OTHER))
    assert found is not None
    v1, v2 = variance(ONE) / 6, variance(OTHER) / 5
    df = (v1 + v2) ** 2 / (v1**2 / 5 + v2**2 / 4)
    assert 6.0 < df < 7.0
    half = 2.42 * math.sqrt(v1 + v2)  # between t(6) = 2.447 and t(7) = 2.365
    assert found.estimate == pytest.approx(mean(ONE) - mean(OTHER))
    assert found.upper - found.estimate == pytest.approx(half, rel=0.02)
    assert found.estimate - found.lower == pytest.approx(half, rel=0.02)


def test_few_or_equal_observations() -> None:
    assert welch(of([1.0, 2.0]), of(OTHER)) is None
    assert welch(of(ONE), Moments()) is None
    assert welch(of([2.0] * 5), of([3.0] * 5)) == (-1.0, -1.0, -1.0)


def test_the_interval_holds_the_true_difference_as_often_as_it_says() -> None:
    source = random.Random(7)
    held = 0
    for _ in range(1000):
        one = of([source.gauss(1.0, 1.0) for _ in range(12)])
        other = of([source.gauss(0.5, 3.0) for _ in range(6)])
        found = welch(one, other)
        assert found is not None
        held += found.lower <= 0.5 <= found.upper
    assert 0.93 < held / 1000 < 0.97


async def test_what_is_shown() -> None:
    metrics = Metrics()
    count(metrics, "act", "cost", ONE)
    count(metrics, "holdback", "cost", OTHER)
    count(metrics, "off", "cost", OTHER)
    count(metrics, "act", "feedback", [1.0])
    metrics.gauge("hasten_route_requests_total", "auto", "small", "easy").add(5)
    metrics.gauge("hasten_route_feedback_total", "auto", "small", "good").add(1)
    series = metrics.registry.collect()
    assert moments(series)["auto"]["cost"]["act"] == pytest.approx(of(ONE))
    shown = route(series)["auto"]
    assert shown["requests"] == {"small": {"easy": 5.0}}
    assert shown["feedback"] == {"small": {"good": 1.0}}
    assert shown["measured"]["cost"]["holdback"] == {"n": 5, "mean": pytest.approx(mean(OTHER))}
    assert list(shown["effect"]) == ["cost"]
    saved = (mean(OTHER) - mean(ONE)) * len(ONE)
    assert shown["effect"]["cost"]["saved"] == pytest.approx(saved)
    effect = route_effect(series)
    assert {labels for _, labels in effect} == {("auto", "cost", b) for b in ("lower", "estimate", "upper")}
    assert b'hasten_route_effect{model="auto",measure="cost",bound="estimate"} -3.86' in metrics.page()
