"""A gateway with slow places, and the engines behind it, for bench/anatomy.py. Each is a program of its own.

``python bench/anatomy_serve.py engines FOLDER DELAY PORT...``, ``... gateway FOLDER DELAY PORT...``: four ports: of the
engine that does what a request says, of the one that fails after DELAY seconds, of the one whose TLS handshake begins
after DELAY seconds, and of the gateway. FOLDER has the certificates; there each writes ``*.put``, a JSON line for each
delay: the request's id, the stage, and the seconds that it really took, by the clock of who put it there.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import sys
from collections.abc import Sequence
from contextvars import ContextVar
from pathlib import Path
from time import perf_counter
from typing import Any

import httptools
import msgspec
import numpy as np
import uvloop

from hasten import config
from hasten.process.worker import Worker, listen
from hasten.testing import Script
from hasten.testing.answers import events, whole
from hasten.types import Reply, Request

SEND_BUFFER = 64 * 1024  # bytes that the kernel takes in for a client that does not read
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
WHOLE = b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"


class Ledger:
    """Where delays are written down."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb", buffering=0)

    def put(self, id: str, **stages: float) -> None:
        self._file.write(msgspec.json.encode({"id": id, **stages}) + b"\n")


def settings(folder: Path, ports: Sequence[int]) -> dict[str, Any]:
    """Return the gateway's configuration: a name of a model for each way to be slow."""
    plain, failing, secure, own = ports
    engines = {
        "plain": {"base_url": f"http://127.0.0.1:{plain}/v1"},
        "failing": {"base_url": f"http://127.0.0.1:{failing}/v1"},
        "secure": {"base_url": f"https://localhost:{secure}/v1", "tls": {"ca": str(folder / "ca.pem")}},
    }
    tiered = {"hold": {"strong_share": 0.0}, "holdback": 0.0, "cascade": True}
    return {
        "server": {"port": own},
        "engines": {name: {"kind": "openai", **given} for name, given in engines.items()},
        "models": {
            "m": {"engines": ["plain"]},
            "retry": {"engines": ["failing"], "fallback": ["m"]},
            "connect": {"engines": ["secure"]},
            "named": {"engines": ["plain"]},
            "weak": {"engines": ["failing"]},
            "cascade": {"tiers": ["weak", "m"], "route": tiered},
        },
        "routes": {"greeting": {"models": ["named"], "examples": ["hi"], "to": "m", "timeout": 30}},
        "circuit": {"failures": 1_000_000_000},
        "cache": {"semantic": False, "coalesce": False, "store_timeout": 30},
        "log": {"path": str(folder / "access.log"), "max_pending": 1_000_000},
    }


async def gateway(folder: Path, delay: float, ports: Sequence[int]) -> None:
    """Serve with a store and an embedder that take ``delay`` seconds."""
    made = config.build(settings(folder, ports), environ={})
    sock = listen(made)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
    worker, ledger = Worker(made), Ledger(folder / "gateway.put")
    app = worker.app
    asked: ContextVar[str] = ContextVar("asked", default="")
    handler = app.handler

    async def handle(request: Request) -> Reply:
        asked.set(request.trace.id)
        return await handler(request)

    async def slow(stage: str) -> None:
        since = perf_counter()
        await asyncio.sleep(delay)
        ledger.put(asked.get(), **{stage: perf_counter() - since})

    assert app.cache is not None
    store: Any = app.cache.store
    get = store.get

    async def slow_get(key: bytes) -> Any:
        await slow("cache")
        return await get(key)

    async def slow_embed(texts: Sequence[str]) -> Any:
        await slow("named")
        return [np.zeros(2, np.float32) for _ in texts]

    store.get = slow_get
    worker.server.handler = handle
    named: Any = app.named
    named.close()
    named._embed = slow_embed
    await named._learn(["hi"], slow_embed)
    await worker.start(sock)
    await asyncio.Event().wait()


