"""The access log: valid lines, and a sink that is slow, full or gone delays nobody."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from hasten.testing import Script, ScriptedUpstream
from tests.gateway import Gateway, eventually, gateway


def dropped(gw: Gateway) -> float:
    return gw.worker.metrics.gauge("hasten_access_log_dropped_total").value


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


async def test_one_valid_line_a_request(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    async with ScriptedUpstream() as up, gateway(up, log={"path": str(path)}) as gw:
        await gw.chat(stream=True, stream_options={"include_usage": True})
        up.script = Script(status=400, body='{"error":"\\n\u2028"}')
        await gw.chat()
        await gw.http.get("/v1/models")
        await gw.http.get('/no"where')
        for unlogged in ("/health", "/ready", "/metrics"):
            await gw.http.get(unlogged)
        await eventually(lambda: path.read_text().count("\n") >= 4)
    streamed, refused, models, nowhere = lines(path)
    assert streamed["status"] == 200
    assert (streamed["endpoint"], streamed["model"], streamed["engine"]) == ("chat", "m", "e0")
    assert (streamed["input_tokens"], streamed["output_tokens"], streamed["finish_reason"]) == (10, 7, "stop")
    assert 0 < streamed["ttft_ms"] <= streamed["duration_ms"]
    assert (refused["status"], refused["error"]) == (400, "engine_status")
    assert (models["endpoint"], models["status"]) == ("models", 200)
    assert nowhere["status"] == 404
    assert len({line["id"] for line in (streamed, refused, models, nowhere)}) == 4


async def test_what_is_queued_is_written_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    async with ScriptedUpstream() as up, gateway(up, log={"path": str(path)}) as gw:
        for _ in range(5):
            await gw.http.get("/v1/models")
    assert len(lines(path)) == 5


@pytest.mark.parametrize("opened", [False, True], ids=["never opened", "never read"])
async def test_a_fifo_that_nobody_reads_delays_no_request(opened: bool, tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK) if opened else -1
    async with ScriptedUpstream() as up, gateway(up, log={"path": str(path), "max_pending": 300}) as gw:
        slowest = 0.0
        for _ in range(1500):  # a pipe holds 64 KB: some 400 lines
            since = time.perf_counter()
            assert b"200" in await gw.raw(b"GET /v1/models HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            slowest = max(slowest, time.perf_counter() - since)
        await eventually(lambda: dropped(gw) > 0)
        assert slowest < 2
        assert dropped(gw) < 1500
        reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # lets the writer's thread end
        try:
            log = gw.worker._log
            assert log is not None
            gw.worker._log = None
            closing = asyncio.get_running_loop().run_in_executor(None, log.close, 10.0)
            while not closing.done():
                await asyncio.sleep(0.01)
                with contextlib.suppress(BlockingIOError):
                    os.read(reading, 2**20)
            await closing
        finally:
            os.close(reading)
            if opened:
                os.close(reader)


async def test_a_full_disk_is_counted_and_delays_no_request() -> None:
    async with ScriptedUpstream() as up, gateway(up, log={"path": "/dev/full"}) as gw:
        for _ in range(20):
            assert (await gw.http.get("/v1/models")).status_code == 200
        await eventually(lambda: dropped(gw) == 20)
        assert "hasten_access_log_dropped_total 20" in await gw.metrics()
