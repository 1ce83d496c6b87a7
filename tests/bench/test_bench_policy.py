"""The parts of the load generator that decide and compute: no sockets, no sleeps."""

from __future__ import annotations

import asyncio
import itertools
import random
import statistics
from math import isclose

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hasten.bench.arrivals import Budget, arrivals, constant, poisson
from hasten.bench.load import Plan, offer
from hasten.bench.paired import compare, ratio, schedule
from hasten.bench.record import Record
from hasten.bench.slo import Slo, parse_slo
from hasten.bench.stats import describe, quantile, summarise

unhurried = settings(deadline=None)  # a shared machine may stall for longer than an example takes
finite = st.floats(-1e9, 1e9, allow_nan=False)
seconds = st.floats(0, 100, allow_nan=False)
positive = st.floats(1e-3, 1e3, allow_nan=False)


@st.composite
def records(draw: st.DrawFn) -> Record:
    sent = draw(seconds)
    ttft, rest = draw(seconds), draw(seconds)
    return Record(
        due=sent - draw(st.sampled_from([0.0, 0.5])),
        sent=sent,
        end=sent + ttft + rest,
        first=draw(st.sampled_from([None, sent + ttft])),
        tokens=draw(st.none() | st.integers(0, 50)),
        error=draw(st.sampled_from([None, None, "reset"])),
    )


# -- quantiles


@unhurried
@given(st.lists(finite, min_size=2, max_size=50))
def test_quantiles_agree_with_the_standard_library(values: list[float]) -> None:
    values.sort()
    expected = statistics.quantiles(values, n=100, method="inclusive")
    for percent in (50, 90, 95, 99):
        assert isclose(quantile(values, percent / 100), expected[percent - 1], rel_tol=1e-9, abs_tol=1e-6)


@unhurried
@given(st.lists(finite, min_size=1), st.floats(0, 1), st.floats(0, 1))
def test_quantiles_are_monotone_and_within_the_values(values: list[float], p: float, q: float) -> None:
    values.sort()
    low, high = sorted((p, q))
    assert values[0] <= quantile(values, low) <= quantile(values, high) <= values[-1]
    assert (quantile(values, 0), quantile(values, 1)) == (values[0], values[-1])


@pytest.mark.parametrize(("values", "q"), [([], 0.5), ([1.0], -0.1), ([1.0], 1.1)])
def test_quantile_refuses(values: list[float], q: float) -> None:
    with pytest.raises(ValueError):
        quantile(values, q)


@unhurried
@given(st.lists(st.none() | finite))
def test_describe_is_ordered_and_counts_what_there_is(values: list[float | None]) -> None:
    there = [v for v in values if v is not None]
    stats = describe(values)
    if stats is None:
        assert not there
        return
    assert stats.n == len(there)
    assert min(there) <= stats.p50 <= stats.p90 <= stats.p95 <= stats.p99 <= stats.max == max(there)
    assert min(there) <= stats.mean <= stats.max


# -- arrivals


@unhurried
@given(st.floats(0.1, 1000), st.integers())
def test_arrivals_ascend_and_repeat_with_the_seed(rate: float, seed: int) -> None:
    times = list(itertools.islice(arrivals("poisson", rate, seed), 100))
    assert times == sorted(times)
    assert times[0] > 0
    assert times == list(itertools.islice(arrivals("poisson", rate, seed), 100))
    assert list(itertools.islice(constant(rate), 3)) == [0, 1 / rate, 2 / rate]


@unhurried
@given(st.floats(0.1, 1000), st.integers(0, 1000))
def test_poisson_gaps_have_mean_and_deviation_of_an_exponential(rate: float, seed: int) -> None:
    times = [0.0, *itertools.islice(poisson(rate, random.Random(seed)), 5000)]
    gaps = [b - a for a, b in itertools.pairwise(times)]
    assert isclose(statistics.mean(gaps) * rate, 1, abs_tol=0.1)
    assert isclose(statistics.stdev(gaps) * rate, 1, abs_tol=0.15)


