"""What clients get wrong: each has its status, a message that helps, and no effect on the next request."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hasten.accept import wire
from hasten.accept.server import Connection, Server
from hasten.errors import InvalidField
from hasten.fields import ChatFields
from hasten.testing import Script, ScriptedUpstream
from tests.gateway import eventually, gateway
from tests.sockets import connected, post, until_closed

MESSAGES = [{"role": "user", "content": "hi"}]
SMALL = {
    "max_body_bytes": 1000,
    "max_header_bytes": 2000,
    "max_depth": 8,
    "request_timeout": 0.2,
    "keep_alive": 0.2,
}


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


BODIES = {
    "not JSON": (b"model=m", None, "not valid JSON"),
    "cut short": (b'{"model":"m","messages":[', None, "not valid JSON"),
    "empty": (b"", None, "not valid JSON"),
    "a list": (b"[]", None, "the body: expected object, got array"),
    "two objects": (b'{"model":"m","messages":[]}{}', None, "not valid JSON"),
    "invalid UTF-8": (b'{"model":"m","messages":[{"role":"user","content":"\xff"}]}', None, "not valid JSON"),
    "no model": (b'{"messages":[]}', "model", "model: this field is required"),
    "no messages": (b'{"model":"m"}', "messages", "messages: this field is required"),
    "no role": (
        b'{"model":"m","messages":[{"content":"x"}]}',
        "messages[0].role",
        "messages[0].role: this field is required",
    ),
    "a role of another type": (
        b'{"model":"m","messages":[{"role":1}]}',
        "messages[0].role",
        "messages[0].role: expected str, got int",
    ),
    "content of another type": (
        b'{"model":"m","messages":[{"role":"user"},{"role":"user","content":7}]}',
        "messages[1].content",
        "messages[1].content: expected",
    ),
    "temperature": (
        b'{"model":"m","messages":[],"temperature":"hot"}',
        "temperature",
        "temperature: expected float | null, got str",
    ),
    "stream": (b'{"model":"m","messages":[],"stream":"yes"}', "stream", "stream: expected bool"),
    "stream options": (
        b'{"model":"m","messages":[],"stream_options":{"include_usage":1}}',
        "stream_options.include_usage",
        "stream_options.include_usage: expected bool",
    ),
    "too deep": (
        json.dumps({"model": "m", "messages": [], "extra": nested(9)}).encode(),
        "extra",
        "extra: nested more than 8 levels deep",
    ),
    "much too deep": (
        b'{"model":"m","messages":[],"a":' + b"[" * 400 + b"]" * 400 + b"}",
        "a",
        "nested more than 8",
    ),
    "deep without an end": (b'{"model":"m","messages":[],"a":' + b"[" * 900, None, "not valid JSON"),
    "deep behind an escape": (
        b'{"model":"m","messages":[],"\\u0061":"\\n","b":' + b"[" * 9 + b"]" * 9 + b"}",
        "b",
        "nested",
    ),
}


@pytest.mark.parametrize(("body", "param", "message"), BODIES.values(), ids=BODIES)
async def test_bodies(body: bytes, param: str | None, message: str) -> None:
    async with ScriptedUpstream() as up, gateway(up, server=SMALL) as gw:
        reply = await gw.http.post("/v1/chat/completions", content=body)
        error = reply.json()["error"]
        assert (reply.status_code, error["type"], error["param"]) == (400, "invalid_request_error", param)
        assert message in error["message"]
        assert up.requests == []
        assert (await gw.chat()).status_code == 200


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("completions", {"prompt": {"a": 1}}, "prompt"),
        ("completions", {}, "prompt"),
        ("embeddings", {"input": 7}, "input"),
        ("embeddings", {"input": "x", "dimensions": "many"}, "dimensions"),
        ("completions", {"prompt": [[1], ["x"]]}, "prompt[1][0]"),
    ],
)
async def test_other_endpoints(path: str, body: dict[str, Any], param: str) -> None:
    async with ScriptedUpstream() as up, gateway(up) as gw:
        reply = await gw.http.post(f"/v1/{path}", json={"model": "m", **body})
        assert (reply.status_code, reply.json()["error"]["param"]) == (400, param)


HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n"
REFUSED = {
    "a body that says it is too large": (HEAD + b"content-length: 1001\r\n\r\n", 413),
    "a chunked body that is too large": (
        HEAD
        + b"transfer-encoding: chunked\r\n\r\n"
        + b"64\r\n"
        + b"x" * 100
        + b"\r\n"
        + b"3e8\r\n"
        + b"x" * 1000,
        413,
    ),
    "a length beyond all numbers": (HEAD + b"content-length: 99999999999999999999999\r\n\r\n", 400),
    "a big header": (HEAD + b"a: " + b"x" * 3000 + b"\r\n\r\n", 431),
    "many headers": (HEAD + b"".join(b"a%d: x\r\n" % i for i in range(129)) + b"\r\n", 431),
    "many times the same header": (HEAD + b"a: xxxxxx\r\n" * 400, 431),
    "a header without an end": (HEAD + b"a: " + b"x" * 3000, 431),
    "a target without an end": (b"GET /" + b"x" * 3000, 431),
    "a coded body": (HEAD + b"content-encoding: gzip\r\ncontent-length: 0\r\n\r\n", 415),
    "a host that comes twice": (HEAD + b"host: x\r\ncontent-length: 0\r\n\r\n", 400),
    "a wrong key": (
        HEAD.replace(b"host", b"authorization: Bearer wrong\r\nhost") + b"content-length: 0\r\n\r\n",
        401,
    ),
}


@pytest.mark.parametrize("step", [0, 500], ids=["at once", "in pieces"])
@pytest.mark.parametrize(("sent", "status"), REFUSED.values(), ids=REFUSED)
async def test_refused_and_closed(sent: bytes, status: int, step: int) -> None:
    keys = {"keys": ["right"]} if status == 401 else {}
    async with ScriptedUpstream() as up, gateway(up, server={**SMALL, "request_timeout": 5.0, **keys}) as gw:
        async with connected(gw.port) as (reader, writer):
            for i in range(0, len(sent), step or len(sent)):
                writer.write(sent[i : i + (step or len(sent))])
                await asyncio.sleep(0)
            answer = await until_closed(reader)
        assert answer.startswith(b"HTTP/1.1 %d " % status)
        assert b"\r\nconnection: close\r\n" in answer
        head, _, body = answer.partition(b"\r\n\r\n")
        assert msgspec.json.decode(body)["error"]["message"]
        assert f"content-length: {len(body)}".encode() in head
        assert up.requests == []
        assert f'status="{status}"}} 1' in await gw.metrics()


@pytest.mark.parametrize("more", [b"a: xxxxxxxxxxx\r\n" * 30, b"x" * 500], ids=["many", "one"])
async def test_trailers_without_an_end(more: bytes) -> None:
    async with (
        ScriptedUpstream() as up,
        gateway(up, server=SMALL) as gw,
        connected(gw.port) as (reader, writer),
    ):
        writer.write(HEAD + b"transfer-encoding: chunked\r\n\r\n")
        for piece in (b"0\r\na: ", *[more] * 6):
            writer.write(piece)
            await asyncio.sleep(0.005)
        assert (await until_closed(reader)).startswith(b"HTTP/1.1 431 ")


async def test_a_trailer_is_no_header() -> None:
    async with ScriptedUpstream() as up, gateway(up) as gw:
        body = b'{"model":"m","messages":[]}'
        chunked = b"%x\r\n%b\r\n0\r\nx-request-id: sneaked\r\n\r\n" % (len(body), body)
        answer = await gw.raw(HEAD + b"connection: close\r\ntransfer-encoding: chunked\r\n\r\n" + chunked)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"sneaked" not in answer
        assert "sneaked" not in str(up.requests[0].headers)


async def test_text_with_brackets_is_not_deep() -> None:
    async with ScriptedUpstream() as up, gateway(up, server=SMALL) as gw:
        code = "a\n" + "[" * 50 + '"\\' + "{" * 50
        assert (await gw.chat(messages=[{"role": "user", "content": code}])).status_code == 200


async def test_an_answer_to_a_large_body_survives_the_rest_of_it() -> None:
    """The client goes on sending for a while: its connection must not be reset before it has read why."""
    async with ScriptedUpstream() as up, gateway(up, server={"max_body_bytes": 1000}) as gw:
        reply = await gw.http.post("/v1/chat/completions", content=b"x" * 3_000_000)
        assert reply.status_code == 413


@pytest.mark.parametrize(
    ("method", "path", "status", "message"),
    [
        ("POST", "/v1/chat", 404, "there is no '/v1/chat' here; paths: /v1/chat/completions"),
        ("GET", "/", 404, "/health"),
        ("GET", "/v1/chat/completions", 405, "allowed: POST"),
        ("POST", "/health", 405, "allowed: GET, HEAD"),
        ("DELETE", "/v1/models", 405, "DELETE is not allowed"),
        ("OPTIONS", "/v1/models", 405, "allowed: GET, HEAD"),
        ("GET", "/v1/models/nope", 404, "there is no model 'nope'; there are: m"),
        ("GET", "/v1/modelsx", 404, "there is no"),
        ("GET", "/v1/chat/../models", 404, "there is no"),
        ("GET", "/V1/models", 404, "there is no"),
    ],
)
async def test_paths_and_methods(method: str, path: str, status: int, message: str) -> None:
    async with ScriptedUpstream() as up, gateway(up) as gw:
        answer = await gw.raw(f"{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
        assert answer.startswith(f"HTTP/1.1 {status} ".encode())
        assert message in json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["message"]


async def test_unknown_model_names_the_models() -> None:
    async with ScriptedUpstream() as up, gateway(up) as gw:
        reply = await gw.chat(model="gpt-4")
        assert reply.status_code == 404
        assert reply.json()["error"] == {
            "message": "there is no model 'gpt-4'; there are: m",
            "type": "not_found_error",
            "param": "model",
            "code": "model_not_found",
        }


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/nope", "/nowhere", "/v1/chat/completions"])
async def test_head_has_no_body(path: str) -> None:
    async with ScriptedUpstream() as up, gateway(up) as gw:
        one = f"HEAD {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode()
        answer = await gw.raw(one + one.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
        assert b"{" not in answer
        assert answer.count(b"HTTP/1.1 ") in (1, 2)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"authorization": "Bearer right"}, 200),
        ({"authorization": "bearer right"}, 200),
        ({"x-api-key": "right"}, 200),
        ({"x-api-key": "right "}, 200),
        ({"authorization": "Bearer hashed"}, 200),
        ({"authorization": "Bearer wrong"}, 401),
        ({"x-api-key": "wrong"}, 401),
        ({"authorization": "right"}, 401),
        ({"authorization": "Bearer"}, 401),
        ({"authorization": "Bearer "}, 401),
        ({"authorization": "Basic right"}, 401),
        ({"authorization": "Bearer wrong", "x-api-key": "right"}, 401),
    ],
)
async def test_keys(headers: dict[str, str], status: int) -> None:
    hashed = "sha256:" + hashlib.sha256(b"hashed").hexdigest()
    async with ScriptedUpstream() as up, gateway(up, server={"keys": ["right", hashed]}) as gw:
        lines = [f"{k}: {v}".encode() for k, v in headers.items()]
        answer = await gw.raw(post(b'{"model":"m","messages":[]}', b"connection: close", *lines))
        assert answer.startswith(b"HTTP/1.1 %d " % status)
        assert len(up.requests) == (status == 200)
        if status == 401:
            assert b"\r\nwww-authenticate: Bearer\r\n" in answer
        for path, wanted in (("/health", 200), ("/ready", 200), ("/metrics", 200), ("/v1/models", 401)):
            assert (await gw.http.get(path)).status_code == wanted


@pytest.mark.parametrize(
    "sent", [HEAD, post()[:-5], b"G", HEAD + b"transfer-encoding: chunked\r\n\r\n5\r\nab"], ids=repr
)
async def test_a_slow_sender_is_told_408(sent: bytes) -> None:
    async with (
        ScriptedUpstream() as up,
        gateway(up, server=SMALL) as gw,
        connected(gw.port) as (reader, writer),
    ):
        writer.write(sent)
        answer = await until_closed(reader)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b'"request_timeout"' in answer


@pytest.mark.parametrize("sent", [b"", b"\r\n", post()], ids=["nothing", "a blank line", "a request"])
async def test_an_idle_connection_is_closed(sent: bytes) -> None:
    async with (
        ScriptedUpstream() as up,
        gateway(up, server=SMALL) as gw,
        connected(gw.port) as (reader, writer),
    ):
        writer.write(sent)
        answer = await until_closed(reader)
        assert answer.count(b"HTTP/1.1 200") == (len(sent) > 2)


async def test_a_request_under_way_is_not_idle() -> None:
    async with ScriptedUpstream(Script(ttft=1.3)) as up, gateway(up, server=SMALL) as gw:
        assert (await gw.chat()).status_code == 200


# -- properties -----------------------------------------------------------------------------------

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=8)
    | st.sampled_from(['"', "\\", '[{"', "]}", '\\"']),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=20,
)


def naive_depth(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(naive_depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(naive_depth, value), default=0)
    return 0


@given(json_values, st.integers(1, 6), st.booleans())
def test_depth_is_that_of_a_naive_count(value: Any, limit: int, ascii: bool) -> None:
    body = json.dumps(value, ensure_ascii=ascii).encode()
    assert wire.depth(body, limit) == min(naive_depth(value), limit + 1)


@given(st.binary(max_size=200) | st.text(alphabet='[]{}"\\,:1a', max_size=60).map(str.encode))
def test_no_body_raises_anything_else(body: bytes) -> None:
    with contextlib.suppress(InvalidField):
        wire.read(msgspec.json.Decoder(ChatFields), body, 8)


class Transport(asyncio.Transport):
    """Takes what is written; says when it is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.ended = False

    def write(self, data: Any) -> None:
        self.written += bytes(data)

    def is_closing(self) -> bool:
        return self.ended

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = True

    def close(self) -> None:
        self.ended = True

    def abort(self) -> None:
        self.ended = True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


