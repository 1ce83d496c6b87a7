"""A client that leaves, wherever it is in its request, is given up at the engine too, at once."""

from __future__ import annotations

import asyncio
import time

import pytest

from hasten.testing import Script, ScriptedUpstream
from tests.gateway import Gateway, eventually, gateway
from tests.sockets import RawUpstream, connected, post

SOON = 0.25  # seconds
STREAM = b'{"model":"m","messages":[],"stream":true}'

#: What the client sends, what it waits to read before it leaves, and what the engine does meanwhile.
CASES = {
    "before its headers are complete": (b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n", b"", Script()),
    "before its body is complete": (post(STREAM)[:-10], b"", Script()),
    "before the first token": (post(STREAM), b"", Script(ttft=30)),
    "in the stream": (post(STREAM), b"capital", Script(itl=0.02, repeat=10_000)),
    "before a whole answer": (post(), b"", Script(ttft=30)),
}


def inflight(gw: Gateway) -> int:
    return sum(engine.inflight for engine in gw.worker.app.engines.values())


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize(("sent", "wait_for", "script"), CASES.values(), ids=CASES)
async def test_client_leaves(sent: bytes, wait_for: bytes, script: Script, reset: bool) -> None:
    async with ScriptedUpstream(script) as up, gateway(up) as gw:
        reaches_engine = sent in (post(STREAM), post())
        async with connected(gw.port) as (reader, writer):
            writer.write(sent)
            if wait_for:
                await reader.readuntil(wait_for)
            elif reaches_engine:
                await eventually(lambda: len(up.requests) == 1)
            else:
                await eventually(lambda: gw.worker.server.active == 1)
            assert inflight(gw) == int(reaches_engine)
            left = time.perf_counter()
            if reset:
                writer.transport.abort()
            else:
                writer.close()
            await eventually(lambda: up.open == 0 and not gw.worker.server.connections, SOON)
            print(f"upstream closed after {(time.perf_counter() - left) * 1e3:.1f} ms")
        assert inflight(gw) == 0
        assert gw.worker.server.active == 0
        page = await gw.metrics()
        assert ('hasten_errors_total{endpoint="chat",code="client_gone"} 1' in page) == reaches_engine
        assert 'hasten_engine_in_flight{engine="e0"} 0' in page
        up.script = Script()
        assert (await gw.chat()).status_code == 200


async def test_requests_in_line_behind_the_one_that_was_given_up_are_never_sent() -> None:
    async with ScriptedUpstream(Script(ttft=30)) as up, gateway(up) as gw:
        async with connected(gw.port) as (_, writer):
            writer.write(post() * 3)
            await eventually(lambda: len(up.requests) == 1)
        await eventually(lambda: up.open == 0, SOON)
        assert len(up.requests) == 1


async def test_a_client_that_leaves_while_the_gateway_connects() -> None:
    async def never_shake_hands(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with RawUpstream(never_shake_hands) as up:
        engines = {"e": {"kind": "openai", "base_url": f"https://127.0.0.1:{up.port}/v1"}}
        async with gateway(engines=engines, models={"m": {"engines": ["e"]}}) as gw:
            async with connected(gw.port) as (_, writer):
                writer.write(post())
                await eventually(lambda: up.open == 1)
            await eventually(lambda: up.open == 0 and not gw.worker.server.connections, SOON)
            assert inflight(gw) == 0
