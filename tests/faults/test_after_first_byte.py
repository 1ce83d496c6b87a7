"""What fails once the client has seen a byte: it is told in the stream, nothing is sent twice, nothing is retried."""

from __future__ import annotations

import asyncio
import json
import socket

import pytest

from hasten.testing import Script, ScriptedUpstream, chat_chunk
from tests.gateway import eventually, gateway
from tests.sockets import (
    STREAM_HEAD,
    RawUpstream,
    answering,
    chunk,
    connected,
    post,
    take_request,
    until_closed,
    whole,
)

HELLO = json.dumps(chat_chunk("Hello"))
STOP = json.dumps(chat_chunk(None, "stop"))
FAST = {"timeouts": {"idle": 0.15, "first_byte": 0.15}}

DYING = {
    "reset": (Script(tokens=("Hello",), itl=0.02, reset_after=1), "engine_reset"),
    "stalled": (Script(tokens=("Hello",), itl=0.02, reset_after=1, hang=True), "engine_timeout"),
    "ended without a finish reason": (Script(events=(HELLO,), itl=0.02), "engine_reset"),
    "malformed JSON": (Script(events=(HELLO, "{", STOP, "[DONE]"), itl=0.02), "engine_protocol"),
    "not UTF-8": (Script(raw=STREAM_HEAD + chunk(f"data: {HELLO}\n\n".encode()) + chunk(b'data: "\xff"\n\n')),
                  "engine_protocol"),
    "an error event": (Script(events=(HELLO, '{"error":{"message":"no more memory"}}'), itl=0.02), None),
    "connection closed in a chunk": (Script(raw=STREAM_HEAD + chunk(f"data: {HELLO}\n\n".encode()) + b"ff\r\ndata"),
                                     "engine_reset"),
    "bad chunk framing": (Script(raw=STREAM_HEAD + chunk(f"data: {HELLO}\n\n".encode()) + b"zz\r\n"),
                          "engine_protocol"),
}  # fmt: skip


@pytest.mark.parametrize(("script", "code"), DYING.values(), ids=DYING)
async def test_openai_stream(script: Script, code: str | None) -> None:
    async with ScriptedUpstream(script) as a, ScriptedUpstream() as b:
        models = {"m": {"engines": ["e0"], "fallback": ["n"]}, "n": {"engines": ["e1"]}}
        async with gateway(a, b, engine=FAST, models=models) as gw:
            reply = await gw.chat(stream=True)  # httpx checks that the chunked framing is complete
            assert reply.status_code == 200
            events = [json.loads(e.removeprefix("data: ")) for e in reply.text.split("\n\n") if e]
            assert [c["delta"].get("content") for c in events[0]["choices"]] == ["Hello"]
            assert len(events) == 2
            error = events[1]["error"]
            if code is None:
                assert error == {"message": "no more memory"}
            else:
                assert error["code"] == code
            assert reply.text.count("Hello") == 1
            assert b.requests == []
            assert (
                f'hasten_errors_total{{endpoint="chat",code="{code or "engine_status"}"}} 1'
                in await gw.metrics()
            )
            assert (await gw.chat(model="n")).status_code == 200


@pytest.mark.parametrize(("script", "code"), DYING.values(), ids=DYING)
async def test_anthropic_stream(script: Script, code: str | None) -> None:
    async with ScriptedUpstream(script) as up, gateway(up, engine=FAST) as gw:
        fields = {
            "model": "m",
            "max_tokens": 9,
            "messages": [{"role": "user", "content": "hi"}],
            "stream": True,
        }
        reply = await gw.http.post("/v1/messages", json=fields)
        assert reply.status_code == 200
        last = reply.text.strip().split("\n\n")[-1]
        assert last.startswith("event: error\ndata: ")
        error = json.loads(last.split("data: ", 1)[1])
        assert error["type"] == "error"
        assert error["error"]["type"] in ("api_error", "timeout_error")
        assert reply.text.count("Hello") == 1
        assert "message_stop" not in reply.text


async def test_http10_client_sees_the_error_and_the_end() -> None:
    async with ScriptedUpstream(DYING["reset"][0]) as up, gateway(up) as gw:
        body = b'{"model":"m","messages":[],"stream":true}'
        head = (
            b"POST /v1/chat/completions HTTP/1.0\r\nconnection: keep-alive\r\ncontent-length: %d\r\n\r\n"
            % len(body)
        )
        async with connected(gw.port) as (reader, writer):
            writer.write(head + body)
            answer = await until_closed(reader)
        assert b"transfer-encoding" not in answer
        assert b'"engine_reset"' in answer


