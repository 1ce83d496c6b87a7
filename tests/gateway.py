"""A gateway inside the test's own loop, and ways to speak to it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx

from hasten import config
from hasten.process.worker import Worker, listen
from hasten.testing import ScriptedUpstream


class Gateway:
    """A running worker."""

    def __init__(self, worker: Worker, port: int) -> None:
        self.worker = worker
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.http = httpx.AsyncClient(base_url=self.url, timeout=30, trust_env=False, verify=False)

    async def chat(self, **fields: Any) -> httpx.Response:
        """Ask the model ``m`` for a chat completion."""
        messages = [{"role": "user", "content": "What is the capital of France?"}]
        headers = fields.pop("headers", {})
        return await self.http.post(
            "/v1/chat/completions", json={"model": "m", "messages": messages, **fields}, headers=headers
        )

    async def raw(self, data: bytes, wait: float = 2.0) -> bytes:
        """Send bytes on a new connection; return all that comes until it is closed or ``wait`` seconds pass."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        answer = b""
        try:
            writer.write(data)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    while piece := await reader.read(65536):
                        answer += piece
        except ConnectionError:
            pass
        finally:
            writer.close()
        return answer

    async def metrics(self) -> str:
        """Return the metrics page."""
        return (await self.http.get("/metrics")).text


@contextlib.asynccontextmanager
async def gateway(*upstreams: ScriptedUpstream, **sections: Any) -> AsyncIterator[Gateway]:
    """Run a gateway whose model ``m`` has engines ``e0``, ``e1`` ... for each upstream, with ``sections`` merged in."""
    engine = sections.pop("engine", {})
    tree: dict[str, Any] = {
        "engines": {
            f"e{i}": {"kind": "openai", "base_url": u.base_url, **engine} for i, u in enumerate(upstreams)
        },
        "models": {"m": {"engines": [f"e{i}" for i in range(len(upstreams))]}},
        "log": {"access": False},
        "cache": {"exact": False, "semantic": False, "coalesce": False},
        **sections,
    }
    tree["server"] = {"port": 0, **tree.get("server", {})}
    settings = config.build(tree, environ={})
    worker = Worker(settings)
    sock = listen(settings)
    port = sock.getsockname()[1]
    await worker.start(sock)
    made = Gateway(worker, port)
    try:
        yield made
    finally:
        await made.http.aclose()
        worker.abort()
        await worker.close()


async def eventually(condition: Callable[[], bool], within: float = 2.0) -> None:
    """Wait until ``condition()`` holds; fail after ``within`` seconds."""
    async with asyncio.timeout(within):
        while not condition():
            await asyncio.sleep(0.005)
