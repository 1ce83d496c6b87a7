"""Dials: who falls on which side, and how sure a measured share is."""

from __future__ import annotations

import random

import pytest

from hasten.dials import Alarm, Dial, wilson

KEYS = [b"key %d" % i for i in range(100_000)]


def test_a_key_stays_on_its_side() -> None:
    first, second = Dial("semantic", 0.3, 0.1), Dial("semantic", 0.3, 0.1)
    assert [first.side(k) for k in KEYS[:1000]] == [second.side(k) for k in KEYS[:1000]]


@pytest.mark.parametrize(
    ("level", "holdback"), [(0.0, 0.0), (1.0, 0.0), (0.5, 0.0), (0.25, 0.2), (1.0, 0.01)]
)
def test_shares_are_as_set(level: float, holdback: float) -> None:
    dial = Dial("semantic", level, holdback)
    sides = [dial.side(k) for k in KEYS]
    assert abs(sides.count("holdback") / len(KEYS) - holdback) < 0.01
    assert abs(sides.count("act") / len(KEYS) - level * (1 - holdback)) < 0.01
    if level in (0.0, 1.0):
        assert ("act" if level == 0.0 else "off") not in sides


def test_the_holdback_is_the_same_whatever_the_level() -> None:
    dial = Dial("semantic", 1.0, 0.1)
    held = {k for k in KEYS[:20_000] if dial.side(k) == "holdback"}
    dial.level = 0.0
    assert held == {k for k in KEYS[:20_000] if dial.side(k) == "holdback"}


def test_turning_up_takes_nobody_out() -> None:
    low, high = Dial("semantic", 0.2, 0.1), Dial("semantic", 0.6, 0.1)
    acting = [k for k in KEYS[:20_000] if low.side(k) == "act"]
    assert all(high.side(k) == "act" for k in acting)


def test_dials_are_independent() -> None:
    one, other = Dial("semantic", 0.5), Dial("compress", 0.5)
    both = sum(one.side(k) == other.side(k) == "act" for k in KEYS)
    assert abs(both / len(KEYS) - 0.25) < 0.01


@pytest.mark.parametrize(
    ("wrong", "n", "low", "high"),
    [
        (0, 10, 0.0, 0.2775),
        (1, 10, 0.0179, 0.4042),
        (5, 10, 0.2366, 0.7634),
        (10, 10, 0.7225, 1.0),
        (15, 148, 0.0624, 0.1605),  # Newcombe (1998): 0.0624 to 0.1605
        (81, 263, 0.2553, 0.3662),  # Newcombe (1998), table I
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson(wrong: int, n: int, low: float, high: float) -> None:
    assert wilson(wrong, n) == pytest.approx((low, high), abs=5e-4)


def test_wilson_of_nothing() -> None:
    assert wilson(0, 0) == (0.0, 1.0)


def runs(share: float, bound: float, steps: int, count: int) -> list[int | None]:
    """Return when the alarm went off in each of ``count`` runs, ``None`` if it did not."""
    rng = random.Random(7)
    made: list[int | None] = []
    for _ in range(count):
        alarm = Alarm(bound)
        made.append(next((i for i in range(1, steps + 1) if alarm.saw(rng.random() < share)), None))
    return made


@pytest.mark.parametrize("bound", [0.02, 0.1])
def test_false_alarms_at_the_bound_are_as_rare_as_promised(bound: float) -> None:
    found = runs(bound, bound, 2000, 300)
    seen = sum(at or 2000 for at in found)
    false = sum(at is not None for at in found)
    assert false * 1000 < seen  # one in 1 / alpha observations, at the most


def test_a_long_good_time_buys_no_bad_one() -> None:
    alarm = Alarm(0.02)
    assert not any(alarm.saw(False) for _ in range(100_000))
    assert next(i for i in range(1, 100) if alarm.saw(True)) <= 6


def test_the_alarm_goes_off_soon_where_the_share_is_five_times_the_bound() -> None:
    found = runs(0.1, 0.02, 1000, 100)
    assert None not in found
    assert sorted(at for at in found if at is not None)[50] < 100


def test_the_alarm_stays_and_takes_any_bound() -> None:
    alarm = Alarm(0.01)
    for _ in range(10):
        alarm.saw(True)
    assert all(alarm.saw(False) for _ in range(10_000))
    for bound in (1e-6, 0.2, 0.5):
        assert [Alarm(bound).saw(x) for x in (True, False)][1] is False
