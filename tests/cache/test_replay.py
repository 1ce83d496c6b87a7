"""A stored answer in the other form says the same; in its own form it is the same, byte for byte."""

from __future__ import annotations

import copy
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from msgspec import structs

from hasten.cache.replay import replay
from tests.cache.parts import chunks_of, drain, entry, events_of, request, stream_of

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
TEXT = st.text(max_size=20)
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
UNKNOWN = st.dictionaries(st.sampled_from(["x_a", "x_b", "provider"]), JSON.filter(lambda v: v is not None))
CALLS = st.lists(
    st.fixed_dictionaries(
        {
            "id": st.text("abc", min_size=1, max_size=4),
            "type": st.just("function"),
            "function": st.fixed_dictionaries({"name": st.text("fgh", min_size=1), "arguments": TEXT}),
        }
    ),
    min_size=1,
    max_size=3,
)
TOKEN = st.fixed_dictionaries({"token": TEXT, "logprob": st.floats(-9, 0), "top_logprobs": st.just([])})


@st.composite
def choices(draw: st.DrawFn, index: int) -> dict[str, Any]:
    calls = draw(st.none() | CALLS)
    message: dict[str, Any] = {"role": "assistant", "content": draw(TEXT) if calls is None else None}
    if calls is not None:
        message["tool_calls"] = calls
    if draw(st.booleans()):
        message["reasoning_content"] = draw(TEXT)
    made: dict[str, Any] = {"index": index, "message": message}
    made["finish_reason"] = "stop" if calls is None else "tool_calls"
    if draw(st.booleans()):
        made["logprobs"] = {"content": draw(st.lists(TOKEN, max_size=4)), "refusal": None}
    if draw(st.booleans()):
        made["stop_reason"] = draw(st.sampled_from(["x", 5]))
    return made


@st.composite
def answers(draw: st.DrawFn) -> dict[str, Any]:
    count = draw(st.integers(1, 3))
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1700000000,
        "model": "big",
        **draw(UNKNOWN),
        "choices": [draw(choices(i)) for i in range(count)],
        "usage": USAGE,
    }


def whole_of(body: bytes, streamed: bool, kind: str = "chat") -> Any:
    reply = replay(entry(body, streamed), request(kind))
    return None if reply is None else msgspec.json.decode(reply.body)


def stream_from(
    body: bytes, streamed: bool, usage: bool, kind: str = "chat", counted: bool = False
) -> bytes | None:
    """Return the replay to who asks for token counts or not; ``counted``: whether the entry's request did."""
    asked = request(kind, stream=True, stream_options={"include_usage": usage})
    reply = replay(entry(body, streamed, usage=counted), asked)
    return None if reply is None else drain(reply).raw


@hypothesis_settings(max_examples=120, deadline=None)
@given(answers())
def test_whole_to_stream_to_whole(answer: dict[str, Any]) -> None:
    body = msgspec.json.encode(answer)
    raw = stream_from(body, False, usage=True)
    assert raw is not None
    assert raw.endswith(b"data: [DONE]\n\n")
    assert {event["object"] for event in events_of(raw)} == {"chat.completion.chunk"}
    assert whole_of(raw, True) == answer
    without = stream_from(body, False, usage=False)
    assert without is not None
    assert whole_of(without, True) == {k: v for k, v in answer.items() if k != "usage"}


def pieces(draw: st.DrawFn, text: str) -> list[str]:
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=3)))
    return [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]