piece = st.binary(max_size=30) | st.sampled_from(
    [
        b"GET /health HTTP/1.1\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\n",
        b"host: x\r\n",
        b"\r\n",
        b"content-length: 3\r\n",
        b"transfer-encoding: chunked\r\n",
        b"3\r\nabc\r\n",
        b"0\r\n\r\n",
        b"connection: upgrade\r\nupgrade: h2c\r\n",
        b"expect: 100-continue\r\n",
        b"abc",
        b" ",
        b"HTTP/1.1 200 OK\r\n",
        b"PRI * HTTP/2.0\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01",
    ]
)


async def test_no_bytes_break_the_server() -> None:
    """Whatever comes in whatever pieces: an answer and the end, or waiting for more; never an exception."""
    async with ScriptedUpstream() as up, gateway(up) as gw:
        server: Server = gw.worker.server
        loop = asyncio.get_running_loop()
        trouble: list[dict[str, Any]] = []
        loop.set_exception_handler(lambda loop, context: trouble.append(context))

        @settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        @given(st.lists(piece, max_size=12))
        def feed(pieces: list[bytes]) -> None:
            connection = Connection(server)
            transport = Transport()
            connection.connection_made(transport)
            for data in pieces:
                connection.data_received(data)
            if transport.ended:
                assert transport.written.startswith(b"HTTP/1.1 ")
            repr(connection)
            connection.connection_lost(None)

        feed()
        await eventually(lambda: server.active == 0 and not server.connections)
        assert trouble == []
        assert (await gw.chat()).status_code == 200