async def test_the_end_without_done_is_complete_after_a_finish_reason() -> None:
    async with ScriptedUpstream(Script(done=False)) as up, gateway(up) as gw:
        reply = await gw.chat(stream=True)
        assert reply.text.endswith("data: [DONE]\n\n")
        assert "error" not in reply.text


@pytest.mark.parametrize(
    "extra", [whole(b'{"stolen":1}'), b"HTTP/1.1 200 OK\r\ncontent-length: 60\r\n\r\n", b"junk"]
)
async def test_bytes_after_an_answer_are_never_another_clients(extra: bytes) -> None:
    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await take_request(reader):
            writer.write(whole() + extra)

    async with RawUpstream(behave) as up:
        engines = {"e": {"kind": "openai", "base_url": up.base_url}}
        async with gateway(engines=engines, models={"m": {"engines": ["e"]}}) as gw:
            for _ in range(3):
                reply = await gw.chat()
                assert reply.status_code == 200
                assert "choices" in reply.json()


async def test_trailers_of_one_answer_are_not_headers_of_the_next() -> None:
    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        end = b"0\r\nx-ratelimit-limit-requests: 1\r\ncontent-type: text/event-stream\r\n\r\n"
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
        while await take_request(reader):
            writer.write(head + chunk(whole().partition(b"\r\n\r\n")[2]) + end)

    async with RawUpstream(behave) as up:
        engines = {"e": {"kind": "openai", "base_url": up.base_url}}
        async with gateway(engines=engines, models={"m": {"engines": ["e"]}}) as gw:
            for _ in range(3):
                reply = await gw.chat()
                assert reply.headers["content-type"] == "application/json"
                assert "x-ratelimit-limit-requests" not in reply.headers
            assert up.connections == 1


@pytest.mark.parametrize(
    "first", [b"", chunk(f"data: {HELLO}\n\n".encode())], ids=["in one read", "in two reads"]
)
async def test_a_slow_reader_leaves_a_usable_connection_behind(first: bytes) -> None:
    """The answer may be complete at the engine's end when its reader begins to hold it up."""
    event = chunk(
        b'data: {"choices":[{"index":0,"delta":{"content":"%b"},"finish_reason":"stop"}]}\n\n'
        % (b"x" * 180_000)
    )
    held = asyncio.Event()

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await take_request(reader)
        if first:
            writer.write(STREAM_HEAD + first)
            await held.wait()
            writer.write(event + b"0\r\n\r\n")
        else:
            writer.write(STREAM_HEAD + event + b"0\r\n\r\n")
        await answering(whole(), whole())(reader, writer)

    async with RawUpstream(behave) as up:
        engines = {"e": {"kind": "openai", "base_url": up.base_url, "timeouts": {"first_byte": 1.0}}}
        async with gateway(engines=engines, models={"m": {"engines": ["e"]}}) as gw:
            for sock in gw.worker._listener.sockets if gw.worker._listener else ():
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # the kernel shall not hold it all
            async with connected(gw.port, receive_buffer=4096) as (reader, writer):
                writer.write(post(b'{"model":"m","messages":[],"stream":true}', b"connection: close"))
                if first:
                    await reader.readuntil(b"Hello")
                    held.set()
                await eventually(lambda: any(c._paused_since for c in gw.worker.server.connections))
                assert (await until_closed(reader)).endswith(b"0\r\n\r\n")
            for _ in range(2):
                assert (await gw.chat()).status_code == 200
            assert up.connections == 1


async def test_a_slow_reader_is_not_taken_for_a_silent_engine() -> None:
    """The idle limit is the engine's; while its reader holds it up, it does not run."""
    async with (
        ScriptedUpstream(Script(tokens=("x" * 50_000,), repeat=100)) as up,
        gateway(up, engine=FAST) as gw,
    ):
        async with connected(gw.port, receive_buffer=4096) as (reader, writer):
            writer.write(post(b'{"model":"m","messages":[],"stream":true}', b"connection: close"))
            await eventually(lambda: any(c._paused_since for c in gw.worker.server.connections))
            await asyncio.sleep(0.4)  # more than twice the limit
            answer = await until_closed(reader)
        assert answer.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