def parts_of(draw: st.DrawFn, choice: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a choice's deltas, as an engine would send them."""
    said = choice["message"]
    made: list[dict[str, Any]] = [{"delta": {"role": "assistant", "content": ""}, "logprobs": None}]
    if said["content"] is None:
        made[0]["delta"]["content"] = None
    for name in ("reasoning_content", "content"):
        if said.get(name) is not None:
            made += [{"delta": {name: piece}} for piece in pieces(draw, said[name])]
    for token in (choice.get("logprobs") or {}).get("content", ()):
        made.append({"delta": {}, "logprobs": {"content": [token], "refusal": None}})
    for i, call in enumerate(said.get("tool_calls", ())):
        function = call["function"]
        head = {"index": i, **call, "function": {"name": function["name"], "arguments": ""}}
        made.append({"delta": {"tool_calls": [head]}})
        for piece in pieces(draw, function["arguments"]):
            made.append({"delta": {"tool_calls": [{"index": i, "function": {"arguments": piece}}]}})
    last = {k: v for k, v in choice.items() if k not in ("index", "message", "logprobs")}
    made.append({"delta": {}, **last})
    return [{"index": choice["index"], "finish_reason": None, **part} for part in made]


@st.composite
def streams(draw: st.DrawFn) -> tuple[dict[str, Any], bytes]:
    """Return an answer and a stream that says the same, its choices in turns."""
    answer = draw(answers())
    for choice in answer["choices"]:
        if not (choice.get("logprobs") or {}).get("content"):
            choice["logprobs"] = None
    common = {k: v for k, v in answer.items() if k not in ("choices", "usage")}
    common["object"] = "chat.completion.chunk"
    waiting = [parts_of(draw, choice) for choice in answer["choices"]]
    events = []
    while waiting:
        turn = draw(st.integers(0, len(waiting) - 1))
        events.append({**common, "choices": [waiting[turn].pop(0)]})
        waiting = [parts for parts in waiting if parts]
    events.append({**common, "choices": [], "usage": answer["usage"]})
    return answer, stream_of(events)


@hypothesis_settings(max_examples=120, deadline=None)
@given(streams())
def test_stream_to_whole_to_stream(made: tuple[dict[str, Any], bytes]) -> None:
    answer, raw = made
    whole = whole_of(raw, True)
    assert whole == answer
    again = stream_from(msgspec.json.encode(whole), False, usage=True)
    assert again is not None
    assert whole_of(again, True) == answer


@hypothesis_settings(max_examples=100, deadline=None)
@given(streams(), st.booleans())
def test_the_same_form_is_the_same_bytes(made: tuple[dict[str, Any], bytes], usage: bool) -> None:
    answer, raw = made
    assert stream_from(raw, True, usage=True) == raw
    bare = stream_of([e for e in events_of(raw) if e["choices"]])
    assert stream_from(bare, True, usage=False) == bare
    assert stream_from(raw, True, usage=False, counted=True) == bare
    body = msgspec.json.encode(answer)
    reply = replay(entry(body), request())
    assert reply is not None
    assert reply.body == body


def test_text_completions_both_ways() -> None:
    logprobs = {"tokens": ["a"], "token_logprobs": [-1.0], "top_logprobs": None, "text_offset": [0]}
    choice = {"index": 0, "text": "ab", "finish_reason": "stop", "logprobs": logprobs}
    answer = {"id": "1", "object": "text_completion", "choices": [choice], "usage": USAGE}
    raw = stream_from(msgspec.json.encode(answer), False, True, "completions")
    assert raw is not None
    assert whole_of(raw, True, "completions") == answer
    two = [copy.deepcopy({**choice, "finish_reason": None}), copy.deepcopy(choice)]
    joined = whole_of(stream_of([{"object": "text_completion", "choices": [c]} for c in two]), True)
    assert joined["choices"][0]["text"] == "abab"
    assert joined["choices"][0]["logprobs"]["tokens"] == ["a", "a"]


# -- usage


@pytest.mark.parametrize("asked", [True, False])
@pytest.mark.parametrize("sent", [True, False])
@pytest.mark.parametrize("kind", ["chat", "messages"])
def test_who_asks_in_the_same_way_gets_the_same(asked: bool, sent: bool, kind: str) -> None:
    raw = stream_of([{"choices": [], "usage": USAGE}] * sent)
    counted = asked or kind == "messages"  # that format always asks
    assert stream_from(raw, True, usage=asked, kind=kind, counted=counted) == raw


@pytest.mark.parametrize("end", ["data: [DONE]\n\n", "data:[DONE]\n\n", ""])
def test_counts_that_are_kept_beside_a_stream_come_in_their_place(end: str) -> None:
    text = b'data: {"choices":[{"index":0,"delta":{"content":"data: [DONE]"},"finish_reason":"stop"}]}\n\n'
    counts = b'data: {"choices":[],"usage":%b}\n\n' % msgspec.json.encode(USAGE)
    kept = structs.replace(entry(text + end.encode(), True), counts=counts)
    for asked, told in ((False, b""), (True, counts)):
        reply = replay(kept, request(stream=True, stream_options={"include_usage": asked}))
        assert reply is not None
        assert drain(reply).raw == text + told + end.encode()
    whole = replay(kept, request())
    assert whole is not None
    assert msgspec.json.decode(whole.body)["usage"] == USAGE


@pytest.mark.parametrize("space", ["", " "])
def test_a_stream_without_usage_never_answers_who_wants_it(space: str) -> None:
    last = b'{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]'
    inside = b',"x_groq":{"id":"1","usage":%b{"prompt_tokens":3}}}' % space.encode()
    text = b'{"choices":[{"index":0,"delta":{"content":"\\"usage\\":{\\"prompt_tokens\\":3}"}}]}'
    raw = b"data: %b\n\ndata: %b%b\n\ndata: [DONE]\n\n" % (text, last, inside)
    assert stream_from(raw, True, usage=True) is None
    for counted in (True, False):
        assert stream_from(raw, True, usage=False, counted=counted) == raw
    assert stream_from(b'{"choices":[{"index":0,"message":{},"finish_reason":"stop"}]}', False, True) is None


# -- Anthropic


def test_anthropic_clients_get_decoded_events() -> None:
    answer = {
        "choices": [{"index": 0, "message": {"content": "Hi"}, "finish_reason": "stop"}],
        "usage": USAGE,
    }
    body = msgspec.json.encode(answer)
    raw = stream_from(body, False, usage=True)
    assert raw is not None
    for stored, streamed in ((body, False), (raw, True)):
        reply = replay(
            entry(stored, streamed),
            request("messages", stream=True, stream_options={"include_usage": True}),
        )
        assert reply is not None
        got = drain(reply).chunks
        want = chunks_of(raw)
        assert [(c.raw, c.done, c.event) for c in got] == [(c.raw, c.done, c.event) for c in want]
        whole = replay(entry(stored, streamed), request("messages"))
        assert whole is not None
        assert whole.event is not None
        assert whole.event.choices is not None
        assert whole.event.choices[0].message is not None
        assert whole.event.choices[0].message.content == "Hi"
        assert whole.event.usage is not None


# -- shapes that are not known


def delta(**fields: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": fields, "finish_reason": None}]}


UNCLEAR = {
    "parts that may be pieces": [delta(audio={"data": "a"}), delta(audio={"data": "b"})],
    "unknown text twice": [delta(kind="text", content="a"), delta(kind="text", content="b")],
    "content of parts": [delta(content=[{"type": "text", "text": "a"}]), delta(content="b")],
    "a call without its place": [delta(tool_calls=[{"id": "1", "function": {"arguments": "{}"}}])],
    "a call far away": [delta(tool_calls=[{"index": 10**9, "function": {"arguments": "{}"}}])],
    "a call before the first": [delta(tool_calls=[{"index": -1, "function": {"arguments": "{}"}}])],
    "arguments as an object": [delta(tool_calls=[{"index": 0, "function": {"arguments": {"a": 1}}}])],
    "a custom tool in pieces": [
        delta(tool_calls=[{"index": 0, "custom": {"name": "f", "input": "a"}}]),
        delta(tool_calls=[{"index": 0, "custom": {"input": "b"}}]),
    ],
    "token ids in pieces": [{"choices": [{"index": 0, "token_ids": [i], "delta": {}}]} for i in (1, 2)],
    "a choice without its place": [{"choices": [{"delta": {"content": "a"}}]}],
    "choices that are none": [{"choices": "abc"}],
    "a choice that is none": [{"choices": [5]}],
    "no event": [],
}


@pytest.mark.parametrize("name", UNCLEAR)
def test_what_cannot_be_told_exactly_is_no_hit(name: str) -> None:
    if name == "no event":
        assert whole_of(b"data: [DONE]\n\n", True) in (None, {"object": "text_completion", "choices": []})
        return
    end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    assert whole_of(stream_of([*UNCLEAR[name], end]), True) is None


def test_fields_that_come_late_or_empty_at_first_are_kept() -> None:
    first = {"id": "", "object": "", "created": 0, "choices": [], "prompt_filter_results": [1]}
    second = {**delta(content="a", tool_calls=[]), "id": "7", "created": 9, "model": "big"}
    last = {**delta(), "id": "7", "timings": {"ms": 3}, "usage": None}
    whole = whole_of(stream_of([first, second, last]), True)
    assert (whole["id"], whole["created"], whole["model"]) == ("7", 9, "big")
    assert (whole["timings"], whole["prompt_filter_results"]) == ({"ms": 3}, [1])
    assert "tool_calls" not in whole["choices"][0]["message"]


BODIES = st.binary(max_size=60) | st.one_of(
    JSON.map(msgspec.json.encode),
    st.lists(st.fixed_dictionaries({"choices": st.lists(JSON, max_size=2), "usage": JSON}), max_size=3).map(
        stream_of
    ),
    st.lists(st.builds(delta, tool_calls=JSON, content=JSON, x=JSON), max_size=3).map(stream_of),
    st.fixed_dictionaries({"choices": st.lists(st.fixed_dictionaries({"message": JSON}), max_size=2)}).map(
        msgspec.json.encode
    ),
)


@hypothesis_settings(max_examples=400, deadline=None)
@given(
    BODIES, st.booleans(), st.booleans(), st.booleans(), st.sampled_from(["chat", "messages", "completions"])
)
def test_no_stored_bytes_raise(body: bytes, streamed: bool, stream: bool, usage: bool, kind: str) -> None:
    asked = request(kind, stream=stream, stream_options={"include_usage": usage})
    reply = replay(entry(body, streamed), asked)
    if reply is not None and reply.stream is not None:
        drain(reply)


def test_deep_or_huge_answers_raise_nothing() -> None:
    deep = b'{"choices":[{"index":0,"message":' + b"[" * 100_000 + b"]" * 100_000 + b"}]}"
    huge = b'{"x":%b,"choices":[{"index":0,"message":{"content":"a"},"finish_reason":"stop"}]}' % (b"9" * 400)
    for body in (deep, huge, huge.replace(b"9" * 400, b"1e999")):
        for kind in ("chat", "messages"):
            for stream in (False, True):
                replay(entry(body), request(kind, stream=stream))
                replay(entry(b"data: %b\n\n" % body, True), request(kind, stream=stream))
