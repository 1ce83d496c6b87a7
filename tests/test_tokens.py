"""Estimated tokens: the same for the same text however it comes, near to what vocabularies count, bounded in time."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hasten.accept.openai import OpenAIWire
from hasten.testing import Script, ScriptedUpstream, chat_chunk
from hasten.tokens import BLOCK, CALL, IMAGE, MESSAGE, REPLY, Said, count, features, fill, prompt
from hasten.trace import Trace
from hasten.types import Event, Request, Usage
from tests.gateway import Gateway, gateway

ENGLISH = "The committee met on Tuesday and agreed, after some debate, to postpone the vote until October. "
decode = msgspec.json.Decoder(Event).decode


def request_of(endpoint: str = "chat", **fields: Any) -> Request:
    body = msgspec.json.encode({"model": "m", **fields})
    return OpenAIWire(endpoint).decode(body, Trace(), {}, 64)


def event(**choice: Any) -> Event:
    return decode(msgspec.json.encode({"choices": [{"index": 0, **choice}]}))


@pytest.mark.parametrize(
    ("text", "tokens"),  # by OpenAI's o200k_base
    [
        ("", 0),
        ("a", 1),
        (ENGLISH, 18),
        ("Ich habe gestern mit meiner Schwester über den Umzug nach Hamburg gesprochen.", 16),
        ("def add(a: int, b: int) -> int:\n    return a + b\n", 19),
        ('{"id": 17, "name": "Ada", "tags": ["x", "y"], "active": true}', 24),
        ("東京は日本の首都です。", 7),
        ("Москва является столицей России.", 8),
    ],
)
def test_it_is_near_to_what_a_vocabulary_counts(text: str, tokens: int) -> None:
    assert count(text) == pytest.approx(tokens, rel=0.3, abs=1)


@given(st.text(max_size=200))
def test_any_text_has_a_number(text: str) -> None:
    assert count(text) >= bool(text)
    assert min(features(text)) >= 0


def said_in_pieces(text: str, cuts: list[int]) -> Said:
    places = sorted(cut % (len(text) + 1) for cut in cuts)
    said = Said()
    for start, end in zip([0, *places], [*places, len(text)], strict=True):
        said.note(event(delta={"content": text[start:end]}), 100)
    return said


@given(st.text(max_size=300), st.lists(st.integers(0, 1000), max_size=8))
def test_pieces_make_no_difference(text: str, cuts: list[int]) -> None:
    assert said_in_pieces(text, cuts).tokens == Said([event(message={"content": text})]).tokens == count(text)


@pytest.mark.parametrize("size", [BLOCK - 1, BLOCK, BLOCK + 1, 5 * BLOCK + 3])
def test_pieces_make_no_difference_to_a_long_text(size: int) -> None:
    text = (ENGLISH * (size // len(ENGLISH) + 1))[:size]
    whole = Said([event(message={"content": text})]).tokens
    assert said_in_pieces(text, [*range(0, size, 997)]).tokens == whole
    assert whole == pytest.approx(count(ENGLISH) * size / len(ENGLISH), rel=0.1)


def test_what_waits_to_be_heard_is_bounded() -> None:
    said = Said()
    for _ in range(1000):
        said.note(event(delta={"content": ENGLISH}), 1000)
    assert len(said._events) <= 65
    assert said.tokens == Said([event(message={"content": ENGLISH * 1000})]).tokens


def test_choices_thoughts_and_calls_are_counted_for_themselves() -> None:
    def call(**function: str) -> list[dict[str, Any]]:
        return [{"index": 0, "function": function}]

    streamed = [
        event(delta={"role": "assistant", "content": "", "reasoning_content": "Let me"}),
        event(index=1, delta={"content": "Sec"}),
        event(delta={"reasoning_content": " think."}),
        event(delta={"content": "Fir"}),
        event(index=1, delta={"content": "ond"}),
        event(delta={"content": "st"}),
        event(delta={"tool_calls": call(name="look_up", arguments="")}),
        event(delta={"tool_calls": call(arguments='{"a":')}),
        event(delta={"tool_calls": call(arguments=" 17}")}),
    ]
    first = {
        "content": "First",
        "reasoning_content": "Let me think.",
        "tool_calls": [{"id": "x", "function": {"name": "look_up", "arguments": '{"a": 17}'}}],
    }
    choices = [{"index": 0, "message": first}, {"index": 1, "message": {"content": "Second"}}]
    whole = Said([decode(msgspec.json.encode({"choices": choices}))])
    texts = ("First", "Second", "Let me think.", "look_up", '{"a": 17}')
    assert Said([*streamed]).tokens == whole.tokens == sum(map(count, texts)) + CALL


def test_a_prompt_is_its_texts_its_tools_and_the_template() -> None:
    system, user = {"role": "system", "content": "Be brief."}, {"role": "user", "content": ENGLISH}
    plain = prompt(request_of(messages=[system, user]))
    assert plain == count(f"Be brief.\n{ENGLISH}") + 2 * MESSAGE + REPLY
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 9000}}
    parts = [{"type": "text", "text": ENGLISH}, image]
    assert prompt(request_of(messages=[system, {"role": "user", "content": parts}])) == plain + IMAGE
    tools = [{"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}]
    assert prompt(request_of(messages=[system, user], tools=tools)) > plain + 10
    made = {"tool_calls": [{"id": "1", "function": {"name": "look_up", "arguments": "{}"}}]}
    called = {"role": "assistant", "content": None, **made}
    assert prompt(request_of(messages=[system, user, called])) > plain + MESSAGE + 10


@pytest.mark.parametrize(
    ("given", "tokens"),
    [(ENGLISH, count(ENGLISH)), ([ENGLISH, "a"], count(ENGLISH) + 1), ([1, 2, 3], 3), ([[1, 2], [3]], 3)],
)
def test_texts_and_tokens_as_input(given: Any, tokens: int) -> None:
    assert prompt(request_of("embeddings", input=given)) == tokens
    assert prompt(request_of("completions", prompt=given)) == tokens


def test_what_the_engine_counted_is_kept() -> None:
    request = request_of(messages=[{"role": "user", "content": ENGLISH}])
    trace = Trace()
    trace.saw_usage(Usage(prompt_tokens=3, completion_tokens=5))
    fill(trace, request, Said())
    assert (trace.input_tokens, trace.output_tokens, trace.estimated) == (3, 5, False)
    trace = Trace()
    trace.saw_usage(Usage(prompt_tokens=3))
    fill(trace, request, Said([event(message={"content": ENGLISH})]))
    assert (trace.input_tokens, trace.output_tokens, trace.estimated) == (3, count(ENGLISH), True)


def test_llama_cpps_timings_count_tokens_too() -> None:
    trace = Trace()
    trace.saw_timings({"prompt_n": 4, "cache_n": 6, "predicted_n": 7, "prompt_ms": 1.0, "predicted_ms": 2.0})
    assert (trace.input_tokens, trace.cached_tokens, trace.output_tokens) == (10, 6, 7)
    trace.saw_timings({"prompt_n": 4, "cache_n": 6, "predicted_n": 8})
    assert trace.output_tokens == 8
    trace.saw_usage(Usage(prompt_tokens=11, completion_tokens=8))
    trace.saw_timings({"prompt_n": 4, "cache_n": 6, "predicted_n": 8})
    assert (trace.input_tokens, trace.output_tokens) == (11, 8)


# -- through the gateway


class Traces:
    """The records of a gateway's requests."""

    def __init__(self, gw: Gateway) -> None:
        self.made: list[Trace] = []
        finished = gw.worker.server.on_finish

        def note(trace: Trace) -> None:
            self.made.append(trace)
            finished(trace)

        gw.worker.server.on_finish = note

    @property
    def tokens(self) -> set[tuple[int | None, int | None, bool]]:
        """Input, output, and whether they are estimated, of all requests."""
        return {(trace.input_tokens, trace.output_tokens, trace.estimated) for trace in self.made}