def test_a_budget_ends_by_number_or_by_time() -> None:
    both = Budget(requests=2, seconds=10)
    assert [both.take(0), both.take(9.9), both.take(9.9)] == [True, True, False]
    assert not Budget(seconds=10).take(10)
    assert not Budget(requests=0).take(0)
    assert repr(both) == "<Budget 2 taken of 2 requests, 10 s>"
    with pytest.raises(ValueError, match="needs an end"):
        Budget()


# -- one record, many records


def test_the_metrics_of_a_record_count_from_when_it_was_due() -> None:
    record = Record(due=1.0, sent=1.5, first=2.0, end=4.0, tokens=5)
    assert (record.ttft, record.e2e, record.tpot, record.otps) == (1.0, 3.0, 0.5, 5 / 3)
    whole = Record(due=0, sent=0, end=2.0, tokens=4)
    assert (whole.ttft, whole.tpot, whole.otps) == (None, None, 2.0)
    assert Record(due=0, sent=0, first=1, end=1, tokens=1).tpot is None


@unhurried
@given(st.lists(records(), max_size=20), st.floats(0.1, 100))
def test_a_summary_adds_up(made: list[Record], wall: float) -> None:
    summary = summarise(made, wall, Slo(ttft=1000))
    assert summary.ok + summary.failed == summary.requests == len(made)
    assert sum(summary.errors.values()) == summary.failed
    assert summary.goodput_per_s is not None
    assert 0 <= summary.goodput_per_s <= summary.requests_per_s + 1e-9
    assert summary.output_tokens == sum(r.tokens or 0 for r in made if r.error is None)
    assert (summary.e2e_ms.n if summary.e2e_ms else 0) == summary.ok


def test_an_empty_summary() -> None:
    summary = summarise([], 0.0, Slo(e2e=1))
    assert (summary.requests_per_s, summary.goodput_per_s, summary.goodput_share) == (0, 0, None)


# -- limits and goodput


@unhurried
@given(st.lists(records(), max_size=20), positive, positive)
def test_a_looser_limit_never_lowers_goodput(made: list[Record], limit: float, more: float) -> None:
    def good(slo: Slo) -> float:
        return slo.goodput(made, 1.0)

    for name in ("ttft", "tpot", "e2e"):
        assert good(Slo(**{name: limit})) <= good(Slo(**{name: limit + more})) <= good(Slo())
    assert good(Slo(ttft=limit, e2e=limit)) <= min(good(Slo(ttft=limit)), good(Slo(e2e=limit)))


def test_what_meets_a_limit() -> None:
    record = Record(due=0, sent=0, first=0.25, end=1.25, tokens=11)
    assert Slo(ttft=250, tpot=100, e2e=1250).met(record)
    assert not Slo(ttft=249).met(record)
    assert not Slo(tpot=99).met(record)
    assert not Slo(e2e=1249).met(record)
    assert not Slo(ttft=1).met(Record(due=0, sent=0, end=1))  # no token at all
    assert Slo(tpot=1).met(Record(due=0, sent=0, first=1, end=9, tokens=1))
    assert not Slo().met(Record(due=0, sent=0, end=1, error="reset"))


def test_limits_are_read() -> None:
    assert parse_slo("ttft=200, tpot=33.5,e2e=800") == Slo(200, 33.5, 800)


@pytest.mark.parametrize("text", ["", "itl=3", "ttft", "ttft=", "ttft=0", "ttft=-1", "ttft=nan", "ttft=inf"])
def test_limits_that_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"allowed: ttft|expected milliseconds"):
        parse_slo(text)


# -- A against B


def test_rounds_alternate_so_that_a_drift_weighs_on_both() -> None:
    order = list(schedule(4))
    assert "".join("AB"[side] for _, side in order) == "ABBAABBA"
    assert [pair for pair, _ in order] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert sum(i for i, (_, s) in enumerate(order) if s) == sum(i for i, (_, s) in enumerate(order) if not s)


pairs_of = st.lists(st.tuples(positive, positive), min_size=2, max_size=12)


