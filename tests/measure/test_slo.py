"""What meets an objective, goodput, burn rates against cases worked out by hand, and alerts that come and go."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hasten import config
from hasten.errors import SettingsError
from hasten.measure.alike import alike
from hasten.measure.ledger import Ledger
from hasten.measure.metrics import Metrics
from hasten.measure.objectives import ALL, GOOD, Rules, judge, judged, missed, verdicts
from hasten.measure.slo import BURN, Change, Slo
from hasten.settings import Objectives
from hasten.settings import Slo as Settings
from hasten.testing import FakeClock, Script, ScriptedUpstream
from tests.gateway import gateway
from tests.measure.taking import take
from tests.measure.test_latency import finished
from tests.measure.test_metrics import parse

START = 1200.0  # where slices of every width begin


def run(slo: Slo, clock: FakeClock, seconds: float, *traces: Any) -> list[Change]:
    """Let ``traces`` end and ``seconds`` pass; return the changes."""
    take(slo, *traces)
    clock.advance(seconds)
    slo.ledger.tick()
    return slo.check()


def verdict(**fields: Any) -> dict[str, bool]:
    """Return by objective whether a request missed it; ``good``: whether it is goodput, if it counts."""
    limits = Rules(Settings(ttft_p95_ms=200, tpot_p95_ms=33, e2e_p95_ms=800)).limits("", "")
    found = judge(finished(**fields), limits)
    names = {0: "errors", 1: "ttft", 3: "tpot", 5: "e2e"}
    shown = {
        name: bool(found >> missed(place) & 1) for place, name in names.items() if found >> judged(place) & 1
    }
    return {**shown, "good": bool(found >> GOOD & 1)} if found >> ALL & 1 else shown


GONE = {"status": 499, "error": "client_gone"}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"e2e": 0.8}, {"errors": False, "e2e": False, "good": True}),
        ({"e2e": 0.81}, {"errors": False, "e2e": True, "good": False}),
        (
            {"e2e": 0.5, "ttft": 0.19},
            {"errors": False, "ttft": False, "tpot": False, "e2e": False, "good": True},
        ),
        (
            {"e2e": 0.7, "ttft": 0.21},
            {"errors": False, "ttft": True, "tpot": True, "e2e": False, "good": False},
        ),
        ({"status": 503, "error": "no_engine_available"}, {"errors": True, "good": False}),
        ({"status": 429, "error": "engine_status"}, {"errors": True, "good": False}),
        ({"status": 200, "error": "engine_reset", "ttft": 0.1}, {"errors": True, "good": False}),
        ({"status": 401, "error": "engine_status"}, {"errors": True, "good": False}),  # the gateway's key
        ({"status": 401, "error": "invalid_api_key"}, {}),
        ({"status": 400, "error": "engine_status"}, {}),
        ({"status": 400, "error": "invalid_field"}, {}),
        ({"e2e": 0.5, **GONE}, {}),
        ({"e2e": 0.9, **GONE}, {"e2e": True, "good": False}),
        ({"e2e": 0.3, "stream": True, **GONE}, {"ttft": True, "good": False}),
        ({"e2e": 0.1, "stream": True, **GONE}, {}),
    ],
)
def test_what_is_good(fields: dict[str, Any], expected: dict[str, bool]) -> None:
    assert verdict(**fields) == expected


def test_a_tenants_limit_goes_before_a_models_and_that_before_the_general() -> None:
    rules = Rules(
        Settings(
            e2e_p95_ms=800,
            errors=0.01,
            models={"m": Objectives(e2e_p95_ms=3000, ttft_p99_ms=500)},
            tenants={"acme": Objectives(e2e_p95_ms=400, errors=0.001)},
        )
    )

    def limits(model: str, tenant: str) -> dict[str, float]:
        return {limit.measure: limit.seconds for limit in rules.limits(*rules.names(model, tenant))}

    assert limits("other", "nobody") == {"e2e": 0.8}
    assert limits("m", "nobody") == {"e2e": 3.0, "ttft": 0.5}
    assert limits("m", "acme") == {"e2e": 0.4, "ttft": 0.5}
    assert rules.budgets("all", "") == {0: 0.01, 5: 0.05}
    assert rules.budgets("model", "m") == {0: 0.01, 2: 0.01, 5: 0.05}
    assert rules.budgets("tenant", "acme") == {0: 0.001, 5: 0.05}


def test_goodput_and_burn_rates() -> None:
    clock = FakeClock(START)
    slo = Slo(Settings(e2e_p95_ms=800, errors=0.01, models={"m": Objectives()}), clock)
    traces = [finished(1.0) for _ in range(20)] + [finished(0.5) for _ in range(79)] + [finished(status=500)]
    run(slo, clock, 10, *traces)
    both = slo.view(None)["scopes"]
    assert [(row["dimension"], row["value"]) for row in both] == [("all", ""), ("model", "m")]
    for row in both:
        assert row["goodput"]["5m"] == {"share": 0.79, "per_second": pytest.approx(79 / 300)}
        # 20 of the 99 that did not fail were late: 20/99 / 0.05; 1 of 100 failed: 1/100 / 0.01
        assert row["objectives"]["e2e_p95"]["burn"] == dict.fromkeys(BURN, pytest.approx(20 / 99 / 0.05))
        assert row["objectives"]["errors"]["burn"] == dict.fromkeys(BURN, pytest.approx(1.0))
        assert row["objectives"]["errors"]["budget_left"] == pytest.approx(0.0)
    assert slo.view("acme") == {"scopes": [], "budgets": []}


def minutes(slo: Slo, clock: FakeClock, count: int, trace: Callable[[], Any]) -> list[tuple[int, bool, str]]:
    """Let one request a second end like ``trace()``; return when, in seconds, which severity began or ended."""
    found = []
    for _ in range(6 * count):
        for change in run(slo, clock, 10, *(trace() for _ in range(10))):
            found.append((round(clock.now - START), change.firing, change.severity))
    return found


def test_alerts_of_an_outage() -> None:
    clock = FakeClock(START)
    slo = Slo(Settings(errors=0.01), clock)
    assert minutes(slo, clock, 60, finished) == []
    # After b seconds of errors b / (3600 + b) is bad over the hours and days. The ticket wants more than 1% of three
    # days and six hours: b > 36.4. The page wants 6% of six hours, and of the last half hour: b > 229.8.
    broken = minutes(slo, clock, 12, lambda: finished(status=503, error="no_engine_available"))
    assert broken == [
        (3600 + 40, True, "ticket"),
        (3600 + 230, True, "page"),
    ]
    # A page stays while over 6% of the last half hour is bad, 108 s. The 12 bad minutes leave it one by one from the
    # 18th minute on; after 29 one is left. Five minutes without errors are long over. An alert is held for a minute
    # after it was last seen to fire, here ten seconds before.
    mended = minutes(slo, clock, 240, finished)
    assert mended[0] == ((72 + 29) * 60 + 50, False, "page")
    # Over six hours and three days 12 of 312 minutes are bad, 3.8 times what is allowed.
    assert mended[1:] == []
    assert slo.view(None)["scopes"][0]["objectives"]["errors"]["alerts"] == {"page": False, "ticket": True}
    # It ends when 3.6 bad minutes or fewer are in the last six hours, which begin with a slice of ten minutes: those
    # from minute 60 leave them at minute 60 + 10 + 360.
    assert minutes(slo, clock, 140, finished) == [(430 * 60 + 50, False, "ticket")]


@given(
    durations=st.lists(st.sampled_from([0.1, 0.2, 0.3, 0.4, 0.5]), min_size=1, max_size=20),
    limits=st.dictionaries(st.sampled_from(["e2e_p95_ms", "e2e_p99_ms", "ttft_p95_ms"]), st.integers(1, 5)),
)
def test_whole_answers_are_judged_together_as_each_would_be(
    durations: list[float], limits: dict[str, int]
) -> None:
    objectives: dict[str, Any] = {name: 100.0 * value for name, value in limits.items()}
    rules = Rules(Settings(errors=0.01, **objectives))
    traces = [finished(duration) for duration in durations]
    (requests,) = alike(traces)
    expected = Counter(judge(trace, rules.limits("", "")) for trace in traces)
    assert verdicts(requests, rules.limits("", "")) == expected


def test_a_short_blip_and_few_requests_alert_nobody() -> None:
    clock = FakeClock(START)
    slo = Slo(Settings(errors=0.01, e2e_p95_ms=800), clock)
    for _ in range(8):
        assert run(slo, clock, 600, finished(status=500)) == []  # one each ten minutes
    clock, failed = FakeClock(START), [finished(status=500) for _ in range(30)]
    slo = Slo(Settings(errors=0.01), clock)
    minutes(slo, clock, 60, finished)
    assert run(slo, clock, 60, *failed) == []  # 30 of 3,630 in the hour: 0.8 times


def test_nothing_is_judged_without_objectives() -> None:
    slo = Slo(Settings(), FakeClock(START))
    take(slo, finished())
    assert slo.ledger._levels[0].open == {}
    assert slo.check() == []
    assert slo.series(True) == {}


async def test_prometheus_reads_the_gauges() -> None:
    clock = FakeClock(START)
    metrics = Metrics()
    metrics.slo = slo = Slo(Settings(errors=0.1, tenants={"acme": Objectives(errors=0.5)}), clock)
    run(slo, clock, 600, *[finished(status=500, tenant="acme") for _ in range(20)])
    samples = parse(metrics.page(admin=True))
    everything = {("dimension", "all"), ("value", "")}
    labels = everything | {("objective", "errors")}
    assert samples["hasten_slo_burn_rate", frozenset(labels | {("window", "1h")})] == 10
    assert samples["hasten_slo_budget_left", frozenset(labels)] == -9
    assert samples["hasten_slo_alert", frozenset(labels | {("severity", "ticket")})] == 1
    acme = {("dimension", "tenant"), ("value", "acme"), ("objective", "errors"), ("window", "1h")}
    assert samples["hasten_slo_burn_rate", frozenset(acme)] == 2
    assert not any(("value", "acme") in labels for _, labels in parse(metrics.page()))


async def test_over_http() -> None:
    slo = {"ttft_p95_ms": 0.001, "e2e_p95_ms": 60_000, "errors": 0.01}
    async with ScriptedUpstream(Script()) as up, gateway(up, slo=slo) as gw:
        clock = FakeClock(START)
        watch = gw.worker.metrics.slo
        watch.ledger = Ledger({10: (60, 300), 60: (1800, 3600, 7200), 600: (21_600, 86_400, 259_200)}, clock)
        await gw.chat(stream=True)
        await gw.chat()
        assert (await gw.chat(messages=3)).status_code == 400
        gw.worker.metrics.flush()
        run(watch, clock, 10)
        row = (await gw.http.get("/admin/slo")).json()["scopes"][0]
        assert row["goodput"]["1m"]["share"] == 0.5
        assert row["objectives"]["ttft_p95"]["burn"]["5m"] == pytest.approx(20)
        assert row["objectives"]["e2e_p95"]["burn"]["5m"] == 0


@pytest.mark.parametrize(
    ("slo", "wrong"),
    [
        ({"models": {"x": {"e2e_p95_ms": 1}}}, "slo.models.x: 'x' is not defined"),
        ({"tenants": {"x": {}}}, "slo.tenants.x: 'x' is not defined"),
        ({"models": {"m": {"e2e_p95": 1}}}, "slo.models.m.e2e_p95: unknown key"),
        ({"models": {"m": {"e2e_p95_ms": -1}}}, "slo.models.m.e2e_p95_ms: "),
        ({"errors": 1}, "slo.errors: "),
        ({"webhook": "ftp://secret"}, "slo.webhook: expected http"),
        ({"webhook": "http://u:secret@h/"}, "slo.webhook: expected http"),
    ],
)
def test_settings_that_are_wrong(slo: dict[str, Any], wrong: str) -> None:
    tree = {
        "engines": {"e": {"kind": "openai", "base_url": "http://127.0.0.1:1/v1"}},
        "models": {"m": {"engines": ["e"]}},
        "slo": slo,
    }
    with pytest.raises(SettingsError) as caught:
        config.build(tree, environ={})
    assert any(wrong in problem for problem in caught.value.problems)
    assert "secret" not in str(caught.value)
