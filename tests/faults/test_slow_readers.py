"""Clients that ask for long streams and do not read them: they cost little memory and nobody else's time."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time

from hasten.accept.server import Connection
from hasten.measure.metrics import rss_bytes
from tests.gateway import Gateway, eventually, gateway
from tests.sockets import STREAM_HEAD, RawUpstream, chunk, connected, post, take_request, whole

READERS = 200
ASKED = 200  # requests of the client that does read
MB = 1e6


class Fountain:
    """Streams without an end as fast as it is read; answers other requests at once."""

    def __init__(self) -> None:
        self.sent = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)  # the kernel would take megabytes
        writer.transport.set_write_buffer_limits(high=65536)
        event = chunk(b'data: {"choices":[{"index":0,"delta":{"content":"%b"}}]}\n\n' % (b"x" * 8000))
        while request := await take_request(reader):
            if b'"stream"' not in request:
                writer.write(whole())
                continue
            writer.write(STREAM_HEAD)
            while True:
                writer.write(event)
                self.sent += len(event)
                await writer.drain()
                await asyncio.sleep(0)


async def p99(gw: Gateway) -> float:
    """Return the 99th percentile of the time of :data:`ASKED` requests, seconds."""
    times = []
    async with connected(gw.port) as (reader, writer):
        for _ in range(ASKED):
            since = time.perf_counter()
            writer.write(post())
            await reader.readuntil(b'"finish_reason":"stop"}]}')
            times.append(time.perf_counter() - since)
    return sorted(times)[int(len(times) * 0.99) - 1]


async def test_two_hundred_clients_that_do_not_read() -> None:
    fountain = Fountain()
    async with RawUpstream(fountain) as up, contextlib.AsyncExitStack() as stack:
        engines = {"e": {"kind": "openai", "base_url": up.base_url}}
        gw = await stack.enter_async_context(gateway(engines=engines, models={"m": {"engines": ["e"]}}))
        await p99(gw)  # warm
        alone = min([await p99(gw) for _ in range(5)])
        before = rss_bytes()
        for _ in range(READERS):
            _, writer = await stack.enter_async_context(connected(gw.port, receive_buffer=8192))
            writer.write(post(b'{"model":"m","messages":[],"stream":true}'))
        connections = gw.worker.server.connections
        await eventually(lambda: sum(bool(c._paused_since) for c in connections) == READERS, 20)
        seen = -1
        async with asyncio.timeout(20):  # the engines are held when nothing more is sent
            while seen != fountain.sent:
                seen = fountain.sent
                await asyncio.sleep(0.1)
        beside = min([await p99(gw) for _ in range(5)])
        grown = rss_bytes() - before
        print(
            f"p99 alone {alone * 1e3:.2f} ms, beside {READERS} slow readers {beside * 1e3:.2f} ms: "
            f"{beside / alone:.2f} of it; engines sent {seen / READERS / MB:.2f} MB a reader, "
            f"memory grew by {grown / READERS / 1e3:.0f} kB a reader"
        )
        assert fountain.sent == seen
        assert seen / READERS < 8 * MB  # most of it in the kernel's buffers between engine and gateway
        assert grown / READERS < 1 * MB
        assert beside < 3 * alone + 0.005


async def test_a_client_that_never_reads_is_cut() -> None:
    async with RawUpstream(Fountain()) as up:
        engines = {"e": {"kind": "openai", "base_url": up.base_url}}
        server = {"write_timeout": 0.2}
        async with gateway(engines=engines, models={"m": {"engines": ["e"]}}, server=server) as gw:
            async with connected(gw.port, receive_buffer=8192) as (_, writer):
                writer.write(post(b'{"model":"m","messages":[],"stream":true}'))
                await eventually(lambda: gw.worker.server.active == 1)
                await eventually(lambda: not gw.worker.server.connections and up.open == 0, 5)
            assert 'code="client_gone"} 1' in await gw.metrics()


async def test_pipelined_requests_wait_for_a_client_that_does_not_read() -> None:
    """Nothing is asked of the engine for a client that has not read what it got."""
    answered = 0
    big = whole(b'{"choices":[],"x":"' + b"y" * 1_000_000 + b'"}')

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal answered
        while await take_request(reader):
            answered += 1
            writer.write(big)
            await writer.drain()

    async with RawUpstream(behave) as up:
        engines = {"e": {"kind": "openai", "base_url": up.base_url}}
        async with (
            gateway(engines=engines, models={"m": {"engines": ["e"]}}) as gw,
            connected(gw.port, receive_buffer=8192) as (reader, writer),
        ):
            requests = 300
            writer.write(post() * requests)
            (connection,) = await one_connection(gw)
            await eventually(lambda: bool(connection._paused_since))
            await asyncio.sleep(0.2)
            assert answered < 10
            writer.write(post(b'{"model":"m","messages":[]}', b"connection: close"))
            assert await count_answers(reader) == requests + 1


async def one_connection(gw: Gateway) -> tuple[Connection]:
    await eventually(lambda: len(gw.worker.server.connections) == 1)
    (connection,) = gw.worker.server.connections
    return (connection,)


async def count_answers(reader: asyncio.StreamReader) -> int:
    """Return how many answers come until the connection is closed."""
    count = 0
    tail = b""
    while piece := await reader.read(2**20):
        window = tail + piece
        count += window.count(b"HTTP/1.1 200 OK")
        tail = window[-14:]
    return count
