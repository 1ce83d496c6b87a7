"""What the embedded engine tells of its own work, and where it is seen: headers, log, trailer, metrics."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hasten.engines import weights
from hasten.engines.llama import LlamaRecipe
from hasten.engines.managed import ManagedProcess
from hasten.settings import LlamaEngine
from tests.gateway import Gateway, eventually, gateway

pytestmark = pytest.mark.embedded

Line = dict[str, Any]


@contextlib.asynccontextmanager
async def embedded(log: Path, slots: int, **sections: Any) -> AsyncIterator[Gateway]:
    """Run a gateway with the embedded engine ``local`` behind the model ``m``; ``log`` gets its request log."""
    model = await asyncio.to_thread(weights.pull, "smollm2-135m")
    process = ManagedProcess(LlamaRecipe(LlamaEngine(slots=slots, threads=1), model))
    process.start()
    try:
        await process.ready(50)
        engines = {"local": {"kind": "llama"}}
        models = {"m": {"engines": ["local"]}}
        log_to = {"path": str(log)}
        async with gateway(engines=engines, models=models, log=log_to, **sections) as gw:
            gw.worker.move({"local": process.base_url})
            yield gw
    finally:
        await process.stop()


async def lines(log: Path, count: int) -> list[Line]:
    """Return the log's lines of calls once there are ``count``."""

    def read() -> list[Line]:
        return [line for line in map(msgspec.json.decode, log.read_bytes().splitlines()) if "model" in line]

    await eventually(lambda: len(read()) >= count, 5)
    return read()


def timing(header: str) -> dict[str, float]:
    return {name: float(ms) for name, ms in re.findall(r"(\w+);dur=([0-9.]+)", header)}


def add_up(line: Line) -> None:
    assert sum(line["stages_ms"].values()) == pytest.approx(line["duration_ms"], abs=0.05)


@pytest.mark.parametrize("stream", [False, True])
async def test_prefill_decode_and_cached_tokens_are_known(stream: bool, tmp_path: Path) -> None:
    log = tmp_path / "log"
    async with embedded(log, 1) as gw:
        for _ in range(2):
            reply = await gw.chat(stream=stream, max_tokens=8, temperature=0)
            assert reply.status_code == 200, reply.text
        if not stream:
            header = reply.headers["server-timing"]
            assert "prefill;dur=" in header
            assert header.count('desc="of upstream"') == 2
            told = timing(header)
            assert 0 < told["prefill"] + told["decode"] <= told["upstream"]
        message = {
            "model": "m",
            "max_tokens": 8,
            "stream": stream,
            "messages": [{"role": "user", "content": "Hi"}],
        }
        reply = await gw.http.post("/v1/messages", json=message)
        assert reply.status_code == 200, reply.text
        # Its own page, which it is asked for unasked.
        await eventually(lambda: "local" in gw.worker.app.loads, 20)
        assert gw.worker.app.loads["local"].running is not None
        first, second, anthropic = await lines(log, 3)
    assert second["cached_tokens"] > 0
    for line in (first, second, anthropic):
        add_up(line)
        assert {"prefill", "decode"} <= set(line["stages_ms"])
        assert "generate" not in line["stages_ms"]
    # Most of the prompt was in the engine's cache.
    assert second["stages_ms"]["prefill"] < first["stages_ms"]["prefill"]


@pytest.mark.parametrize("stream", [False, True])
async def test_more_clients_than_slots_wait_in_the_engine_s_queue(stream: bool, tmp_path: Path) -> None:
    log = tmp_path / "log"
    async with embedded(log, 1) as gw:
        await gw.chat(max_tokens=1)  # the first one is slow for other reasons
        await asyncio.gather(*(gw.chat(stream=stream, max_tokens=24, user=str(i)) for i in range(3)))
        found = (await lines(log, 4))[1:]
    for line in found:
        add_up(line)
    waited = sorted(line["stages_ms"].get("engine_queue", 0.0) for line in found)
    worked = [line["stages_ms"]["prefill"] + line["stages_ms"]["decode"] for line in found]
    assert waited[1] > 0.5 * min(worked)  # behind one
    assert waited[2] > waited[1] + 0.5 * min(worked)  # behind two


@pytest.mark.parametrize("stream", [False, True])
async def test_who_shares_an_answer_took_none_of_the_engine_s_time(stream: bool, tmp_path: Path) -> None:
    log = tmp_path / "log"
    cache = {"exact": True, "semantic": False, "coalesce": True}
    async with embedded(log, 2, cache=cache) as gw:
        asked = [gw.chat(stream=stream, max_tokens=16, temperature=0) for _ in range(2)]
        replies = await asyncio.gather(*asked)
        replies.append(await gw.chat(stream=stream, max_tokens=16, temperature=0))
        found = await lines(log, 3)
    assert sorted(reply.headers["x-hasten-cache"] for reply in replies) == ["coalesced", "exact", "miss"]
    assert "timings" in replies[-1].text  # it is the engine's answer, as it came
    for reply in replies:
        if reply.headers["x-hasten-cache"] != "miss":
            assert "prefill" not in reply.headers["server-timing"]
    for line in found:
        add_up(line)
        own = {"engine_queue", "prefill", "decode", "generate"} & set(line["stages_ms"])
        assert bool(own) == (line["cache"] == "miss"), line
        assert "cached_tokens" not in line or line["cache"] == "miss"
