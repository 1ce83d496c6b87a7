"""Server-sent events: the same events however the bytes are cut, and as a browser would read them."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hasten.engines.sse import EventSplitter, data_of
from hasten.errors import EngineProtocol
from hasten.testing import Script, ScriptedUpstream, chat_chunk
from tests.gateway import gateway
from tests.sockets import STREAM_HEAD, chunk

BOM = b"\xef\xbb\xbf"


def split(*pieces: bytes) -> list[bytes]:
    """Return all events, the one that was never ended included."""
    splitter = EventSplitter()
    events = [event for piece in pieces for event in splitter.feed(piece)]
    rest = splitter.rest()
    return [*events, rest] if rest.strip() else events


def reference(stream: bytes) -> list[bytes]:
    """Return the data of each event, by the words of WHATWG HTML 9.2.6; the unended last one, too."""
    stream = stream.removeprefix(BOM)
    found: list[bytes] = []
    data: list[bytes] = []
    for line in [*stream.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n"), b""]:
        if not line:
            if data:
                found.append(b"\n".join(data))
            data = []
        elif line == b"data" or line.startswith(b"data:"):
            value = line[5:]
            data.append(value.removeprefix(b" "))
    return found


lines = st.sampled_from(
    [
        b"data: x",
        b"data:y",
        b"data:  z",
        b"data",
        b"data:",
        b": comment",
        b"event: e",
        b"id: 1",
        b"",
        b"",
        "data: ü€😀".encode(),
    ]
)
ends = st.sampled_from([b"\n", b"\r\n", b"\r"])
bodies = st.tuples(st.sampled_from([b"", BOM]), st.lists(st.tuples(lines, ends), max_size=30)).map(
    lambda made: made[0] + b"".join(line + end for line, end in made[1])
)


@st.composite
def cut_bodies(draw: st.DrawFn) -> tuple[bytes, list[bytes]]:
    body = draw(bodies | st.binary(max_size=60))
    cuts = sorted(draw(st.sets(st.integers(0, len(body)), max_size=12)) | {0, len(body)})
    return body, [body[a:b] for a, b in pairwise(cuts)]


@given(cut_bodies())
def test_events_do_not_depend_on_the_cuts(made: tuple[bytes, list[bytes]]) -> None:
    body, pieces = made
    whole = split(body)
    assert split(*pieces) == whole
    assert split(*(body[i : i + 1] for i in range(len(body)))) == whole


@given(bodies)
def test_events_are_those_of_the_standard(body: bytes) -> None:
    ours = [data for event in split(body) if (data := data_of(event.rstrip(b"\r\n") + b"\n\n")) is not None]
    assert ours == reference(body)


def test_an_event_that_never_ends_is_refused() -> None:
    splitter = EventSplitter(limit=1000)
    for _ in range(10):
        assert splitter.feed(b"x" * 100) == []
    with pytest.raises(EngineProtocol, match="larger than 1000 bytes"):
        splitter.feed(b"x")


def test_looking_for_the_end_does_not_start_over() -> None:
    """A megabyte in small reads: as many looks as bytes, not their square."""
    splitter = EventSplitter()
    for _ in range(20_000):
        assert splitter.feed(b"x" * 50) == []
    (event,) = splitter.feed(b"\n\n")
    assert len(event) == 1_000_002


def said(text: str) -> str:
    events = [data for event in split(text.encode()) if (data := data_of(event)) is not None]
    assert events[-1] == b"[DONE]"
    parsed = [json.loads(event) for event in events[:-1]]
    return "".join(choice["delta"].get("content") or "" for event in parsed for choice in event["choices"])


HELLO = json.dumps(chat_chunk("Grüße, 世界 😀"), ensure_ascii=False).encode()
STOP = json.dumps(chat_chunk(None, "stop")).encode()
BIG = json.dumps(chat_chunk("y" * 1_000_000)).encode()

STREAMS = {
    "LF": b"data: %b\n\ndata: %b\n\ndata: [DONE]\n\n" % (HELLO, STOP),
    "CRLF": b"data: %b\r\n\r\ndata: %b\r\n\r\ndata: [DONE]\r\n\r\n" % (HELLO, STOP),
    "CR": b"data: %b\r\rdata: %b\r\rdata: [DONE]\r\r" % (HELLO, STOP),
    "no space": b"data:%b\n\ndata:%b\n\ndata:[DONE]\n\n" % (HELLO, STOP),
    "BOM": BOM + b"data: %b\n\ndata: %b\n\ndata: [DONE]\n\n" % (HELLO, STOP),
    "comments": b": hi\n\n: processing\ndata: %b\n\n:\n\ndata: %b\n\ndata: [DONE]\n\n" % (HELLO, STOP),
    "names and ids": b"event: x\nid: 1\nretry: 5\ndata: %b\n\ndata: %b\n\ndata: [DONE]\n\n" % (HELLO, STOP),
    "data in two lines": b'data: {"choices":\ndata: [{"index":0,"delta":{"content":"Gr\xc3\xbc\xc3\x9fe, '
    b'\xe4\xb8\x96\xe7\x95\x8c \xf0\x9f\x98\x80"}}]}\n\ndata: %b\n\ndata: [DONE]\n\n' % STOP,
    "missing last blank line": b"data: %b\n\ndata: %b\n\ndata: [DONE]" % (HELLO, STOP),
    "last line without its blank one": b"data: %b\n\ndata: %b\n\ndata: [DONE]\n" % (HELLO, STOP),
}


@pytest.mark.parametrize("step", [1, 7, 10_000])
@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS)
async def test_through_the_gateway(stream: bytes, step: int) -> None:
    body = b"".join(chunk(stream[i : i + step]) for i in range(0, len(stream), step)) + b"0\r\n\r\n"
    script = Script(raw=STREAM_HEAD + body, split=step if step < 10_000 else 0)
    async with ScriptedUpstream(script) as up, gateway(up) as gw:
        reply = await gw.chat(stream=True)
        assert said(reply.text) == "Grüße, 世界 😀"


async def test_an_event_of_a_megabyte() -> None:
    script = Script(events=(BIG.decode(), STOP.decode(), "[DONE]"), split=50_000)
    async with ScriptedUpstream(script) as up, gateway(up) as gw:
        assert said((await gw.chat(stream=True)).text) == "y" * 1_000_000
