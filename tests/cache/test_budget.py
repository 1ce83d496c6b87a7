"""Which look-ups are made when there are more than the models can do. A simulated second takes no time."""

from __future__ import annotations

import random

import pytest

from hasten.cache.semantic.budget import SCOPES, Budget
from hasten.testing import FakeClock

COST = 0.02  # seconds a look-up


class Traffic:
    """Questions at an even pace; what is admitted takes ``COST``."""

    def __init__(self, share: float = 1.0) -> None:
        self.clock = FakeClock()
        self.budget = Budget(share, self.clock)
        self.random = random.Random(1)

    def offer(self, rate: float, seconds: float, hits: float = 0.0, scope: bytes = b"s") -> float:
        """Offer ``rate`` questions a second, of which the share ``hits`` would be served; return the share admitted."""
        count = int(rate * seconds)
        admitted = 0
        for _ in range(count):
            self.clock.advance(1 / rate)
            if self.budget.admit(scope):
                admitted += 1
                self.budget.done(scope, COST, self.random.random() < hits)
        return admitted / count


def test_a_light_load_is_looked_up_whole_however_little_comes_of_it() -> None:
    traffic = Traffic()
    assert traffic.offer(rate=40, seconds=60) == 1.0
    assert traffic.budget.light


def test_a_client_that_waits_for_each_answer_is_never_too_much() -> None:
    traffic = Traffic()
    for _ in range(5000):
        assert traffic.budget.admit(b"s")
        seconds = traffic.random.choice((0.005, 0.007, 0.06))
        traffic.clock.advance(seconds)
        traffic.budget.done(b"s", seconds, False)


def test_under_heavy_load_what_brings_nothing_gets_a_twentieth_of_the_thread() -> None:
    traffic = Traffic()
    traffic.offer(rate=2000, seconds=20)
    thread = traffic.offer(rate=2000, seconds=20) * 2000 * COST
    assert thread == pytest.approx(0.05, rel=0.1)
    assert not traffic.budget.light


def test_under_heavy_load_what_brings_hits_gets_all_of_the_thread() -> None:
    traffic = Traffic()
    traffic.offer(rate=2000, seconds=20, hits=0.5)
    assert traffic.offer(rate=2000, seconds=20, hits=0.5) * 2000 * COST == pytest.approx(1.0, rel=0.1)


def test_hits_that_come_later_are_noticed() -> None:
    traffic = Traffic()
    traffic.offer(rate=2000, seconds=20)
    traffic.offer(rate=2000, seconds=20, hits=0.5)
    assert traffic.offer(rate=2000, seconds=5, hits=0.5) * 2000 * COST == pytest.approx(1.0, rel=0.1)


def test_a_light_load_is_looked_up_whole_again_after_a_heavy_one() -> None:
    traffic = Traffic()
    traffic.offer(rate=2000, seconds=20)
    traffic.clock.advance(15)
    assert traffic.budget.light
    assert traffic.offer(rate=40, seconds=10) == 1.0


def test_a_new_scope_is_thought_of_as_the_others_are_found_to_be() -> None:
    traffic = Traffic()
    traffic.offer(rate=2000, seconds=20)
    made = sum(traffic.offer(rate=2000, seconds=0.1, scope=b"%d" % i) for i in range(100)) / 100
    assert made * 2000 * COST < 0.1


def test_one_scopes_misses_are_not_anothers() -> None:
    traffic = Traffic()
    for _ in range(100):
        traffic.offer(rate=2000, seconds=0.2, scope=b"new")
        traffic.offer(rate=2000, seconds=0.2, hits=0.5, scope=b"asked again")
    poor, rich = (traffic.offer(2000, 2, hits, scope) for hits, scope in ((0, b"new"), (0.5, b"asked again")))
    assert rich > 5 * poor


@pytest.mark.parametrize("share", [0.25, 1.0])
def test_the_setting_bounds_what_look_ups_take(share: float) -> None:
    traffic = Traffic(share)
    traffic.offer(rate=2000, seconds=20, hits=1.0)
    assert traffic.offer(rate=2000, seconds=20, hits=1.0) * 2000 * COST == pytest.approx(share, rel=0.1)


def test_it_remembers_a_bounded_number_of_scopes() -> None:
    traffic = Traffic()
    for i in range(2 * SCOPES):
        traffic.budget.done(b"%d" % i, COST, False)
    assert len(traffic.budget._shares) == SCOPES
