"""Requests are counted in batches, and the sums are those of each by itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hasten.measure.metrics import BATCH, Metrics
from hasten.trace import Trace
from tests.measure.test_latency import finished
from tests.measure.test_metrics import parse

CHAT = frozenset({("endpoint", "chat"), ("status", "200")})

REQUESTS = st.lists(
    st.builds(
        finished,
        st.integers(1, 40).map(lambda n: n / 8),
        st.one_of(st.none(), st.just(0.125)),
        status=st.sampled_from([200, 503]),
        cache=st.sampled_from(["", "miss", "exact"]),
        tenant=st.sampled_from(["acme", "beta"]),
        stream=st.booleans(),
        input_tokens=st.one_of(st.none(), st.integers(0, 9)),
    ),
    max_size=3 * BATCH,
)


@given(REQUESTS)
def test_batches_change_nothing(traces: list[Trace]) -> None:
    together, alone = Metrics(), Metrics()
    for trace in traces:
        together.record(trace)
        alone.record(trace)
        alone.flush()
    together.flush()
    some, same = (
        {key: values for key, values in metrics.registry.collect().items() if "worker" not in key[0]}
        for metrics in (together, alone)
    )
    assert some.keys() == same.keys()
    for key, values in some.items():
        assert values == pytest.approx(same[key])


async def test_a_full_batch_is_counted_and_of_another_it_is_told_once() -> None:
    metrics, told = Metrics(), list[int]()
    metrics.first = lambda: told.append(1)
    handed: list[list[Trace]] = []
    metrics.after = handed.append
    for _ in range(BATCH + 2):
        metrics.record(finished())
    assert [len(traces) for traces in handed] == [BATCH]
    assert len(told) == 2
    assert parse(metrics.page())["hasten_requests_total", CHAT] == BATCH + 2
    assert [len(traces) for traces in handed] == [BATCH, 2]


async def test_what_cannot_be_counted_takes_no_other_with_it(caplog: pytest.LogCaptureFixture) -> None:
    metrics, handed = Metrics(), list[Trace]()
    metrics.after = handed.extend
    bad = finished(engine="odd", input_tokens="many")
    for trace in (finished(), bad, finished()):
        metrics.record(trace)
    metrics.flush()
    metrics.record(bad)
    assert parse(metrics.page())["hasten_requests_total", CHAT] == 4
    assert len(handed) == 4
    assert caplog.text.count("not counted in full") == 1
