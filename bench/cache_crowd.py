"""Many clients that ask the same at the same moment: how many calls reach the upstream."""

from __future__ import annotations

import asyncio
import json
import re
import resource
from collections import Counter
from time import perf_counter
from typing import Any

from candidates import MODEL

from hasten.testing import ScriptedUpstream

LIMIT = 60.0  # seconds for all of it


def allow_files(count: int) -> None:
    """Let this process and those that it starts have ``count`` connections, as far as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < count:
        wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def request(text: str, stream: bool) -> bytes:
    """Return the bytes of one request."""
    fields = {
        "model": MODEL,
        "messages": [{"role": "user", "content": text}],
        "temperature": 0,
        "stream": stream,
    }
    body = json.dumps(fields).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n"
    return head % len(body) + body


async def answer(reader: asyncio.StreamReader) -> tuple[int, str, bytes]:
    """Read one answer; return its status, what the gateway says of its cache, and its body."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    cache = re.search(r"x-hasten-cache: (\S+)", head)
    length = re.search(r"content-length: (\d+)", head)
    if length is not None:
        body = await reader.readexactly(int(length[1]))
    else:
        body = b""
        while size := int(await reader.readline(), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readexactly(2)
    return int(head[9:12]), cache[1] if cache else "", body


async def crowd(port: int, upstream: ScriptedUpstream, clients: int, stream: bool) -> dict[str, Any]:
    """Open all connections, send on all at once, and count what came of it."""
    async with asyncio.timeout(LIMIT):
        opened = []
        for i in range(0, clients, 100):
            some = (asyncio.open_connection("127.0.0.1", port) for _ in range(min(100, clients - i)))
            opened += await asyncio.gather(*some)
        data = request(
            f"Does a crowd of {clients} get one answer, {'streamed' if stream else 'whole'}?", stream
        )
        before = len(upstream.requests)
        since = perf_counter()
        for _, writer in opened:
            writer.write(data)
        answers = await asyncio.gather(*(answer(reader) for reader, _ in opened))
        seconds = perf_counter() - since
        for _, writer in opened:
            writer.close()
    return {
        "clients": clients,
        "stream": stream,
        "upstream_calls": len(upstream.requests) - before,
        "ok": sum(status == 200 for status, _, _ in answers),
        "cache": dict(Counter(cache for _, cache, _ in answers)),
        "different_bodies": len({body for _, _, body in answers}),
        "seconds": seconds,
    }