@unhurried
@given(pairs_of, st.integers())
def test_a_ratio_lies_in_its_interval_and_inverts(pairs: list[tuple[float, float]], seed: int) -> None:
    there = ratio(pairs, random.Random(seed), resamples=100)
    back = ratio([(b, a) for a, b in pairs], random.Random(seed), resamples=100)
    assert there is not None
    assert back is not None
    assert there.low <= there.estimate <= there.high
    assert isclose(there.estimate * back.estimate, 1, rel_tol=1e-9)
    assert isclose(there.low * back.high, 1, rel_tol=1e-6)
    singles = [a / b for a, b in pairs]
    assert min(singles) * (1 - 1e-9) <= there.low
    assert there.high <= max(singles) * (1 + 1e-9)


@unhurried
@given(st.lists(positive, min_size=2, max_size=12), positive)
def test_a_constant_ratio_is_found_whatever_the_drift(bases: list[float], factor: float) -> None:
    found = ratio([(base * factor, base) for base in bases], random.Random(0), resamples=50)
    assert found is not None
    assert all(isclose(x, factor, rel_tol=1e-9) for x in (found.low, found.estimate, found.high))


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = random.Random(1)
    hits = 0
    for _ in range(300):
        pairs = [(rng.lognormvariate(0.1, 0.2), rng.lognormvariate(0, 0.2)) for _ in range(20)]
        found = ratio(pairs, rng, resamples=200)
        assert found is not None
        hits += found.low <= 2.718281828**0.1 <= found.high
    assert 0.88 <= hits / 300 <= 0.99


def test_too_few_pairs_have_no_ratio() -> None:
    assert ratio([(1.0, 2.0)], random.Random(0)) is None
    assert ratio([(1.0, 2.0), (0.0, 1.0)], random.Random(0)) is None
    assert str(ratio([(1.0, 2.0)] * 3, random.Random(0))) == "0.50 [0.50, 0.50]"


def test_metrics_that_one_side_lacks_are_left_out() -> None:
    a = [summarise([Record(0, 0, 2.0, first=1.0, tokens=9)], 2.0)] * 3
    b = [summarise([Record(0, 0, 4.0, tokens=9)], 4.0)] * 3
    ratios = compare(a, b, seed=0)
    assert "TTFT p50" not in ratios
    assert isclose(ratios["E2E p50"].estimate, 0.5)
    assert isclose(ratios["requests/s"].estimate, 2)


# -- the loops


class Time:
    """A clock that moves only by sleeping."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, delay: float) -> None:
        self.now += delay
        await asyncio.sleep(0)


def test_the_open_loop_keeps_the_due_times_of_a_slow_target() -> None:
    time = Time()
    seen: list[float | None] = []

    async def send(due: float | None) -> None:
        seen.append(due)
        time.now += 5.0  # the target holds the generator up

    plan = Plan(requests=4, rate=10, arrival="constant")
    asyncio.run(offer(plan, send, time, time.sleep))
    assert seen == pytest.approx([100.0, 100.1, 100.2, 100.3])


def test_the_open_loop_ends_with_its_time_and_bounds_what_is_in_flight() -> None:
    time = Time()
    flying, most, sent = 0, 0, 0

    async def send(due: float | None) -> None:
        nonlocal flying, most, sent
        flying += 1
        sent += 1
        most = max(most, flying)
        for _ in range(5):
            await asyncio.sleep(0)
        flying -= 1

    plan = Plan(concurrency=3, seconds=2.0, rate=10, arrival="constant")
    asyncio.run(offer(plan, send, time, time.sleep))
    assert (sent, most, flying) == (20, 3, 0)


def test_the_closed_loop_keeps_its_width() -> None:
    time = Time()
    flying: list[int] = []
    now = 0

    async def send(due: float | None) -> None:
        nonlocal now
        assert due is None
        now += 1
        flying.append(now)
        await asyncio.sleep(0)
        now -= 1

    asyncio.run(offer(Plan(concurrency=3, requests=10), send, time, time.sleep))
    assert len(flying) == 10
    assert max(flying) == 3


@unhurried
@given(st.integers(1, 1000), st.integers(2, 20))
def test_the_shares_of_a_plan(requests: int, parts: int) -> None:
    plan = Plan(requests=requests, seconds=10, rate=5)
    shares = [plan.share(parts, part) for part in range(parts)]
    assert all(share.requests == max(1, round(requests / parts)) for share in shares)
    assert all(share.seconds == 10 / parts for share in shares)
    assert len({share.seed for share in shares}) == parts
