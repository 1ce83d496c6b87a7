"""The dashboard's first page over HTTP: of all workers, and who sees what."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from hasten.app import App
from hasten.engines.load import Load
from hasten.measure.families import FAMILIES
from hasten.measure.registry import Registry
from hasten.testing import FakeClock, Script, ScriptedUpstream
from tests.gateway import Gateway, gateway


async def sealed(gw: Gateway) -> None:
    """Let the windows of ``gw`` hold what was asked until now."""
    watch = gw.worker.metrics.watch
    for _ in gw.worker.metrics.fold():
        pass
    for recorder in (watch.latency, watch.slo, watch.traffic, watch.exemplars):
        clock = FakeClock(recorder.ledger.clock())
        recorder.ledger.clock = clock
    for keeper in watch.keepers(None):
        await keeper.turn()
    for recorder in (watch.latency, watch.slo, watch.traffic, watch.exemplars):
        assert isinstance(recorder.ledger.clock, FakeClock)
        recorder.ledger.clock.advance(10)
        recorder.ledger.tick()


async def test_what_it_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    sections: dict[str, Any] = {
        "cache": {"semantic": False},
        "slo": {"e2e_p95_ms": 5000, "errors": 0.01, "tenants": {"acme": {"ttft_p95_ms": 100}}},
        "tenants": {"acme": {"keys": ["k-acme"]}},
    }
    async with ScriptedUpstream(Script(tokens=("a", "b", "c"))) as up, gateway(up, **sections) as gw:
        gw.http.headers["x-api-key"] = "k-acme"
        for i in range(3):
            await gw.chat(stream=True, seed=i % 2)
        await gw.chat(model="none")
        await sealed(gw)
        monkeypatch.setattr(App, "loads", {"e0": Load(at=time.time(), running=3)})
        gw.worker.metrics.update_gauges()
        shown = (await gw.http.get("/admin/overview")).json()
        minute = shown["windows"]["1m"]
        assert (minute["requests"], minute["errors"]) == (4, 0)
        assert minute["error_codes"] == {"model_not_found": 1}
        assert minute["outcomes"] == {"exact": 1, "miss": 2}  # a model that nobody knows is no miss
        assert minute["e2e"]["n"] == 3
        assert minute["models"] == {"m": 3}
        assert shown["windows"]["1h"] | {"per_second": 0} == minute | {"per_second": 0}
        assert shown["slo"]["limits"] == {"e2e_p95_ms": 5000, "errors": 0.01}
        assert [row["value"] for row in shown["slo"]["scopes"]] == ["acme"]
        assert shown["cache"]["requests"] == {"miss": 2, "exact": 1}
        assert shown["cost"]["tenants"]["acme"]["requests"] == 3
        (engine,) = shown["engines"]
        load = engine.pop("load")
        assert engine == {"name": "e0", "provider": "openai", "state": "ok", "in_flight": 0}
        assert (load["running"], load["waiting"]) == (3, None)
        assert 0 <= load["age"] < 60
        assert (shown["workers"], shown["every"]) == (1, 5)
        assert shown["dropped"] == {"request_log": 0, "otel": 0}
        assert set(shown["history"]) == {
            *("t", "per_second", "errors", "hits", "goodput", "e2e", "ttft", "tpot", "parts")
        }
        del gw.http.headers["x-api-key"]
        assert (await gw.http.get("/admin/overview")).status_code == 401


async def test_nothing_yet() -> None:
    async with ScriptedUpstream() as up, gateway(up) as gw:
        shown = (await gw.http.get("/admin/overview")).json()
        assert shown["cache"] is shown["windows"]["1m"]["ttft"] is None
        assert shown["cost"]["spent"] == 0
        assert shown["windows"]["1m"]["e2e"]["p95_ms"] is None
        assert shown["slo"] == {"scopes": [], "budgets": [], "limits": {}}


def test_only_what_is_wanted_is_read(tmp_path: Path) -> None:
    one, other = (Registry(FAMILIES, tmp_path / f"{i}.slots") for i in range(2))
    for i, registry in enumerate((one, other)):
        registry.value("hasten_engine_in_flight", "e").set(i + 1)
        registry.value("hasten_connections").set(7)
    assert one.collect(("hasten_engine",)) == {("hasten_engine_in_flight", ("e",)): [3.0]}
    other.value("hasten_engine_in_flight", "e").set(5)
    other.value("hasten_engine_in_flight", "late").set(1)
    assert one.collect(("hasten_engine", "nothing")) == {
        ("hasten_engine_in_flight", ("e",)): [6.0],
        ("hasten_engine_in_flight", ("late",)): [1.0],
    }
    (tmp_path / "1.slots").rename(tmp_path / "1.slots.ended")
    assert one.collect(("hasten_engine",)) == {("hasten_engine_in_flight", ("e",)): [1.0]}
    one.close()
    other.close()
