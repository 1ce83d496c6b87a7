"""Which answers are kept: all reasons against it, for whole answers and streams."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from hasten.cache.recording import refuse_stream, refuse_whole, usage_of
from hasten.settings import Cache
from hasten.types import Event, Reply, Request
from tests.cache.parts import chunks_of, request, stream_of

KEEP = Cache()
CALLS = [{"index": 0, "id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]


def said(finish: str | None = "stop", index: int = 0, **message: Any) -> dict[str, Any]:
    return {"index": index, "message": message, "finish_reason": finish}


def whole(answer: dict[str, Any], asked: Request | None = None, cache: Cache = KEEP) -> str | None:
    body = msgspec.json.encode(answer)
    event = msgspec.json.decode(body, type=Event)
    return refuse_whole(asked or request(), Reply(body=body, event=event), cache)


def streamed(answer: dict[str, Any], asked: Request | None = None, cache: Cache = KEEP) -> str | None:
    """Judge the stream that brings ``answer``: of each choice a piece of the message, then its end."""
    events = []
    for choice in answer["choices"]:
        part = {"index": choice["index"]}
        if "text" in choice:
            events.append({"choices": [{**part, "text": choice["text"]}]})
        else:
            events.append({"choices": [{**part, "delta": choice["message"]}]})
        if choice["finish_reason"] is not None:
            events.append({"choices": [{**part, "delta": {}, "finish_reason": choice["finish_reason"]}]})
    raw = stream_of(events)
    return refuse_stream(asked or request(stream=True), chunks_of(raw), len(raw), cache)


OK = said(content="a")
#: The choices, how many were wanted, and what is said of them: without and with ``tool_calls``.
JUDGED: dict[str, tuple[list[dict[str, Any]], int | None, str | None, str | None]] = {
    "complete": ([OK], None, None, None),
    "two of two": ([OK, said(index=1, content="b")], 2, None, None),
    "one of two": ([OK], 2, "incomplete", "incomplete"),
    "one of two unfinished": ([OK, said(None, 1, content="b")], 2, "incomplete", "incomplete"),
    "one of two filtered": (
        [OK, said("content_filter", 1, content="b")],
        2,
        "finish_content_filter",
        "finish_content_filter",
    ),
    "one of two empty": ([OK, said(index=1, content="")], 2, "empty", "empty"),
    "none": ([], None, "incomplete", "incomplete"),
    "cut": ([said("length", content="a")], None, "finish_length", "finish_length"),
    "filtered": (
        [said("content_filter", content="a")],
        None,
        "finish_content_filter",
        "finish_content_filter",
    ),
    "unfinished": ([said(None, content="a")], None, "incomplete", "incomplete"),
    "ended otherwise": ([said("error", content="a")], None, "incomplete", "incomplete"),
    "refused": ([said(content=None, refusal="no")], None, "refusal", "refusal"),
    "refused halfway": ([said(content="a", refusal="no")], None, "refusal", "refusal"),
    "empty": ([said(content="")], None, "empty", "empty"),
    "nothing": ([said()], None, "empty", "empty"),
    "thought only": ([said(reasoning_content="hm")], None, "empty", "empty"),
    "tool calls": ([said("tool_calls", tool_calls=CALLS)], None, "tool_calls", None),
    "tool calls that stop": ([said("stop", tool_calls=CALLS)], None, "tool_calls", None),
    "tool calls cut": ([said("length", tool_calls=CALLS)], None, "tool_calls", "finish_length"),
    "tool calls unfinished": ([said(None, tool_calls=CALLS)], None, "tool_calls", "finish_None"),
    "a function's call": ([said("function_call", content=None)], None, "tool_calls", None),
    "text": ([{"index": 0, "text": "a", "finish_reason": "stop"}], None, None, None),
    "no text": ([{"index": 0, "text": "", "finish_reason": "stop"}], None, "empty", "empty"),
}


@pytest.mark.parametrize("name", JUDGED)
def test_choices(name: str) -> None:
    choices, n, plain, tools = JUDGED[name]
    fields: dict[str, Any] = {} if n is None else {"n": n}
    answer = {"choices": choices}
    allowed = Cache(tool_calls=True)
    for judge in (whole, streamed):
        assert judge(answer, request(**fields)) == plain
        assert judge(answer, request(**fields), allowed) == tools


def test_what_is_no_answer() -> None:
    body = msgspec.json.encode({"choices": [OK]})
    event = msgspec.json.decode(body, type=Event)
    asked = request()
    assert refuse_whole(asked, Reply(404, body, event=event), KEEP) == "not_an_answer"
    assert (
        refuse_whole(asked, Reply(body=body, content_type=b"text/html", event=event), KEEP) == "not_an_answer"
    )
    encoded = Reply(body=body, event=event)
    encoded.headers = [(b"content-encoding", b"gzip")]
    assert refuse_whole(asked, encoded, KEEP) == "encoded"
    assert refuse_whole(asked, Reply(body=b"[]", event=None), KEEP) == "incomplete"
    assert whole({"choices": [OK], "error": {"message": "x"}}) == "incomplete"


def test_an_error_within_a_stream() -> None:
    events = [{"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": "stop"}]}]
    raw = stream_of([*events, {"error": {"message": "overloaded"}}])
    assert refuse_stream(request(stream=True), chunks_of(raw), len(raw), KEEP) == "error"


@pytest.mark.parametrize("judge", [whole, streamed])
def test_a_fallbacks_answer_and_one_that_is_too_large(judge: Any) -> None:
    asked = request()
    assert judge({"choices": [OK]}, asked, Cache(max_entry_bytes=10)) == "too_large"
    for route in ("fallback", "kept: strong failed"):
        asked.trace.route = route
        assert judge({"choices": [OK]}, asked) == "fallback"


def test_embeddings() -> None:
    asked = request("embeddings")
    assert whole({"object": "list", "data": [{"object": "embedding", "embedding": [0.1]}]}, asked) is None
    assert whole({"object": "list", "data": []}, asked) == "incomplete"
    assert whole({"error": {"param": "embedding", "message": "no"}}, asked) == "incomplete"


def test_comments_and_unknown_shapes_do_not_judge() -> None:
    raw = stream_of([{"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": "stop"}]}])
    chunks = chunks_of(b": ping\n\n" + raw)
    assert refuse_stream(request(stream=True), chunks, len(raw), KEEP) is None


def test_the_last_usage_counts() -> None:
    events: list[dict[str, Any]] = [{"usage": {"prompt_tokens": i}} for i in (1, 2)]
    last = usage_of(chunks_of(stream_of([*events, {"choices": []}])))
    assert last is not None
    assert last.usage is not None
    assert last.usage.prompt_tokens == 2
    assert usage_of([]) is None
