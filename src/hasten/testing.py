"""Test doubles, public: a clock, an engine, and an upstream server that does what a script says.

``python -m hasten.testing --port 9000`` runs the scripted upstream alone: an OpenAI-compatible server without a model.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import socket
import struct
from collections import deque
from typing import Any

import msgspec

from hasten.errors import HastenError
from hasten.types import Chunk, Event, Reply, Request, Stream

WORDS = ("The", " capital", " of", " France", " is", " Paris", ".")


class FakeClock:
    """A clock that moves when told to; call it for the time in seconds."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        """Let ``seconds`` pass."""
        self.now += seconds

    def __repr__(self) -> str:
        return f"<FakeClock {self.now}>"


class FakeEngine:
    """An engine (:class:`hasten.engines.base.Engine`) that answers from a list, without a socket.

    ``answers``: replies or errors to raise, used in turn; the last one stays.
    """

    def __init__(self, name: str, *answers: Reply | HastenError) -> None:
        self.name = name
        self.provider = "fake"
        self.inflight = 0
        self.ready = True
        self.requests: list[Request] = []
        self.answers = deque(answers or (Reply(body=b"{}"),))

    async def send(self, request: Request) -> Reply:
        self.requests.append(request)
        answer = self.answers.popleft() if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, HastenError):
            raise answer
        return answer

    def close(self) -> None:
        pass

    def __repr__(self) -> str:
        return f"<FakeEngine {self.name!r} {len(self.requests)} requests>"


class FakeSource:
    """A stream's source that counts what is asked of it."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def pause(self) -> None:
        self.calls.append("pause")

    def resume(self) -> None:
        self.calls.append("resume")

    def cancel(self) -> None:
        self.calls.append("cancel")


def fake_stream(*texts: str) -> Stream:
    """Return a complete stream with one chat chunk for each text."""
    stream = Stream(FakeSource())
    for i, text in enumerate(texts):
        finish = "stop" if i == len(texts) - 1 else None
        data = msgspec.json.encode(chat_chunk(text, finish))
        stream.feed(Chunk(b"data: " + data + b"\n\n", msgspec.json.decode(data, type=Event), float(i)))
    stream.feed(Chunk(b"data: [DONE]\n\n", None, float(len(texts)), done=True))
    stream.end()
    return stream


def chat_chunk(text: str | None, finish: str | None = None) -> dict[str, Any]:
    """Return a chat completion chunk."""
    return {
        "id": "chatcmpl-scripted",
        "object": "chat.completion.chunk",
        "created": 1700000000,
        "model": "scripted",
        "choices": [
            {"index": 0, "delta": {} if text is None else {"content": text}, "finish_reason": finish}
        ],
    }


class Script(msgspec.Struct, frozen=True, kw_only=True):
    """What the upstream does with one request; times in seconds.

    ``ttft``: before the first event, or before a whole answer. ``itl``: between events. ``status``, ``headers``,
    ``body``: of an answer that is not a stream (``body`` also of an error). ``events``: data of the events, instead of
    those made of ``tokens``. ``raw``: bytes to send instead of any answer. ``reset_after``: reset the connection
    after so many events (0: before the status line; with ``hang`` stay silent instead). ``split``: bytes a write.
    """

    tokens: tuple[str, ...] = WORDS
    repeat: int = 1
    ttft: float = 0.0
    itl: float = 0.0
    status: int = 200
    headers: dict[str, str] = {}
    body: str | None = None
    events: tuple[str, ...] | None = None
    raw: bytes | None = None
    reset_after: int | None = None
    hang: bool = False
    split: int = 0
    done: bool = True
    usage: bool = True
    close: bool = False


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
    :attr:`gone` counts answers during which the client left.
    """

    def __init__(self, script: Script | None = None, port: int = 0, keep: bool = True) -> None:
        self.script = script or Script()
        self.queue: deque[Script] = deque()
        self.requests: list[Recorded] = []
        self.open = 0
        self.gone = 0
        self.port = port
        self._keep = keep
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def base_url(self) -> str:
        """The address for an engine's ``base_url``."""
        return f"http://127.0.0.1:{self.port}/v1"

    async def __aenter__(self) -> ScriptedUpstream:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen; :attr:`port` is the port afterwards."""
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", self.port, limit=2**26, backlog=1024
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
        following = asyncio.create_task(self._follow(script, fields, writer))
        leaving = asyncio.create_task(_left(reader))
        try:
            await asyncio.wait((following, leaving), return_when=asyncio.FIRST_COMPLETED)
            if not following.done():
                self.gone += 1
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
            body = (script.body if script.body is not None else _whole(script, fields)).encode()
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
        for i, data in enumerate(_events(script, fields)):
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
    while not reader.at_eof():  # reading to find out would take a byte of the next request
        await asyncio.sleep(0.01)


def _usage(script: Script) -> dict[str, int]:
    count = len(script.tokens) * script.repeat
    return {"prompt_tokens": 10, "completion_tokens": count, "total_tokens": 10 + count}


def _events(script: Script, fields: dict[str, Any]) -> list[str]:
    if script.events is not None:
        return [*script.events]
    made = [msgspec.json.encode(chat_chunk(text)).decode() for text in script.tokens * script.repeat]
    made.append(msgspec.json.encode(chat_chunk(None, "stop")).decode())
    if script.usage and (fields.get("stream_options") or {}).get("include_usage"):
        last = {**chat_chunk(None), "choices": [], "usage": _usage(script)}
        made.append(msgspec.json.encode(last).decode())
    if script.done:
        made.append("[DONE]")
    return made


def _whole(script: Script, fields: dict[str, Any]) -> str:
    text = "".join(script.tokens * script.repeat)
    made: dict[str, Any]
    if "input" in fields:
        inputs = fields["input"] if isinstance(fields["input"], list) else [fields["input"]]
        data = [{"object": "embedding", "index": i, "embedding": [0.6, 0.8]} for i in range(len(inputs))]
        made = {"object": "list", "model": "scripted", "data": data}
    elif "prompt" in fields:
        choice: dict[str, Any] = {"index": 0, "text": text, "finish_reason": "stop", "logprobs": None}
        made = {
            "id": "cmpl-scripted",
            "object": "text_completion",
            "created": 1700000000,
            "choices": [choice],
        }
    else:
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        made = {
            "id": "chatcmpl-scripted",
            "object": "chat.completion",
            "created": 1700000000,
            "choices": [choice],
        }
    return msgspec.json.encode({"model": "scripted", **made, "usage": _usage(script)}).decode()


def main() -> None:
    """Run the scripted upstream until it is interrupted."""
    parser = argparse.ArgumentParser(
        prog="python -m hasten.testing", description="An upstream without a model."
    )
    parser.add_argument("--port", type=int, default=9000)
    parser.add_argument("--ttft-ms", type=float, default=0.0)
    parser.add_argument("--itl-ms", type=float, default=0.0)
    parser.add_argument("--repeat", type=int, default=1, help="how often the seven tokens are said")
    args = parser.parse_args()
    script = Script(ttft=args.ttft_ms / 1e3, itl=args.itl_ms / 1e3, repeat=args.repeat)

    async def serve() -> None:
        async with ScriptedUpstream(script, args.port, keep=False) as upstream:
            print(f"scripted upstream on {upstream.base_url}", flush=True)
            await asyncio.Event().wait()

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve())


if __name__ == "__main__":
    main()
