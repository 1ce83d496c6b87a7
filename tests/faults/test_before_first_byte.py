"""What fails before the client has seen a byte: one other engine is tried, once, and the client sees one answer."""

from __future__ import annotations

import contextlib
import json
import re
import ssl
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trustme

from hasten.testing import Script, ScriptedUpstream
from tests.gateway import Gateway, gateway
from tests.sockets import RawUpstream, answering, unused_port, whole

FAST = {"connect": 1.0, "first_byte": 0.15, "idle": 0.15}
ERROR = '{"error":{"message":"overloaded","type":"server_error"}}'
CAPITAL = "The capital of France is Paris."

BROKEN = {
    "reset before the status line": Script(reset_after=0),
    "silent": Script(reset_after=0, hang=True),
    "slow headers of a whole answer": Script(ttft=5.0),
    "500": Script(status=500, body=ERROR),
    "502 in HTML": Script(status=502, body="<html>", headers={"content-type": "text/html"}),
    "503": Script(status=503, body=ERROR),
    "529": Script(status=529, body=ERROR),
    "429": Script(status=429, body=ERROR),
    "429 with retry-after": Script(status=429, body=ERROR, headers={"retry-after": "7"}),
    "not HTTP": Script(raw=b"SSH-2.0-OpenSSH_9.6\r\n"),
    "not JSON": Script(raw=whole(b'{"choices": [')),
    "not JSON, in UTF-16": Script(raw=whole('{"a": 1}'.encode("utf-16"))),
    "a body cut short": Script(raw=whole() [:-10]),
    "headers without an end": Script(raw=b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000),
    "switching protocols": Script(raw=b"HTTP/1.1 101 X\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n"),
    "a redirect": Script(status=302, headers={"location": "http://127.0.0.1:1/"}),
    "nothing at all": Script(raw=b""),
}  # fmt: skip

BROKEN_STREAMS = {
    **{name: script for name, script in BROKEN.items() if not name.startswith(("not JSON", "a body"))},
    "an error as the first event": Script(
        events=('{"error":{"message":"out of memory","code":500}}', "[DONE]")
    ),
    "an error without a code": Script(events=('{"error":"boom"}',)),
    "malformed JSON first": Script(events=('{"choices": [{]', "[DONE]")),
    "a stream without an event": Script(events=()),
    "reset before the first event": Script(events=("x",), reset_after=0),
    "stalled before the first event": Script(ttft=5.0),
}


@contextlib.asynccontextmanager
async def two(first: Script) -> AsyncIterator[tuple[ScriptedUpstream, ScriptedUpstream, Gateway]]:
    """A gateway whose first engine follows ``first``, and whose second works."""
    async with ScriptedUpstream(first) as bad, ScriptedUpstream() as good:
        models = {"m": {"engines": ["e0"], "fallback": ["n"]}, "n": {"engines": ["e1"]}}
        async with gateway(bad, good, engine={"timeouts": FAST}, models=models) as gw:
            yield bad, good, gw


def said(text: str) -> str:
    """Return the text of a streamed chat answer that must be complete."""
    events = [event for event in text.split("\n\n") if event]
    assert events[-1] == "data: [DONE]"
    chunks = [json.loads(event.removeprefix("data: ")) for event in events[:-1]]
    return "".join(c["delta"].get("content", "") for e in chunks for c in e["choices"])


@pytest.mark.parametrize("script", BROKEN.values(), ids=BROKEN)
async def test_whole_answer_comes_from_the_second_engine(script: Script) -> None:
    async with two(script) as (bad, good, gw):
        reply = await gw.chat()
        assert reply.status_code == 200
        assert reply.json()["choices"][0]["message"]["content"] == CAPITAL
        assert (reply.headers["x-hasten-engine"], reply.headers["x-hasten-model"]) == ("e1", "n")
        assert reply.headers["x-hasten-route"] == "fallback"
        assert len(bad.requests) == len(good.requests) == 1
        assert re.search(
            r'^hasten_fallbacks_total\{engine="e0",reason="engine_\w+"} 1$', await gw.metrics(), re.M
        )


@pytest.mark.parametrize("script", BROKEN_STREAMS.values(), ids=BROKEN_STREAMS)
async def test_stream_comes_from_the_second_engine_and_is_one(script: Script) -> None:
    async with two(script) as (bad, good, gw):
        reply = await gw.chat(stream=True)
        assert reply.status_code == 200
        assert said(reply.text) == CAPITAL
        assert reply.headers["x-hasten-engine"] == "e1"
        assert len(bad.requests) == len(good.requests) == 1
        assert 'hasten_fallbacks_total{engine="e0"' in await gw.metrics()


