"""Token counts of streams are the engine's for clients that did not ask, and these see nothing of it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from hasten.accept.openai import OpenAIWire
from hasten.engines.usage import REST, Asking, asking
from hasten.errors import EngineStatus
from hasten.testing import FakeClock, Script, ScriptedUpstream, chat_chunk
from hasten.trace import Trace
from hasten.types import Request
from tests.accept.test_openai import client
from tests.gateway import Gateway, gateway
from tests.route.cascades import STRONG, cascading
from tests.test_tokens import Traces

TELL = {"include_usage": True}
CLIENTS = [{"client": "hasten"}, {"client": "httpx"}]
CACHE = {"semantic": False}
EXACT = (10, 7, False)  # tokens in and out of the scripted answer, as the upstream counts them
END = json.dumps({**chat_chunk(None), "choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": 7}})


def request_of(**fields: Any) -> Request:
    body = msgspec.json.encode({"model": "m", "messages": [], "stream": True, **fields})
    return OpenAIWire("chat").decode(body, Trace(), {}, 64)


# -- the body


@given(
    st.dictionaries(st.text(), st.integers(), max_size=3),
    st.none() | st.dictionaries(st.text(), st.booleans(), max_size=2),
    st.booleans(),
    st.integers(0, 2),
)
def test_all_else_of_a_body_is_as_it_came(
    more: dict[str, int], options: dict[str, bool] | None, there: bool, indent: int
) -> None:
    fields = {**more, "model": 'a "stream_options" {'} | ({"stream_options": options} if there else {})
    body = b" \n" + json.dumps(fields, indent=indent or None).encode()
    wanted = {**fields, "stream_options": {**((options or {}) if there else {}), **TELL}}
    assert json.loads(asking(body, there)) == wanted


def test_a_body_is_not_encoded_again() -> None:
    body = b'{ "model":"m" , "messages":[{"role":"user","content":"\\u00e9 "}]}'
    assert asking(body, False) == b'{"stream_options":{"include_usage":true},' + body[1:]


# -- who is asked


@pytest.mark.parametrize(
    ("fields", "always", "as_asked"),
    [
        ({}, True, False),
        ({"stream": False}, False, False),
        ({"stream_options": TELL}, False, False),  # the body asks
        ({"stream_options": None}, True, False),
        ({"stream_options": {"include_usage": False}}, True, False),
        ({"stream_options": {"include_obfuscation": False}}, True, False),
    ],
)
def test_who_is_asked(fields: dict[str, Any], always: bool, as_asked: bool) -> None:
    assert (Asking(True).wanted(request_of(**fields)), Asking(False).wanted(request_of(**fields))) == (
        always,
        as_asked,
    )


def test_who_refused_is_left_alone_for_a_while() -> None:
    clock = FakeClock()
    asks, request = Asking(True, clock), request_of()
    asks.refused(request)
    other = request_of()
    other.model = "other"
    assert (asks.wanted(request), asks.wanted(other)) == (False, True)
    clock.advance(REST - 1)
    assert not asks.wanted(request)
    clock.advance(2)
    assert asks.wanted(request)


@pytest.mark.parametrize(
    ("status", "body", "new", "known"),
    [
        (400, b'{"error": "unknown field stream_options"}', True, True),
        (422, b'{"detail": [{"loc": ["body", "include_usage"]}]}', True, True),
        (400, b"", True, False),  # of a server that never took the field it may be that
        (500, b"stream_options", False, False),
        (404, b"", False, False),
    ],
)
def test_what_may_be_a_refusal(status: int, body: bytes, new: bool, known: bool) -> None:
    asks, request, error = Asking(True), request_of(), EngineStatus(status, body)
    assert asks.suspected(request, error) == new
    asks.answered(request)
    assert asks.suspected(request, error) == known


# -- through the gateway


@pytest.mark.parametrize("engine", CLIENTS, ids=["hasten", "httpx"])
@pytest.mark.parametrize("options", [..., None, {"include_usage": False}, {"include_obfuscation": False}])
@pytest.mark.parametrize("path", ["chat/completions", "completions"])
async def test_a_client_that_did_not_ask(path: str, options: Any, engine: dict[str, str]) -> None:
    body: dict[str, Any] = {"model": "m", "messages": [], "prompt": "x", "stream": True}
    body |= {} if options is ... else {"stream_options": options}
    async with ScriptedUpstream() as up:
        async with gateway(up, engine={**engine, "stream_usage": "as_asked"}) as gw:
            plain = await gw.http.post(f"/v1/{path}", json=body)
            assert up.requests[-1].json() == body
        async with gateway(up, engine=engine) as gw:
            traces = Traces(gw)
            reply = await gw.http.post(f"/v1/{path}", json=body)
            assert up.requests[-1].json() == {
                **body,
                "stream_options": {**(options if isinstance(options, dict) else {}), **TELL},
            }
            await gw.http.post(f"/v1/{path}", json={**body, "stream": False})
            assert reply.content == plain.content
            assert b'"usage"' not in reply.content
            assert traces.tokens == {EXACT}
            page = await gw.metrics()
            label = 'gen_ai_token_type="output"'
            counted = [
                line
                for line in page.splitlines()
                if line.startswith("gen_ai_client_token_usage_sum") and label in line
            ]
            assert [line.rpartition(" ")[2] for line in counted] == ["14"]


@pytest.mark.parametrize("engine", CLIENTS, ids=["hasten", "httpx"])
@pytest.mark.parametrize("how", ["always", "as_asked"])
async def test_a_client_that_asked_gets_it(how: str, engine: dict[str, str]) -> None:
    async with ScriptedUpstream() as up, gateway(up, engine={**engine, "stream_usage": how}) as gw:
        traces = Traces(gw)
        reply = await gw.chat(stream=True, stream_options=TELL)
        events = [json.loads(line[6:]) for line in reply.text.splitlines() if line.startswith("data: {")]
        assert events[-1]["choices"] == []
        assert events[-1]["usage"]["completion_tokens"] == 7
        assert traces.tokens == {EXACT}


async def test_only_the_event_that_has_nothing_else_is_hidden() -> None:
    said = [
        chat_chunk("Hi"),
        {**chat_chunk(None, "stop"), "usage": {"prompt_tokens": 3, "completion_tokens": 1}},
    ]
    quiet = [{**event, "usage": None} if "usage" not in event else event for event in said]
    first = {**chat_chunk(None), "choices": [], "prompt_filter_results": []}
    script = Script(events=(json.dumps(first), *map(json.dumps, quiet), END, "[DONE]"))
    async with ScriptedUpstream(script) as up, gateway(up) as gw:
        reply = await gw.chat(stream=True)
        sent = [line[6:] for line in reply.text.splitlines() if line.startswith("data: ")]
        assert sent == [json.dumps(first), *map(json.dumps, quiet), "[DONE]"]


async def test_unasked_counts_pass_as_they_came() -> None:
    script = Script(
        events=(json.dumps(chat_chunk("Hi")), json.dumps(chat_chunk(None, "stop")), END, "[DONE]")
    )
    async with ScriptedUpstream(script) as up, gateway(up, engine={"stream_usage": "as_asked"}) as gw:
        assert END in (await gw.chat(stream=True)).text


async def test_known_clients_put_up_with_a_usage_that_is_null() -> None:
    events = [{**chat_chunk(word), "usage": None} for word in ("Hello", " there")]
    events.append({**chat_chunk(None, "stop"), "usage": None})
    script = Script(events=(*map(json.dumps, events), END, "[DONE]"))
    async with (
        ScriptedUpstream(script) as up,
        gateway(up) as gw,
        client(gw) as api,
    ):
        stream = await api.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "hi"}], stream=True
        )
        assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream]) == "Hello there"
        model = ChatOpenAI(
            model="m", base_url=f"{gw.url}/v1", api_key=SecretStr("any"), http_async_client=gw.http
        )
        assert "".join([str(chunk.content) async for chunk in model.astream("hi")]) == "Hello there"


# -- engines that refuse


def refusals(page: str) -> str:
    found = [line for line in page.splitlines() if line.startswith("hasten_stream_usage_refused_total{")]
    return found[0].rpartition(" ")[2]


@pytest.mark.parametrize("engine", CLIENTS, ids=["hasten", "httpx"])
@pytest.mark.parametrize(("status", "refusal"), [(400, "unknown: stream_options"), (422, "no")])
async def test_an_engine_that_refuses_is_asked_again_without(
    status: int, refusal: str, engine: dict[str, str]
) -> None:
    async with (
        ScriptedUpstream(Script(refuses=status, refusal=refusal)) as up,
        gateway(up, engine=engine) as gw,
    ):
        traces = Traces(gw)
        replies = [await gw.chat(stream=True) for _ in range(3)]
        assert [reply.status_code for reply in replies] == [200] * 3
        assert ["stream_options" in request.json() for request in up.requests] == [True, False, False, False]
        assert [trace.reasons for trace in traces.made] == [["e0: stream_usage_refused"], [], []]
        assert [trace.route for trace in traces.made] == [""] * 3
        assert {trace.estimated for trace in traces.made} == {True}
        assert refusals(await gw.metrics()) == "1"
        asked = await gw.chat(stream=True, stream_options=TELL)  # that is between the client and the engine
        assert (asked.status_code, asked.json()["error"]["message"]) == (status, refusal)
        body = {
            "model": "m",
            "max_tokens": 9,
            "messages": [{"role": "user", "content": "hi"}],
            "stream": True,
        }
        told = await gw.http.post("/v1/messages", json=body)
        assert "message_stop" in told.text


async def test_what_is_wrong_otherwise_is_said_as_it_is() -> None:
    async with (
        ScriptedUpstream(Script(status=400, body='{"error":{"message":"too long"}}')) as up,
        gateway(up) as gw,
    ):
        traces = Traces(gw)
        bad = await gw.chat(stream=True)
        assert (bad.status_code, len(up.requests)) == (400, 2)
        assert "too long" in bad.text
        up.queue.append(Script())
        good = await gw.chat(stream=True)
        again = await gw.chat(stream=True)  # it took the field before: it is not that
        assert (good.status_code, again.status_code, len(up.requests)) == (200, 400, 4)
        assert not any(trace.reasons for trace in traces.made)
        assert refusals(await gw.metrics()) == "0"


# -- stages that share answers


async def test_a_kept_answer_tells_who_asks() -> None:
    async with ScriptedUpstream() as up, gateway(up, cache=CACHE) as gw:
        traces = Traces(gw)
        first, again = await gw.chat(stream=True), await gw.chat(stream=True)
        assert again.content == first.content
        assert b'"usage"' not in first.content
        asked = await gw.chat(stream=True, stream_options=TELL)
        end = [line for line in asked.text.split("\n\n") if line][-2:]
        assert json.loads(end[0][6:])["usage"]["completion_tokens"] == 7
        assert end[1] == "data: [DONE]"
        whole = await gw.chat()
        assert whole.json()["usage"]["prompt_tokens"] == 10
        body = {"model": "m", "messages": [{"role": "user", "content": "What is the capital of France?"}]}
        told = await gw.http.post("/v1/messages", json={**body, "max_tokens": 9, "stream": True})
        assert '"output_tokens":7' in told.text
        assert traces.tokens == {EXACT}
        hits = [reply.headers["x-hasten-cache"] for reply in (again, asked, whole)]
        assert hits == ["exact"] * 3


async def test_an_answer_kept_for_an_anthropic_client_serves_both() -> None:
    body = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}], "stream": True}
    async with ScriptedUpstream() as up, gateway(up, cache=CACHE) as gw:
        await gw.http.post("/v1/messages", json=body)
        plain = await gw.http.post("/v1/chat/completions", json=body)
        asked = await gw.http.post("/v1/chat/completions", json={**body, "stream_options": TELL})
        assert (b'"usage"' in plain.content, b'"usage"' in asked.content) == (False, True)
        assert len(up.requests) == 1


async def test_those_who_share_a_call_are_told_alike() -> None:
    async with ScriptedUpstream(Script(itl=0.02)) as up, gateway(up, cache=CACHE) as gw:
        traces = Traces(gw)
        plain = [gw.chat(stream=True) for _ in range(3)]
        asked = [gw.chat(stream=True, stream_options=TELL) for _ in range(2)]
        replies = await asyncio.gather(*plain, *asked)
        assert [b'"usage"' in reply.content for reply in replies] == [False] * 3 + [True] * 2
        assert traces.tokens == {EXACT}
        assert len(up.requests) == 2


@pytest.mark.parametrize("weak", [("Paris", "."), ("",)], ids=["passed", "raised"])
async def test_a_cascade_counts_what_is_served(weak: tuple[str, ...]) -> None:
    async with cascading(Script(tokens=weak), Script(tokens=STRONG)) as run:
        reply = await run.gw.chat(stream=True)
        assert b'"usage"' not in reply.content
        assert b"Paris" in reply.content
        trace = run.traces[0]
        assert (trace.output_tokens, trace.estimated) == (len(STRONG if weak == ("",) else weak), False)


async def test_anthropic_clients_are_told_whatever_the_setting() -> None:
    async def told(gw: Gateway) -> str:
        body = {
            "model": "m",
            "max_tokens": 9,
            "messages": [{"role": "user", "content": "hi"}],
            "stream": True,
        }
        return (await gw.http.post("/v1/messages", json=body)).text

    for how in ("always", "as_asked"):
        async with ScriptedUpstream() as up, gateway(up, engine={"stream_usage": how}) as gw:
            assert '"output_tokens":7' in await told(gw)
            assert up.requests[0].json()["stream_options"] == TELL
