"""What the tests of the cache's parts share: settings, requests, answers, without a socket."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec

from hasten import config
from hasten.cache.entry import Entry
from hasten.cache.replay import data_of
from hasten.errors import HastenError
from hasten.fields import ChatFields, CompletionFields, EmbeddingFields, Fields
from hasten.settings import Settings
from hasten.trace import Trace
from hasten.types import Chunk, Event, Reply, Request

TREE: dict[str, Any] = {
    "engines": {"e": {"kind": "openai", "base_url": "http://127.0.0.1:1/v1"}},
    "models": {"m": {"engines": ["e"]}, "other": {"engines": ["e"]}},
    "tenants": {"acme": {"keys": ["a" * 20]}, "beta": {"keys": ["b" * 20]}},
}
KINDS: dict[str, type[Fields]] = {
    "chat": ChatFields,
    "messages": ChatFields,
    "completions": CompletionFields,
    "embeddings": EmbeddingFields,
}


def settings(**cache: Any) -> Settings:
    return config.build({**TREE, "cache": {"semantic": False, **cache}}, environ={})


def request(
    kind: str = "chat", tenant: str = "", headers: dict[bytes, bytes] | None = None, **fields: Any
) -> Request:
    """Return a request of the endpoint ``kind`` (``messages``: a chat that came in Anthropic's format)."""
    default: dict[str, dict[str, Any]] = {"completions": {"prompt": "x"}, "embeddings": {"input": "x"}}
    told = default.get(kind) or {"messages": [{"role": "user", "content": "What is the capital of France?"}]}
    body = msgspec.json.encode({"model": "m", **told, **fields})
    trace = Trace()
    trace.endpoint, trace.tenant, trace.model = kind, tenant, "m"
    trace.engine, trace.provider, trace.served_model = "e", "openai", "m"
    decoded = msgspec.json.decode(body, type=KINDS[kind])
    return Request("chat" if kind == "messages" else kind, decoded, body, trace, headers)


def entry(body: bytes, streamed: bool = False, **changes: Any) -> Entry:
    fields: dict[str, Any] = {
        "key": b"k",
        "tenant": "",
        "model": "m",
        "engine": "e",
        "provider": "p",
        "streamed": streamed,
        "body": body,
        "content_type": b"text/event-stream" if streamed else b"application/json",
        "created": 0.0,
        "expires": 2e9,
        "stale_until": 2e9,
        "finish_reason": "stop",
    }
    return Entry(**(fields | changes))


def events_of(raw: bytes) -> list[dict[str, Any]]:
    """Return the decoded events of a stream's bytes, without ``[DONE]``."""
    datas = [data_of(event) for event in raw.split(b"\n\n")]
    return [msgspec.json.decode(data) for data in datas if data.startswith(b"{")]


def stream_of(events: Sequence[dict[str, Any]]) -> bytes:
    return b"".join(b"data: %b\n\n" % msgspec.json.encode(e) for e in events) + b"data: [DONE]\n\n"


def chunks_of(raw: bytes) -> list[Chunk]:
    """Return a stream's bytes as the chunks that an engine's connection makes of them."""
    made = []
    for event in raw.split(b"\n\n")[:-1]:
        data = data_of(event)
        known = msgspec.json.decode(data, type=Event) if data.startswith(b"{") else None
        made.append(Chunk(event + b"\n\n", known, 0.0, data == b"[DONE]"))
    return made


class Sink:
    """Takes a stream and keeps it."""

    def __init__(self) -> None:
        self.chunks: list[Chunk] = []
        self.ended = False
        self.error: HastenError | None = None

    def on_chunk(self, chunk: Chunk) -> None:
        assert not self.ended
        self.chunks.append(chunk)

    def on_end(self, error: HastenError | None) -> None:
        assert not self.ended
        self.ended, self.error = True, error

    @property
    def raw(self) -> bytes:
        return b"".join(chunk.raw for chunk in self.chunks)


def drain(reply: Reply) -> Sink:
    """Return all of a complete stream."""
    assert reply.stream is not None
    sink = Sink()
    reply.stream.attach(sink)
    assert sink.ended
    return sink


class Counts:
    """Counts as the metrics would: by name and labels."""

    def __init__(self) -> None:
        self.seen: Counter[tuple[str, ...]] = Counter()

    def __call__(self, name: str, labels: tuple[str, ...], amount: float) -> None:
        self.seen[name, *labels] += int(amount) if amount == int(amount) else 1
