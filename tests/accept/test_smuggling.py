"""Requests that two HTTP parsers could read in two ways: refused, the connection closed, nothing behind them answered.

Each entry says what is expected: the status, or how many answers come.
Behind every entry stand two hidden requests: one for the engine and one for ``/health``.
"""

from __future__ import annotations

import re

import pytest

from hasten.testing import ScriptedUpstream
from tests.gateway import eventually, gateway
from tests.sockets import connected, post, until_closed

BODY = b'{"model":"m","messages":[]}'
LINE = b"POST /v1/chat/completions HTTP/1.1\r\n"
HOST = LINE + b"host: x\r\n"
CHUNKED = HOST + b"transfer-encoding: chunked\r\n\r\n"
WHOLE_CHUNK = b"%x\r\n%b\r\n" % (len(BODY), BODY)
LENGTH = b"content-length: %d\r\n" % len(BODY)
HIDDEN = post(b'{"model":"m","messages":[],"hidden":1}') + b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n"

STATUS_LINE = re.compile(rb"HTTP/1\.1 (\d{3}) ")

#: What is refused: the bytes and the status.
REFUSED = {
    # both framings, or one of them twice
    "CL and TE": (HOST + b"content-length: 6\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nG", 400),
    "TE and CL": (
        HOST + b"transfer-encoding: chunked\r\n" + LENGTH + b"\r\n" + WHOLE_CHUNK + b"0\r\n\r\n",
        400,
    ),
    "two equal CL": (HOST + LENGTH * 2 + b"\r\n" + BODY, 400),
    "two different CL": (HOST + LENGTH + b"content-length: 0\r\n\r\n" + BODY, 400),
    "two TE": (HOST + b"transfer-encoding: chunked\r\n" * 2 + b"\r\n" + WHOLE_CHUNK + b"0\r\n\r\n", 400),
    "TE identity, then chunked": (
        HOST + b"transfer-encoding: identity\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    # lengths that are not plain numbers
    "CL with plus": (HOST + b"content-length: +27\r\n\r\n" + BODY, 400),
    "CL with minus": (HOST + b"content-length: -1\r\n\r\n" + BODY, 400),
    "CL with inner space": (HOST + b"content-length: 2 7\r\n\r\n" + BODY, 400),
    "CL in hexadecimal": (HOST + b"content-length: 0x1b\r\n\r\n" + BODY, 400),
    "CL as a list": (HOST + b"content-length: 27, 27\r\n\r\n" + BODY, 400),
    "CL empty": (HOST + b"content-length: \r\n\r\n" + BODY, 400),
    "CL with an underscore": (HOST + b"content-length: 2_7\r\n\r\n" + BODY, 400),
    "CL larger than 64 bits": (HOST + b"content-length: 18446744073709551643\r\n\r\n" + BODY, 400),
    "CL in other digits": (HOST + b"content-length: \xc2\xb2\r\n\r\n" + BODY, 400),
    # codings that are not exactly "chunked"
    "TE chunked, identity": (
        HOST + b"transfer-encoding: chunked, identity\r\n\r\n" + WHOLE_CHUNK + b"0\r\n\r\n",
        400,
    ),
    "TE identity, chunked": (
        HOST + b"transfer-encoding: identity, chunked\r\n\r\n" + WHOLE_CHUNK + b"0\r\n\r\n",
        400,
    ),
    "TE gzip, chunked": (
        HOST + b"transfer-encoding: gzip, chunked\r\n\r\n" + WHOLE_CHUNK + b"0\r\n\r\n",
        400,
    ),
    "TE chunked twice in one": (
        HOST + b"transfer-encoding: chunked, chunked\r\n\r\n" + WHOLE_CHUNK + b"0\r\n\r\n",
        400,
    ),
    "TE xchunked": (HOST + b"transfer-encoding: xchunked\r\n\r\n" + WHOLE_CHUNK + b"0\r\n\r\n", 400),
    "TE chunkedx": (HOST + b"transfer-encoding: chunkedx\r\n\r\n" + WHOLE_CHUNK + b"0\r\n\r\n", 400),
    "TE identity": (HOST + b"transfer-encoding: identity\r\n\r\n", 400),
    "TE quoted": (HOST + b'transfer-encoding: "chunked"\r\n\r\n' + WHOLE_CHUNK + b"0\r\n\r\n", 400),
    "TE with parameter": (HOST + b"transfer-encoding: chunked;a=b\r\n\r\n" + WHOLE_CHUNK + b"0\r\n\r\n", 400),
    "TE empty": (HOST + b"transfer-encoding: \r\n\r\n", 400),
    "TE with a trailing comma": (
        HOST + b"transfer-encoding: chunked,\r\n\r\n" + WHOLE_CHUNK + b"0\r\n\r\n",
        400,
    ),
    "TE with a vertical tab": (
        HOST + b"transfer-encoding: \x0bchunked\r\n\r\n" + WHOLE_CHUNK + b"0\r\n\r\n",
        400,
    ),
    "TE with a NUL": (HOST + b"transfer-encoding: chunked\0\r\n\r\n" + WHOLE_CHUNK + b"0\r\n\r\n", 400),
    "TE in HTTP/1.0": (
        b"POST /v1/chat/completions HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    # header lines
    "space before the colon": (
        HOST + b"transfer-encoding : chunked\r\n\r\n" + WHOLE_CHUNK + b"0\r\n\r\n",
        400,
    ),
    "tab before the colon": (
        HOST + b"transfer-encoding\t: chunked\r\n\r\n" + WHOLE_CHUNK + b"0\r\n\r\n",
        400,
    ),
    "space before the name": (LINE + b" host: x\r\n" + LENGTH + b"\r\n" + BODY, 400),
    "no name": (HOST + b": x\r\n" + LENGTH + b"\r\n" + BODY, 400),
    "no colon": (HOST + b"transfer-encoding\r\n" + LENGTH + b"\r\n" + BODY, 400),
    "NUL in a name": (HOST + b"a\0b: x\r\n" + LENGTH + b"\r\n" + BODY, 400),
    "NUL in a value": (HOST + b"a: x\0y\r\n" + LENGTH + b"\r\n" + BODY, 400),
    "obs-fold": (HOST + b"a: b\r\n transfer-encoding: chunked\r\n" + LENGTH + b"\r\n" + BODY, 400),
    "obs-fold of TE": (HOST + b"transfer-encoding:\r\n chunked\r\n\r\n" + WHOLE_CHUNK + b"0\r\n\r\n", 400),
    "bare LF": (LINE.replace(b"\r", b"") + b"host: x\n" + LENGTH.replace(b"\r", b"") + b"\n" + BODY, 400),
    "bare LF after one header": (HOST + b"a: b\n" + LENGTH + b"\r\n" + BODY, 400),
    "bare LF at the end": (HOST + LENGTH + b"\n" + BODY, 400),
    "bare CR": (HOST + b"a: b\rtransfer-encoding: chunked\r\n" + LENGTH + b"\r\n" + BODY, 400),
    "bare CR at the end": (HOST + LENGTH + b"\r\r\n" + BODY, 400),
    # chunks
    "chunk size negative": (CHUNKED + b"-1\r\n" + BODY, 400),
    "chunk size with plus": (CHUNKED + b"+1b\r\n" + BODY + b"\r\n0\r\n\r\n", 400),
    "chunk size with 0x": (CHUNKED + b"0x1b\r\n" + BODY + b"\r\n0\r\n\r\n", 400),
    "chunk size larger than 64 bits": (CHUNKED + b"1000000000000001b\r\n" + BODY + b"\r\n0\r\n\r\n", 400),
    "chunk size huge": (CHUNKED + b"f" * 16 + b"\r\n" + BODY + b"\r\n0\r\n\r\n" + b"x" * 2_000_000, 413),
    "chunk size not a number": (CHUNKED + b"xyz\r\n" + BODY + b"\r\n0\r\n\r\n", 400),
    "chunk size missing": (CHUNKED + b"\r\n" + BODY + b"\r\n0\r\n\r\n", 400),
    "space before a chunk size": (CHUNKED + b" 1b\r\n" + BODY + b"\r\n0\r\n\r\n", 400),
    "space after a chunk size": (CHUNKED + b"1b \r\n" + BODY + b"\r\n0\r\n\r\n", 400),
    "chunk size ended by LF": (CHUNKED + b"1b\n" + BODY + b"\r\n0\r\n\r\n", 400),
    "chunk ended by LF": (CHUNKED + b"1b\r\n" + BODY + b"\n0\r\n\r\n", 400),
    "chunk longer than it says": (CHUNKED + b"1a\r\n" + BODY + b"\r\n0\r\n\r\n", 400),
    "chunk shorter than it says": (CHUNKED + b"1c\r\n" + BODY + b"\r\n0\r\n\r\n", 400),
    "chunk without an end": (CHUNKED + b"1b\r\n" + BODY + b"0\r\n\r\n", 400),
    "LF in a chunk extension": (CHUNKED + b"1b;a\nb\r\n" + BODY + b"\r\n0\r\n\r\n", 400),
    "trailers ended by LF": (CHUNKED + WHOLE_CHUNK + b"0\r\n\n", 400),
    # lines
    "no host": (LINE + LENGTH + b"\r\n" + BODY, 400),
    "two hosts": (HOST + b"host: y\r\n" + LENGTH + b"\r\n" + BODY, 400),
    "space in the target": (b"GET /v1/models /x HTTP/1.1\r\nhost: x\r\n\r\n", 400),
    "tab in the line": (b"GET\t/health\tHTTP/1.1\r\nhost: x\r\n\r\n", 400),
    "authority-form": (b"GET evil.example:80 HTTP/1.1\r\nhost: x\r\n\r\n", 400),
    "CONNECT": (b"CONNECT evil.example:80 HTTP/1.1\r\nhost: x\r\n\r\n", 404),
    "an unknown method": (b"STEAL /health HTTP/1.1\r\nhost: x\r\n\r\n", 400),
    "HTTP/0.9": (b"GET /health\r\n\r\n", 400),
    "HTTP/0.9, said": (b"GET /health HTTP/0.9\r\n\r\n", 400),
    "HTTP/1.2": (b"GET /health HTTP/1.2\r\nhost: x\r\n\r\n", 400),
    "HTTP/2.0": (b"GET /health HTTP/2.0\r\nhost: x\r\n\r\n", 400),
    "HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "http in lower case": (b"GET /health http/1.1\r\nhost: x\r\n\r\n", 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    "a length in a trailer": (CHUNKED + WHOLE_CHUNK + b"0\r\ncontent-length: 5\r\n\r\n", 400),
    "a response": (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", 400),
}

#: What is odd and allowed: the bytes, and how many answers come in all (with the two hidden requests, if they count).
ALLOWED = {
    "TE in capitals": (HOST + b"Transfer-Encoding: Chunked\r\n\r\n" + WHOLE_CHUNK + b"0\r\n\r\n", 3),
    "TE with trailing space": (HOST + b"transfer-encoding: chunked \r\n\r\n" + WHOLE_CHUNK + b"0\r\n\r\n", 3),
    "CL with spaces around": (HOST + b"content-length:  27 \r\n\r\n" + BODY, 3),
    "CL with zeros": (HOST + b"content-length: 00027\r\n\r\n" + BODY, 3),
    "chunk extension": (CHUNKED + b"1b;a=b\r\n" + BODY + b"\r\n0;c\r\n\r\n", 3),
    "chunk size in capitals, with zeros": (CHUNKED + b"0001B\r\n" + BODY + b"\r\n0\r\n\r\n", 3),
    "trailers": (CHUNKED + WHOLE_CHUNK + b"0\r\nhost: y\r\nauthorization: y\r\n\r\n", 3),
    "blank lines before": (b"\r\n\r\n" + post(BODY), 3),
    "absolute-form": (post(BODY, path=b"http://evil.example/v1/chat/completions"), 3),
    "an offer of HTTP/2, declined": (
        post(BODY, b"connection: upgrade, http2-settings", b"upgrade: h2c", b"http2-settings: AAMAAABk"),
        3,
    ),
    "connection: close": (post(BODY, b"connection: close"), 1),
    "HTTP/1.0": (b"POST /v1/chat/completions HTTP/1.0\r\n" + LENGTH + b"\r\n" + BODY, 1),
}


@pytest.mark.parametrize("step", [0, 1], ids=["at once", "byte by byte"])
@pytest.mark.parametrize(("sent", "status"), REFUSED.values(), ids=REFUSED)
async def test_refused(sent: bytes, status: int, step: int, caplog: pytest.LogCaptureFixture) -> None:
    if step and len(sent) > 10_000:
        return
    async with ScriptedUpstream() as up, gateway(up, server={"max_body_bytes": 1_000_000}) as gw:
        async with connected(gw.port) as (reader, writer):
            if step:
                for byte in sent:
                    writer.write(bytes([byte]))
                    await writer.drain()
                writer.write(HIDDEN)
            else:
                writer.write(sent + HIDDEN)
            answer = await until_closed(reader)
        assert len(STATUS_LINE.findall(answer)) == 1
        assert answer.startswith(b"HTTP/1.1 %d " % status)
        assert b"\r\nconnection: close\r\n" in answer
        assert up.requests == []
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.parametrize(("sent", "answers"), ALLOWED.values(), ids=ALLOWED)
async def test_allowed(sent: bytes, answers: int) -> None:
    async with ScriptedUpstream() as up, gateway(up) as gw:
        async with connected(gw.port) as (reader, writer):
            writer.write(
                sent + HIDDEN.replace(b"GET /health HTTP/1.1", b"GET /health HTTP/1.1\r\nconnection: close")
            )
            answer = await until_closed(reader)
        assert STATUS_LINE.findall(answer) == [b"200"] * answers
        assert up.requests[0].body == BODY
        assert len(up.requests) == (2 if answers == 3 else 1)


@pytest.mark.parametrize(
    "request_bytes",
    [
        post(BODY, path=b"http://evil.example/v1/chat/completions"),
        post(BODY, path=b"http://evil.example:1/v1/chat/completions?base_url=http://evil.example"),
        post(BODY).replace(b"host: x", b"host: evil.example"),
        *(
            post(BODY, header + b"http://evil.example/v1")
            for header in (
                b"x-forwarded-host: ",
                b"x-portkey-custom-host: ",
                b"x-portkey-config: ",
                b"forwarded: host=",
                b"x-original-url: ",
                b"x-base-url: ",
                b"openai-base-url: ",
                b"x-rewrite-url: ",
                b"x-hasten-engine: ",
                b"helicone-target-url: ",
            )
        ),
    ],
)
async def test_no_client_chooses_the_engines_address(request_bytes: bytes) -> None:
    async with ScriptedUpstream() as up, gateway(up) as gw, connected(gw.port) as (reader, writer):
        writer.write(request_bytes)
        await reader.readuntil(b'"finish_reason"')
        (got,) = up.requests
        assert got.target == "/v1/chat/completions"
        assert got.headers["host"] == f"127.0.0.1:{up.port}"
        assert "evil" not in str(got)


async def test_only_what_is_known_goes_to_the_engine() -> None:
    """A client's headers, its key above all, are the gateway's."""
    lines = (b"authorization: Bearer sk-client", b"cookie: c=1", b"x-request-id: mine", b"user-agent: me")
    parent = b"traceparent: 00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01"
    async with ScriptedUpstream() as up, gateway(up) as gw, connected(gw.port) as (reader, writer):
        writer.write(post(BODY, *lines, parent))
        await reader.readuntil(b'"finish_reason"')
        assert set(up.requests[0].headers) == {
            "host",
            "content-type",
            "content-length",
            "accept-encoding",
            "user-agent",
            "x-request-id",
            "traceparent",
        }
        assert up.requests[0].headers["x-request-id"] == "mine"


@pytest.mark.parametrize("id", [b"a b", b"x" * 129, b"a\xff", b"<script>", b""])
async def test_a_request_id_that_is_not_plain_is_replaced(id: bytes) -> None:
    async with ScriptedUpstream() as up, gateway(up) as gw:
        answer = await gw.raw(post(BODY, b"connection: close", b"x-request-id: " + id))
        assert answer.startswith(b"HTTP/1.1 200")
        assert len(up.requests[0].headers["x-request-id"]) == 16


async def test_a_request_behind_a_refused_one_never_reaches_the_engine() -> None:
    """Not even of a client that stays after the refusal, and not in the same read."""
    async with ScriptedUpstream() as up, gateway(up) as gw, connected(gw.port) as (reader, writer):
        writer.write(LINE + LENGTH + b"\r\n" + BODY + HIDDEN)
        await eventually(lambda: not gw.worker.server.connections, 5)  # cut after it lingered
        assert STATUS_LINE.findall(await until_closed(reader)) == [b"400"]
        assert up.requests == []