WORDS = ("The", " capital", " of", " France", " is", " Paris", ".")
CHAT = {"model": "m", "max_tokens": 50, "messages": [{"role": "user", "content": ENGLISH}]}
OFF = {"exact": False, "semantic": False, "coalesce": False}


@pytest.mark.parametrize("cache", [OFF, {"semantic": False}], ids=["uncached", "cached"])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
@pytest.mark.parametrize("usage", [True, False])
async def test_streamed_counts_are_whole_ones(path: str, usage: bool, cache: dict[str, Any]) -> None:
    async with ScriptedUpstream(Script(usage=usage)) as up, gateway(up, cache=cache) as gw:
        traces = Traces(gw)
        options = {"stream_options": {"include_usage": True}} if usage and "chat" in path else {}
        fresh = {"x-hasten-cache": "refresh"}
        whole = await gw.http.post(path, json=CHAT, headers=fresh)
        streamed = await gw.http.post(path, json={**CHAT, "stream": True, **options}, headers=fresh)
        again = await gw.http.post(path, json={**CHAT, "stream": True, **options})
        assert [reply.status_code for reply in (whole, streamed, again)] == [200] * 3
        estimate = (count(ENGLISH) + MESSAGE + REPLY, count("".join(WORDS)), True)
        assert traces.tokens == {(10, len(WORDS), False) if usage else estimate}
        if "messages" in path:
            expected = {
                "input_tokens": traces.made[0].input_tokens,
                "output_tokens": traces.made[0].output_tokens,
            }
            assert expected.items() <= whole.json()["usage"].items()
            for reply in (streamed, again):
                data = [line[6:] for line in reply.text.splitlines() if line.startswith("data: ")]
                delta = next(e for e in map(msgspec.json.decode, data) if e["type"] == "message_delta")
                assert expected.items() <= delta["usage"].items()


async def test_embeddings_have_input_only() -> None:
    async with ScriptedUpstream(Script(usage=False)) as up, gateway(up) as gw:
        traces = Traces(gw)
        await gw.http.post("/v1/embeddings", json={"model": "m", "input": [ENGLISH, ENGLISH]})
        assert traces.tokens == {(2 * count(ENGLISH), None, True)}


async def test_a_stream_that_breaks_has_used_what_came() -> None:
    events = tuple(msgspec.json.encode(chat_chunk(word)).decode() for word in WORDS)
    async with ScriptedUpstream(Script(events=events, reset_after=3)) as up, gateway(up) as gw:
        traces = Traces(gw)
        await gw.chat(stream=True)
        await gw.chat(stream=True, x_script={"reset_after": 0})
        broken, refused = traces.made
        assert (broken.output_tokens, broken.estimated) == (count("".join(WORDS[:3])), True)
        assert (refused.input_tokens, refused.output_tokens, refused.estimated) == (None, None, False)