@pytest.mark.parametrize(
    ("base_url", "code"),
    [("http://127.0.0.1:{}/v1", "engine_refused"), ("http://no-such-host.invalid/v1", "engine_refused"),
     ("http://label..empty.invalid/v1", "engine_refused"), ("http://" + "a" * 64 + ".invalid/v1", "engine_refused")],
)  # fmt: skip
async def test_no_connection(base_url: str, code: str) -> None:
    async with ScriptedUpstream() as good:
        engines = {"bad": {"kind": "openai", "base_url": base_url.format(unused_port())}}
        engines["good"] = {"kind": "openai", "base_url": good.base_url}
        models = {
            "m": {"engines": ["bad"], "fallback": ["n"]},
            "n": {"engines": ["good"]},
            "b": {"engines": ["bad"]},
        }
        async with gateway(engines=engines, models=models) as gw:
            assert (await gw.chat()).headers["x-hasten-engine"] == "good"
            alone = await gw.chat(model="b")
            assert (alone.status_code, alone.json()["error"]["code"]) == (502, code)
            assert f'hasten_fallbacks_total{{engine="bad",reason="{code}"}} 1' in await gw.metrics()


@pytest.mark.parametrize(
    ("tls", "status"),
    [(None, 502), ("ca", 200), ({"verify": False}, 200), ("other ca", 502)],
    ids=["not trusted", "trusted by tls.ca", "not verified", "another CA"],
)
async def test_tls(tls: Any, status: int, tmp_path: Any) -> None:
    ca = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert("localhost").configure_cert(context)
    if isinstance(tls, str):
        (trustme.CA() if tls == "other ca" else ca).cert_pem.write_to_path(tmp_path / "ca.pem")
        tls = {"ca": str(tmp_path / "ca.pem")}
    async with RawUpstream(answering(whole()), context) as up:
        engines = {"e": {"kind": "openai", "base_url": up.base_url, "tls": tls or {}}}
        async with gateway(engines=engines, models={"m": {"engines": ["e"]}}) as gw:
            reply = await gw.chat()
            assert reply.status_code == status
            if status == 502:
                assert reply.json()["error"]["message"] == "the engine's TLS certificate was not accepted"


@pytest.mark.parametrize("fields", [{}, {"stream": True}])
async def test_never_more_than_two_attempts(fields: dict[str, Any]) -> None:
    bad = Script(status=500, body=ERROR)
    async with (
        ScriptedUpstream(bad) as a,
        ScriptedUpstream(bad) as b,
        ScriptedUpstream() as c,
        gateway(a, b, c) as gw,
    ):
        reply = await gw.chat(**fields)
        assert reply.status_code == 500
        assert reply.json()["error"]["message"] == "overloaded"
        assert sorted(len(u.requests) for u in (a, b, c)) == [0, 1, 1]


@pytest.mark.parametrize("status", [400, 404, 408, 409, 413, 418, 422, 451])
@pytest.mark.parametrize("stream", [False, True])
async def test_an_engines_4xx_passes_and_is_not_retried(status: int, stream: bool) -> None:
    body = '{"error":{"message":"no","type":"t","param":"p","code":"c"},"more":1}'
    async with two(Script(status=status, body=body)) as (bad, good, gw):
        reply = await gw.chat(stream=stream)
        assert (reply.status_code, reply.text) == (status, body)
        # Of an engine not heard before it may be that it does not know how to count a stream's tokens.
        doubted = stream and status in (400, 422)
        assert (len(bad.requests), len(good.requests)) == (1 + doubted, 0)


@pytest.mark.parametrize(
    "script",
    [Script(status=401, body='{"error":{"message":"bad key sk-canary"}}'),
     Script(status=403, body='{"error":{"message":"bad key sk-canary"}}'),
     Script(events=('{"error":{"message":"bad key sk-canary","code":401}}',))],
    ids=["401", "403", "401 as an event"],
)  # fmt: skip
async def test_the_engines_refusal_of_our_key_is_ours_alone(script: Script) -> None:
    async with ScriptedUpstream(script) as up, gateway(up) as gw:
        reply = await gw.chat(stream=script.events is not None)
        assert reply.status_code == 502
        assert "sk-canary" not in reply.text
        assert "credentials" in reply.json()["error"]["message"]


@pytest.mark.parametrize("way", ["closed at once", "reset at the next request", "closed at the next request"])
async def test_a_kept_connection_that_the_server_closed_is_replaced_once(way: str) -> None:
    async def behave(reader: Any, writer: Any) -> None:
        await answering(whole())(reader, writer)
        if up.connections > 1 or way == "closed at once":
            return
        await reader.readexactly(1)
        if way == "reset at the next request":
            writer.transport.abort()

    async with RawUpstream(behave) as up:
        engines = {"e": {"kind": "openai", "base_url": up.base_url}}
        async with gateway(engines=engines, models={"m": {"engines": ["e"]}}) as gw:
            for _ in range(2):
                assert (await gw.chat()).status_code == 200
            assert up.connections == 2
            assert "hasten_fallbacks_total{" not in await gw.metrics()


async def test_a_fresh_connection_that_dies_is_not_tried_again() -> None:
    async with RawUpstream(answering(b"")) as up:
        engines = {"e": {"kind": "openai", "base_url": up.base_url}}
        async with gateway(engines=engines, models={"m": {"engines": ["e"]}}) as gw:
            reply = await gw.chat()
            assert (reply.status_code, reply.json()["error"]["code"]) == (502, "engine_reset")
            assert up.connections == 1
