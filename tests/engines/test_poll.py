"""Engines are asked for their own metrics: who is asked, with what, and what becomes of answers that are none."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from hasten import config
from hasten.engines import poll
from hasten.engines.load import Reader
from hasten.engines.poll import from_gauges
from hasten.errors import SettingsError
from hasten.testing import Script, ScriptedUpstream
from tests.engines import pages
from tests.gateway import Gateway, eventually, gateway

PAGE = Script(body=pages.VLLM_V1, headers={"content-type": "text/plain"})
LATER = Script(body=pages.VLLM_V1_LATER)
ON = {"metrics": True}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look more often than in earnest."""
    monkeypatch.setattr(poll, "EVERY", 0.02)
    monkeypatch.setattr(poll, "TIMEOUT", 0.5)


async def heard(gw: Gateway, engine: str = "e0") -> None:
    await eventually(lambda: engine in gw.worker.app.loads, 5)


@pytest.mark.parametrize("client", ["hasten", "httpx"])
async def test_what_an_engine_tells_is_shown(client: str) -> None:
    async with ScriptedUpstream(PAGE) as up, gateway(up, engine={**ON, "client": client}) as gw:
        await heard(gw)
        load = gw.worker.app.loads["e0"]
        assert (load.running, load.waiting) == (6, 1)
        assert load.kv_usage == pytest.approx(0.4)
        assert abs(time.time() - load.at) < 60
        page = await gw.metrics()
        assert 'hasten_engine_running{engine="e0"} 6' in page
        assert 'hasten_engine_kv_usage{engine="e0"} 0.4' in page
        assert "hasten_engine_reported_seconds{" not in page  # one page tells no means
        up.script = LATER
        await eventually(lambda: gw.worker.app.loads["e0"].queue is not None, 5)
        page = await gw.metrics()
        assert 'hasten_engine_cached_share{engine="e0"} 0.75' in page
        assert 'hasten_engine_reported_seconds{engine="e0",phase="decode"} 3.5' in page
        assert "hasten_engine_kv_usage{" not in page  # the later page does not tell it
        assert up.requests[0].method == "GET"
        assert up.requests[0].target == "/metrics"
        # What other workers find.
        assert from_gauges(gw.worker.metrics.series()) == gw.worker.app.loads


async def test_nobody_is_asked_unless_the_settings_say_so() -> None:
    async with ScriptedUpstream(PAGE) as up, gateway(up) as gw:
        await asyncio.sleep(0.1)
        assert gw.worker.app.loads == {}
        assert up.requests == []
        assert "hasten_engine_running{" not in await gw.metrics()


@pytest.mark.parametrize("client", ["hasten", "httpx"])
async def test_the_key_goes_to_the_engine_s_own_address_only(client: str) -> None:
    given = {"client": client, "api_key": "engine-key", "headers": {"X-Team": "secret"}}
    async with ScriptedUpstream(PAGE) as up, ScriptedUpstream(PAGE) as other:
        async with gateway(up, engine={**given, **ON}) as gw:
            await heard(gw)
        assert up.requests[0].headers["authorization"] == "Bearer engine-key"
        assert up.requests[0].headers["x-team"] == "secret"
        elsewhere = f"http://127.0.0.1:{other.port}/deep/page?format=text"
        async with gateway(up, engine={**given, "metrics": elsewhere}) as gw:
            await heard(gw)
        assert other.requests[0].target == "/deep/page?format=text"
        assert not {"authorization", "x-team"} & set(other.requests[0].headers)


