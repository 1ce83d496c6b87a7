"""Mixed load for long: does the gateway's memory stay flat, and do descriptors and tasks come back?

Whole answers, streams, clients that leave mid-stream, requests that are wrong, engines that fail. All on loopback, a
bounded number of requests. Exit status 1 if memory grew by more than ``--allow`` MiB after the warm-up.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import re
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import uvloop
from processes import Child, free_port

ASK = {"model": "m", "messages": [{"role": "user", "content": "What is the capital of France? " * 8}]}
KINDS = ("whole",) * 14 + ("stream",) * 3 + ("leave", "wrong", "fails")


def request(kind: str) -> bytes:
    """Return the bytes of one request."""
    fields: dict[str, object] = dict(ASK)
    if kind in ("stream", "leave"):
        fields |= {"stream": True, "x_script": {"repeat": 4 if kind == "stream" else 400}}
    elif kind == "wrong":
        fields["messages"] = [{"role": 1}]
    elif kind == "fails":
        fields["x_script"] = {"status": 500, "body": "{}"}
    body = json.dumps(fields).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n"
    return head % len(body) + body


async def read_answer(reader: asyncio.StreamReader) -> None:
    """Read one answer to its end."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head)
    if length:
        await reader.readexactly(int(length[1]))
    else:
        await reader.readuntil(b"\r\n0\r\n\r\n")


async def client(port: int, left: list[int], seed: int) -> None:
    """Send requests one after the other until none is left."""
    rand = random.Random(seed)
    bytes_of = {kind: request(kind) for kind in set(KINDS)}
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**20)
    while left[0] > 0:
        left[0] -= 1
        kind = rand.choice(KINDS)
        writer.write(bytes_of[kind])
        if kind == "leave":
            await reader.readuntil(b"data:")
            writer.close()
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**20)
        else:
            await read_answer(reader)
    writer.close()


def sample(port: int) -> dict[str, float]:
    """Return the gateway's own gauges."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        page = answer.read().decode()

    def gauge(name: str) -> float:
        return sum(float(value) for value in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", page, re.MULTILINE))

    return {
        "requests": gauge("hasten_requests_total"),
        "rss_mib": gauge("hasten_worker_resident_memory_bytes") / 2**20,
        "fds": gauge("hasten_worker_open_fds"),
        "tasks": gauge("hasten_worker_tasks"),
        "connections": gauge("hasten_connections"),
        "in_flight": gauge("hasten_engine_in_flight"),
    }


async def load(port: int, requests: int, clients: int) -> None:
    """Send ``requests`` from ``clients`` connections."""
    left = [requests]
    await asyncio.gather(*(client(port, left, seed) for seed in range(clients)))


async def settled(port: int) -> dict[str, float]:
    """Return a sample after what was left behind has ended."""
    await asyncio.sleep(2)
    return await asyncio.to_thread(sample, port)


async def run(args: argparse.Namespace, port: int) -> bool:
    """Return whether memory stayed flat and all was released."""
    first: dict[str, float] | None = None
    start = time.monotonic()
    for part in range(args.parts):
        await load(port, args.requests // args.parts, args.clients)
        now = await settled(port)
        print(
            f"{time.monotonic() - start:7.1f} s ",
            *(f"{name} {value:g}" for name, value in now.items()),
            flush=True,
        )
        if part == args.warmup - 1:
            first = now
    assert first is not None
    grown = now["rss_mib"] - first["rss_mib"]
    print(f"growth after the warm-up: {grown:.2f} MiB")
    same = all(now[name] <= first[name] + 2 for name in ("fds", "tasks")) and now["in_flight"] == 0
    return grown <= args.allow and same


def main() -> int:
    """Start the upstream and the gateway, load them, report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=200_000)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--parts", type=int, default=20, help="samples taken")
    parser.add_argument("--warmup", type=int, default=4, help="parts before memory is compared")
    parser.add_argument("--allow", type=float, default=4.0, help="MiB of growth after the warm-up")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        up, port = free_port(), free_port()
        config = folder / "hasten.yaml"
        config.write_text(
            f"engines: {{up: {{kind: openai, base_url: 'http://127.0.0.1:{up}/v1'}}}}\n"
            "models: {m: {engines: [up]}}\ncircuit: {failures: 1000000}\n"
            "cache: {exact: false, semantic: false, coalesce: false}\n"
        )
        words = [sys.executable, "-m", "hasten.testing", "--port", str(up)]
        stack.enter_context(Child(words, 1, folder / "upstream.log"))
        words = [sys.executable, "-m", "hasten", "serve", str(config), "--port", str(port)]
        gateway = stack.enter_context(Child(words, 0, folder / "gateway.log"))
        gateway.wait_ready(urllib.request.Request(f"http://127.0.0.1:{port}/ready"), 20)
        return 0 if uvloop.run(run(args, port)) else 1


if __name__ == "__main__":
    raise SystemExit(main())
