"""Alerts reach a sink once each, and no sink, whatever it does, holds anything up."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from hasten.measure.slo import Change, Slo
from hasten.measure.webhook import PENDING, Webhook
from hasten.settings import Secret
from hasten.settings import Slo as Settings
from hasten.testing import FakeClock, ScriptedUpstream
from tests.gateway import eventually, gateway
from tests.measure.taking import take
from tests.measure.test_latency import finished
from tests.measure.test_slo import START, run

CHANGE = Change(True, "page", "all", "", "errors", 0.01, {"1h": 20.0, "5m": 99.0})


class Sink(ThreadingHTTPServer):
    """Keeps what it is told; answers with ``status``."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []
        self.status = 204
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/hook?token=hidden"
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def end(self) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: Sink

    def do_POST(self) -> None:
        self.server.told.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        self.send_response(self.server.status)
        self.send_header("location", "/elsewhere")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def sink() -> Iterator[Sink]:
    made = Sink()
    yield made
    made.end()


async def test_an_outage_is_told_once_and_its_end_once(sink: Sink) -> None:
    async with ScriptedUpstream() as up, gateway(up, slo={"errors": 0.01, "webhook": sink.url}) as gw:
        clock = FakeClock(START)
        watch = gw.worker.metrics.slo
        watch.ledger = Slo(Settings(), clock).ledger
        for _ in range(20):
            take(watch, finished(status=503, error="no_engine_available"))
        for minute in range(60):
            clock.advance(60)
            watch.ledger.tick()
            gw.worker._alert()
            if minute % 20 == 19:
                await asyncio.sleep(0.05)
        await eventually(lambda: len(sink.told) >= 3, 5)
        pages = [told for told in sink.told if told["severity"] == "page"]
        assert [told["state"] for told in pages] == ["firing", "resolved"]
        assert [told["state"] for told in sink.told if told["severity"] == "ticket"] == ["firing"]
        assert (
            pages[0].items()
            >= {"dimension": "all", "value": "", "objective": "errors", "budget": 0.01}.items()
        )
        assert pages[0]["burn"]["1h"] == pytest.approx(100)
        assert 'hasten_slo_webhook_total{outcome="sent"} 3' in await gw.metrics()


async def test_a_sink_that_fails_is_tried_again_and_not_named(
    sink: Sink, caplog: pytest.LogCaptureFixture
) -> None:
    outcomes: Counter[str] = Counter()
    webhook = Webhook(Secret(sink.url), lambda outcome: outcomes.update([outcome]), pause=0.01)
    with caplog.at_level(logging.DEBUG):
        for status in (500, 302):  # a redirect is not followed
            sink.status = status
            before = outcomes["failed"]
            webhook.tell(CHANGE)
            await eventually(lambda before=before: outcomes["failed"] == before + 3)  # type: ignore[misc]
        sink.status = 200
        webhook.tell(CHANGE)
        await eventually(lambda: outcomes["sent"] == 1)
    assert len(sink.told) == 7
    assert "hidden" not in caplog.text + repr(webhook)
    webhook.close()


async def test_a_sink_that_is_down_or_frozen_holds_nothing_up() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=1) as frozen:  # takes connections and says nothing
        port = frozen.getsockname()[1]
        outcomes: Counter[str] = Counter()
        webhook = Webhook(Secret(f"http://127.0.0.1:{port}/"), lambda o: outcomes.update([o]), 0.2, 0.01)
        before = time.perf_counter()
        for _ in range(2 * PENDING):
            webhook.tell(CHANGE)
        webhook_took = time.perf_counter() - before
        assert webhook_took < 2  # the sink would hold each up for 0.2
        assert outcomes["dropped"] >= PENDING - 1
        await eventually(lambda: outcomes["failed"] >= 2, 5)
        before = time.perf_counter()
        webhook.close()
        assert time.perf_counter() - before < 2
    down = Webhook(Secret(f"http://127.0.0.1:{port}/"), lambda o: outcomes.update([o]), pause=0.01)
    outcomes.clear()
    down.tell(CHANGE)
    await eventually(lambda: outcomes["failed"] == 3)
    down.close()


def test_a_resolved_alert_says_so() -> None:
    clock = FakeClock(START)
    slo = Slo(Settings(errors=0.01), clock)
    (page, ticket) = run(slo, clock, 600, *[finished(status=500) for _ in range(10)])
    assert (page.firing, page.severity, ticket.severity) == (True, "page", "ticket")
    (change,) = run(slo, clock, 3600)
    assert (change.firing, change.severity) == (False, "page")