@pytest.mark.parametrize(
    ("script", "reason", "again"),
    [
        (Script(status=404, body="no"), "engine_status", False),
        (Script(body="<html>"), "unknown", False),
        (Script(body="x" * (poll.MAX_PAGE + 1)), "engine_protocol", False),
        (Script(ttft=30), "engine_timeout", True),
        (Script(reset_after=0), "engine_reset", True),
    ],
)
@pytest.mark.parametrize("client", ["hasten", "httpx"])
async def test_what_fails_is_counted_and_holds_nobody_up(
    client: str, script: Script, reason: str, again: bool
) -> None:
    async with (
        ScriptedUpstream(script) as bad,
        ScriptedUpstream(PAGE) as good,
        gateway(bad, good, engine={**ON, "client": client}) as gw,
    ):
        await heard(gw, "e1")
        counted = gw.worker.metrics.gauge("hasten_engine_load_failed_total", "e0", reason)
        await eventually(lambda: counted.value > 0, 5)
        if again:
            await eventually(lambda: counted.value > 1, 5)
        else:
            await asyncio.sleep(0.2)
            assert counted.value == 1
        assert set(gw.worker.app.loads) == {"e1"}
        bad.script = Script()
        assert (await gw.chat()).status_code == 200


async def test_numbers_that_cannot_be_counted_with_end_no_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(reader: Reader, text: str) -> None:
        raise OverflowError

    monkeypatch.setattr(poll, "SELDOM", 0.02)
    async with ScriptedUpstream(PAGE) as up:
        with monkeypatch.context() as broken:
            broken.setattr(Reader, "read", fail)
            async with gateway(up, engine=ON) as gw:
                counted = gw.worker.metrics.gauge("hasten_engine_load_failed_total", "e0", "unknown")
                await eventually(lambda: counted.value > 1, 5)
                broken.undo()
                await heard(gw)


async def test_httpx_s_word_for_a_wrong_address_is_ours() -> None:
    async with ScriptedUpstream() as up, gateway(up, engine={"client": "httpx"}) as gw:
        engine = gw.worker.app.engines["e0"]
        assert isinstance(engine, poll.Getter)
        with pytest.raises(ValueError, match="port"):
            await engine.get("http://host:port/metrics", {}, 1)


async def test_what_is_old_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(poll, "WINDOW", 0.2)
    async with ScriptedUpstream(PAGE) as up, gateway(up, engine=ON) as gw:
        await heard(gw)
        up.script = Script(status=500, body="")
        await eventually(lambda: gw.worker.app.loads == {}, 5)
        assert "hasten_engine_running{" not in await gw.metrics()
        assert from_gauges(gw.worker.metrics.series()) == {}


async def test_a_reload_goes_on_with_what_is_known() -> None:
    def settings(up: ScriptedUpstream, **more: Any) -> Any:
        engine = {"kind": "openai", "base_url": up.base_url, **more}
        tree = {"engines": {"e0": engine}, "models": {"m": {"engines": ["e0"]}}, "log": {"access": False}}
        return config.build({**tree, "cache": {"exact": False, "semantic": False}}, environ={})

    async with ScriptedUpstream(PAGE) as up, gateway(up, engine=ON) as gw:
        await heard(gw)
        gw.worker.reload(settings(up, metrics=True))
        assert gw.worker.app.loads["e0"].running == 6
        up.script = LATER
        await eventually(lambda: gw.worker.app.loads["e0"].queue is not None, 5)
        assert "hasten_engine_running{" in await gw.metrics()
        gw.worker.reload(settings(up))
        assert gw.worker.app.loads == {}
        assert "hasten_engine_running{" not in await gw.metrics()
        asked = len(up.requests)
        await asyncio.sleep(0.1)
        assert len(up.requests) <= asked + 1


@pytest.mark.parametrize(
    "given", ["yes", "ftp://host/metrics", "http://user@host/metrics", "http:///m", "http://h/a b"]
)
def test_an_address_that_is_none_is_refused(given: str) -> None:
    engine = {"kind": "openai", "base_url": "http://127.0.0.1:1/v1", "metrics": given}
    with pytest.raises(SettingsError, match=r"engines\.e\.metrics: expected true, false or a URL"):
        config.build({"engines": {"e": engine}, "models": {"m": {"engines": ["e"]}}}, environ={})
