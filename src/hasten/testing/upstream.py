"""An OpenAI-compatible server that follows scripts, faults included."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections import deque
from typing import Any

import msgspec
from msgspec import structs

from hasten.testing.answers import Script, events, whole


class Recorded(msgspec.Struct):
    """A request that the upstream got."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the body, decoded."""
        return msgspec.json.decode(self.body)


class ScriptedUpstream:
    """An OpenAI-compatible server on loopback that follows scripts.

    The next script of :attr:`queue` is used for the next request, :attr:`script` when it is empty. A request can
    bring its own in the field ``x_script``. :attr:`requests` keeps what came, :attr:`open` counts connections,
    :attr:`gone` counts answers during which the client left. ``tls``: it speaks HTTPS.
    """

    def __init__(
        self,
        script: Script | None = None,
        port: int = 0,
        keep: bool = True,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.script = script or Script()
        self.queue: deque[Script] = deque()
        self.requests: list[Recorded] = []
        self.open = 0
        self.gone = 0
        self.port = port
        self._keep = keep
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def base_url(self) -> str:
        """The address for an engine's ``base_url``."""
        return f"{'http://127.0.0.1' if self._tls is None else 'https://localhost'}:{self.port}/v1"

    async def __aenter__(self) -> ScriptedUpstream:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen; :attr:`port` is the port afterwards."""
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", self.port, limit=2**26, backlog=1024, ssl=self._tls
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close the port and all connections."""
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.open += 1
        try:
            while (request := await self._read(reader)) is not None:
                if self._keep:
                    self.requests.append(request)
                if not await self._answer(request, reader, writer):
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        except asyncio.CancelledError:
            pass
        finally:
            self.open -= 1
            self._tasks.discard(task)
            writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> Recorded | None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return None
        first, *lines = head.decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ", 2)
        headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines if line)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        return Recorded(method, target, headers, body)

    def _script_for(self, request: Recorded) -> tuple[Script, dict[str, Any]]:
        fields = request.json() if request.body else {}
        if "x_script" in fields:
            return msgspec.convert(fields["x_script"], Script), fields
        return (self.queue.popleft() if self.queue else self.script), fields

    async def _answer(
        self, request: Recorded, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Follow the script; return whether the connection goes on."""
        script, fields = self._script_for(request)
        if script.refuses and "stream_options" in fields:
            refusal = msgspec.json.encode({"error": {"message": script.refusal}}).decode()
            script = structs.replace(script, status=script.refuses, body=refusal)
        following = asyncio.create_task(self._follow(script, fields, writer))
        leaving = asyncio.create_task(_left(reader))
        try:
            await asyncio.wait((following, leaving), return_when=asyncio.FIRST_COMPLETED)
            if not following.done() or isinstance(following.exception(), ConnectionError):
                self.gone += 1  # seen by reading, or by writing
                return False
            following.result()
        finally:
            following.cancel()
            leaving.cancel()
            await asyncio.gather(following, leaving, return_exceptions=True)
        return not script.close and script.reset_after is None and script.raw is None

    async def _follow(self, script: Script, fields: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        if script.reset_after == 0:
            await self._break(script, writer)
            return
        if script.raw is not None:
            await self._send(script, writer, script.raw)
        elif fields.get("stream") and script.status == 200:
            await self._stream(script, fields, writer)
        else:
            await asyncio.sleep(script.ttft)
            body = (script.body if script.body is not None else whole(script, fields)).encode()
            headers = {"content-type": "application/json", **script.headers}
            lines = "".join(f"{k}: {v}\r\n" for k, v in headers.items())
            head = f"HTTP/1.1 {script.status} X\r\n{lines}content-length: {len(body)}\r\n\r\n"
            await self._send(script, writer, head.encode() + body)

    async def _stream(self, script: Script, fields: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        lines = "".join(f"{k}: {v}\r\n" for k, v in script.headers.items())
        head = (
            f"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n{lines}\r\n"
        )
        await self._send(script, writer, head.encode())
        await asyncio.sleep(script.ttft)
        loop = asyncio.get_running_loop()
        due = loop.time()
        for i, data in enumerate(events(script, fields)):
            if script.reset_after is not None and i >= script.reset_after:
                await self._break(script, writer)
                return
            event = b"data: " + data.encode() + b"\n\n"
            await self._send(script, writer, b"%x\r\n%b\r\n" % (len(event), event))
            if script.itl:
                due += script.itl
                await asyncio.sleep(max(0.0, due - loop.time()))
        await self._send(script, writer, b"0\r\n\r\n")

    async def _break(self, script: Script, writer: asyncio.StreamWriter) -> None:
        if script.hang:
            await asyncio.sleep(3600)
        sock = writer.get_extra_info("socket")
        await writer.drain()
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    async def _send(self, script: Script, writer: asyncio.StreamWriter, data: bytes) -> None:
        if (
            writer.transport.is_closing()
        ):  # uvloop's transports refuse to write then, asyncio's own do nothing
            raise ConnectionResetError("the client left")
        if not script.split:
            writer.write(data)
            await writer.drain()
            return
        for i in range(0, len(data), script.split):
            writer.write(data[i : i + script.split])
            await writer.drain()
            await asyncio.sleep(0)

    def __repr__(self) -> str:
        return f"<ScriptedUpstream {self.base_url} {self.open} open, {len(self.requests)} requests>"


async def _left(reader: asyncio.StreamReader) -> None:
    # Reading to find out would take a byte of the next request; nothing else tells.
    while not reader.at_eof():  # noqa: ASYNC110
        await asyncio.sleep(0.01)
