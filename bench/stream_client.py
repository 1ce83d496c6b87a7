"""A bare client for event streams, run as a program: keeps a number of streams open and times the events.

It does as little as it can with an event: HTTP framing by httptools, one timestamp a read, a count of blank lines.
Prints one JSON object: events and streams that came, errors, gaps between the events of a stream (milliseconds).
"""

from __future__ import annotations

import argparse
import asyncio
import json
from time import perf_counter

import httptools
import uvloop


class Client(asyncio.Protocol):
    """One connection that asks again when its stream has ended, until the deadline has passed."""

    def __init__(self, request: bytes, result: Result) -> None:
        self.request = request
        self.result = result
        self.parser = httptools.HttpResponseParser(self)
        self.now = self.last = 0.0
        self.streams = 0
        self.open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self.ask()

    def ask(self) -> None:
        """Begin a stream."""
        self.last = 0.0
        self.tail = b""
        self.open = True
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.now = perf_counter()
        self.parser.feed_data(data)

    def on_body(self, data: bytes) -> None:
        ended = (self.tail + data).count(b"\n\n")
        self.tail = b"\n" if data.endswith(b"\n") and not data.endswith(b"\n\n") else b""
        if not ended:
            return
        result = self.result
        result.all_events += ended
        if self.now >= result.begin:
            result.events += ended
            if self.last:
                result.gaps.append(self.now - self.last)
                result.gaps.extend([0.0] * (ended - 1))
        self.last = self.now

    def on_message_complete(self) -> None:
        self.open = False
        if self.parser.get_status_code() != 200:
            self.result.errors += 1
        elif self.now >= self.result.begin:
            self.result.streams += 1
        if self.now < self.result.end and self.parser.should_keep_alive():
            self.ask()
        else:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.open and self.now < self.result.end:
            self.result.errors += 1


class Result:
    """What all connections saw between ``begin`` and ``end`` (``perf_counter`` seconds); ``all_events`` also before."""

    def __init__(self, begin: float, end: float) -> None:
        self.begin = begin
        self.end = end
        self.all_events = 0
        self.events = 0
        self.streams = 0
        self.errors = 0
        self.gaps: list[float] = []


def quantile(values: list[float], q: float) -> float | None:
    """Return the ``q`` quantile in milliseconds."""
    return sorted(values)[min(len(values) - 1, int(q * len(values)))] * 1e3 if values else None


async def run(port: int, request: bytes, streams: int, warmup: float, seconds: float) -> dict[str, object]:
    """Keep ``streams`` streams open, their starts spread over the warm-up, and count for ``seconds``."""
    loop = asyncio.get_running_loop()
    start = perf_counter()
    result = Result(start + warmup, start + warmup + seconds)
    transports = []
    for _ in range(streams):
        transport, _ = await loop.create_connection(lambda: Client(request, result), "127.0.0.1", port)
        transports.append(transport)
        await asyncio.sleep(warmup / 2 / streams)
    await asyncio.sleep(result.end - perf_counter())
    result.end = 0.0
    found: dict[str, object] = {
        "all_events": result.all_events,
        "events": result.events,
        "streams": result.streams,
        "errors": result.errors,
        "seconds": seconds,
        "gap_p50_ms": quantile(result.gaps, 0.5),
        "gap_p99_ms": quantile(result.gaps, 0.99),
    }
    for transport in transports:
        transport.abort()
    await asyncio.sleep(0)
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--streams", type=int, required=True)
    parser.add_argument("--warmup", type=float, default=1.0)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--body", required=True)
    parser.add_argument("--headers", type=json.loads, default={})
    args = parser.parse_args()
    lines = "".join(f"{name}: {value}\r\n" for name, value in args.headers.items())
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{args.port}\r\n{lines}"
    data = f"{head}content-length: {len(args.body)}\r\n\r\n{args.body}".encode()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(run(args.port, data, args.streams, args.warmup, args.seconds))))