class Engine(asyncio.Protocol):
    """One connection to an engine that does what the request's ``x_script`` says, or ``script``.

    ``accepted``: when the other end's connection was, by its port; the handshake is behind it now.
    """

    def __init__(self, ledger: Ledger, script: Script, fixed: bool, accepted: dict[int, float]) -> None:
        self.ledger, self.script, self.fixed = ledger, script, fixed
        self.accepted = accepted
        self.writable = asyncio.Event()
        self.writable.set()
        self.connect: float | None = None
        self.parser = httptools.HttpRequestParser(self)
        self.clear()

    def clear(self) -> None:
        self.body, self.id = b"", ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        since = self.accepted.pop(transport.get_extra_info("peername")[1], None)
        self.connect = None if since is None else perf_counter() - since

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.writable.set()

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"x-request-id":
            self.id = value.decode()

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        fields = msgspec.json.decode(self.body or b"{}")
        given = fields.get("x_script")
        script = self.script if given is None or self.fixed else msgspec.convert(given, Script)
        self.task = asyncio.ensure_future(self.answer(perf_counter(), self.id, script, fields))
        self.clear()

    async def answer(self, since: float, id: str, script: Script, fields: dict[str, Any]) -> None:
        """Follow the script, and write down how long it really took."""
        found = {} if self.connect is None else {"connect": self.connect}
        if fields.get("stream") and script.status == 200:
            self.transport.write(STREAM)
            await asyncio.sleep(script.ttft)
            first = last = perf_counter()
            for i, data in enumerate(events(script, fields)):
                event = b"data: " + data.encode() + b"\n\n"
                self.transport.write(b"%x\r\n%b\r\n" % (len(event), event))
                await self.writable.wait()
                last = perf_counter()  # with [DONE] an answer is over, not with the body
                if script.itl:
                    await asyncio.sleep(max(0.0, first + (i + 1) * script.itl - perf_counter()))
            self.transport.write(b"0\r\n\r\n")
            self.ledger.put(id, prefill=first - since, decode=last - first, **found)
        else:
            await asyncio.sleep(script.ttft)
            body = whole(script, fields).encode()
            self.transport.write(WHOLE % (script.status, len(body), body))
            name = "failed" if script.status != 200 else "generate"
            self.ledger.put(id, **{name: perf_counter() - since}, **found)
        if self.connect is not None:
            self.transport.close()


async def engines(folder: Path, delay: float, ports: Sequence[int]) -> None:
    """Serve the three engines."""
    plain, failing, secure, _ = ports
    loop = asyncio.get_running_loop()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "server.pem")
    ledger, accepted = Ledger(folder / "engines.put"), dict[int, float]()

    def engine(script: Script, fixed: bool = False) -> Engine:
        return Engine(ledger, script, fixed, accepted)

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
        except ConnectionError:
            pass
        writer.close()

    async def late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        since = perf_counter()
        await asyncio.sleep(delay)
        there, here = await asyncio.open_connection("127.0.0.1", behind.sockets[0].getsockname()[1])
        accepted[here.get_extra_info("sockname")[1]] = since
        await asyncio.gather(pump(reader, here), pump(there, writer))

    fails = Script(ttft=delay, status=503)
    await loop.create_server(lambda: engine(Script()), "127.0.0.1", plain, backlog=1024)
    await loop.create_server(lambda: engine(fails, True), "127.0.0.1", failing, backlog=1024)
    behind = await loop.create_server(lambda: engine(Script()), "127.0.0.1", 0, ssl=context, backlog=1024)
    await asyncio.start_server(late, "127.0.0.1", secure, backlog=1024)
    await asyncio.Event().wait()


if __name__ == "__main__":
    role, place, seconds, *numbers = sys.argv[1:]
    uvloop.run(
        {"gateway": gateway, "engines": engines}[role](
            Path(place), float(seconds), [int(number) for number in numbers]
        )
    )
