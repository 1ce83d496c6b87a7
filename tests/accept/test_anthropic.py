"""Anthropic's Messages, judged by Anthropic's own client."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import anthropic
import pytest

from hasten.testing import Script, ScriptedUpstream, chat_chunk
from tests.gateway import Gateway, gateway

USER = [{"role": "user", "content": "hi"}]
TOOL = {
    "name": "weather",
    "description": "tells it",
    "input_schema": {"type": "object", "properties": {"city": {}}},
}
CALL = {
    "index": 0,
    "id": "call_1",
    "type": "function",
    "function": {"name": "weather", "arguments": '{"city":"Paris"}'},
}
PIXEL = "iVBORw0KGgo="
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}
IMAGE_URL = {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}}
DATA_URL = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}


def client(gw: Gateway) -> anthropic.AsyncAnthropic:
    http = anthropic.DefaultAsyncHttpxClient(
        verify=False, trust_env=False
    )  # no TLS: making its context takes long
    return anthropic.AsyncAnthropic(base_url=gw.url, api_key="any", max_retries=0, http_client=http)


async def sent(**fields: Any) -> dict[str, Any]:
    """Return what the engine gets for a Messages request."""
    async with ScriptedUpstream() as up, gateway(up) as gw, client(gw) as api:
        await api.messages.create(**{"model": "m", "max_tokens": 100, "messages": USER, **fields})
        made: dict[str, Any] = up.requests[0].json()
        return made


SYSTEM = {"role": "system", "content": "be brief"}
HI = {"role": "user", "content": "hi"}
MESSAGES = {
    "text": ({}, [HI]),
    "system": ({"system": "be brief"}, [SYSTEM, HI]),
    "system in blocks": (
        {
            "system": [
                {"type": "text", "text": "be", "cache_control": {"type": "ephemeral"}},
                {"type": "text", "text": "kind"},
            ]
        },
        [{"role": "system", "content": "be\n\nkind"}, HI],
    ),
    "several turns": (
        {
            "messages": [
                HI,
                {"role": "assistant", "content": [{"type": "text", "text": "yes?"}]},
                {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            ]
        },
        [HI, {"role": "assistant", "content": "yes?"}, {"role": "user", "content": "a\n\nb"}],
    ),
    "an image": (
        {"messages": [{"role": "user", "content": [IMAGE, {"type": "text", "text": "what?"}, IMAGE_URL]}]},
        [
            {
                "role": "user",
                "content": [
                    DATA_URL,
                    {"type": "text", "text": "what?"},
                    {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
                ],
            }
        ],
    ),
    "a tool and its result": (
        {
            "messages": [
                HI,
                {
                    "role": "assistant",
                    "content": [
                        {"type": "thinking", "thinking": "hm", "signature": "s"},
                        {"type": "text", "text": "let me see"},
                        {"type": "tool_use", "id": "call_1", "name": "weather", "input": {"city": "Paris"}},
                    ],
                },
                {
                    "role": "user",
                    "content": [
                        {"type": "tool_result", "tool_use_id": "call_1", "content": "sunny"},
                        {"type": "text", "text": "and?"},
                    ],
                },
            ]
        },
        [
            HI,
            {
                "role": "assistant",
                "content": "let me see",
                "tool_calls": [
                    {
                        "id": "call_1",
                        "type": "function",
                        "function": {"name": "weather", "arguments": '{"city":"Paris"}'},
                    }
                ],
            },
            {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
            {"role": "user", "content": "and?"},
        ],
    ),
    "a tool's result with an image": (
        {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {
                            "type": "tool_result",
                            "tool_use_id": "c",
                            "content": [{"type": "text", "text": "see"}, IMAGE],
                        }
                    ],
                }
            ]
        },
        [{"role": "tool", "tool_call_id": "c", "content": "see"}, {"role": "user", "content": [DATA_URL]}],
    ),
    "a tool's error": (
        {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "tool_result", "tool_use_id": "c", "is_error": True, "content": "no net"}
                    ],
                }
            ]
        },
        [{"role": "tool", "tool_call_id": "c", "content": "Error: no net"}],
    ),
    "a tool without input": (
        {
            "messages": [
                {
                    "role": "assistant",
                    "content": [{"type": "tool_use", "id": "c", "name": "now", "input": {}}],
                }
            ]
        },
        [
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": "c", "type": "function", "function": {"name": "now", "arguments": "{}"}}
                ],
            }
        ],
    ),
}


@pytest.mark.parametrize(("fields", "messages"), MESSAGES.values(), ids=MESSAGES)
async def test_messages(fields: dict[str, Any], messages: list[Any]) -> None:
    assert (await sent(**fields))["messages"] == messages


async def test_parameters() -> None:
    made = await sent(
        stop_sequences=["x", "y"],
        metadata={"user_id": "u"},
        tools=[TOOL],
        thinking={"type": "enabled", "budget_tokens": 1024},
        extra_body={"made_up": 1, "temperature": 0.5, "top_p": 0.9, "top_k": 4},
    )
    assert made.pop("messages") == [HI]
    assert made == {
        "model": "m",
        "max_tokens": 100,
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 4,
        "stop": ["x", "y"],
        "user": "u",
        "made_up": 1,
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": "weather",
                    "description": "tells it",
                    "parameters": TOOL["input_schema"],
                },
            }
        ],
    }


@pytest.mark.parametrize(
    ("choice", "made"),
    [
        ({"type": "auto"}, {"tool_choice": "auto"}),
        ({"type": "any"}, {"tool_choice": "required"}),
        ({"type": "none"}, {"tool_choice": "none"}),
        (
            {"type": "tool", "name": "weather"},
            {"tool_choice": {"type": "function", "function": {"name": "weather"}}},
        ),
        (
            {"type": "auto", "disable_parallel_tool_use": True},
            {"tool_choice": "auto", "parallel_tool_calls": False},
        ),
    ],
)
async def test_tool_choice(choice: Any, made: dict[str, Any]) -> None:
    got = await sent(tools=[TOOL], tool_choice=choice)
    assert {k: got[k] for k in ("tool_choice", "parallel_tool_calls") if k in got} == made


REFUSED = [
    ([{"role": "user", "content": [{"type": "hologram"}]}], "messages[0].content[0].type"),
    (
        [
            HI,
            {"role": "user", "content": [{"type": "text", "text": "x"}, {"type": "document", "source": {}}]},
        ],
        "messages[1].content[1].type",
    ),
    ([{"role": "assistant", "content": [IMAGE]}], "messages[0].content[0].type"),
    (
        [{"role": "user", "content": [{"type": "image", "source": {"type": "file"}}]}],
        "messages[0].content[0].source.type",
    ),
    (
        [{"role": "user", "content": [{"type": "image", "source": {"type": "base64", "data": "x"}}]}],
        "messages[0].content[0].source.media_type",
    ),
    (
        [{"role": "user", "content": [{"type": "tool_result", "content": "x"}]}],
        "messages[0].content[0].tool_use_id",
    ),
    (
        [
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "c", "content": [{"type": "search_result"}]}
                ],
            }
        ],
        "messages[0].content[0].content[0].type",
    ),
    (
        [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c", "content": {"a": 1}}]}],
        "messages[0].content[0].content",
    ),
    ([{"role": "user", "content": [{"type": "text"}]}], "messages[0].content[0].text"),
    ([{"role": "wizard", "content": "x"}], "messages[0].role"),
    ([{"role": "user", "content": 7}], "messages[0].content"),
    ([{"role": "user"}], "messages[0].content"),
]


@pytest.mark.parametrize(("messages", "path"), REFUSED, ids=[path for _, path in REFUSED])
async def test_what_cannot_be_translated_is_refused_with_its_path(messages: Any, path: str) -> None:
    async with ScriptedUpstream() as up, gateway(up) as gw, client(gw) as api:
        with pytest.raises(anthropic.BadRequestError) as caught:
            await api.messages.create(model="m", max_tokens=1, messages=messages)
        assert caught.value.body["error"]["message"].startswith(f"{path}: ")  # type: ignore[index]
        assert caught.value.body["error"]["type"] == "invalid_request_error"  # type: ignore[index]
        assert up.requests == []


def message(**fields: Any) -> str:
    usage = {"prompt_tokens": 12, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 4}}
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": None, **fields},
        "finish_reason": fields.pop("end", "stop"),
    }
    return json.dumps({"id": "x", "object": "chat.completion", "choices": [choice], "usage": usage})


WHOLE = {
    "text": (message(content="Paris"), [{"type": "text", "text": "Paris"}], "end_turn"),
    "length": (message(content="Par", end="length"), [{"type": "text", "text": "Par"}], "max_tokens"),
    "refusal": (message(refusal="no", end="content_filter"), [{"type": "text", "text": "no"}], "refusal"),
    "thinking": (
        message(reasoning_content="hm", content="Paris"),
        [{"type": "thinking", "thinking": "hm", "signature": ""}, {"type": "text", "text": "Paris"}],
        "end_turn",
    ),
    "a tool": (
        message(tool_calls=[CALL], end="tool_calls"),
        [{"type": "tool_use", "id": "call_1", "name": "weather", "input": {"city": "Paris"}}],
        "tool_use",
    ),
    "a tool with broken arguments": (
        message(
            tool_calls=[{**CALL, "function": {"name": "weather", "arguments": "{oops"}}], end="tool_calls"
        ),
        [{"type": "tool_use", "id": "call_1", "name": "weather", "input": {"_raw": "{oops"}}],
        "tool_use",
    ),
    "a tool that is none": (
        message(tool_calls=[{"function": "x"}], end="tool_calls"),
        [{"type": "tool_use", "id": "", "name": "", "input": {}}],
        "tool_use",
    ),
    "nothing": (message(content=""), [], "end_turn"),
}


@pytest.mark.parametrize(("body", "content", "stop_reason"), WHOLE.values(), ids=WHOLE)
async def test_whole_answers(body: str, content: list[Any], stop_reason: str) -> None:
    async with ScriptedUpstream(Script(body=body)) as up, gateway(up) as gw, client(gw) as api:
        got = await api.messages.create(model="m", max_tokens=1, messages=[{"role": "user", "content": "hi"}])
        assert (got.type, got.role, got.model, got.stop_reason) == ("message", "assistant", "m", stop_reason)
        assert [
            {k: v for k, v in block.to_dict().items() if v is not None} for block in got.content
        ] == content
        assert got.id.startswith("msg_")
        usage = got.usage
        assert (usage.input_tokens, usage.output_tokens, usage.cache_read_input_tokens) == (8, 3, 4)


@pytest.mark.parametrize(
    "body", ["{}", '{"choices":[]}', '{"choices":[{"index":0}]}', "[1]", '{"usage":7,"choices":7}']
)
async def test_an_answer_without_a_message_is_an_error(body: str) -> None:
    async with ScriptedUpstream(Script(body=body)) as up, gateway(up) as gw, client(gw) as api:
        with pytest.raises(anthropic.InternalServerError) as caught:
            await api.messages.create(model="m", max_tokens=1, messages=[{"role": "user", "content": "hi"}])
        assert caught.value.status_code == 502


async def test_odd_usage_does_not_hang_the_client() -> None:
    usage = '{"prompt_tokens":1,"prompt_tokens_details":{"cached_tokens":"?"}}'
    body = '{"choices":[{"index":0,"message":{"content":"x"}}],"usage":' + usage + "}"
    async with ScriptedUpstream(Script(body=body)) as up, gateway(up) as gw, client(gw) as api:
        got = await api.messages.create(model="m", max_tokens=1, messages=[{"role": "user", "content": "hi"}])
        assert got.usage.input_tokens == 1


# -- streams --------------------------------------------------------------------------------------


def piece(**delta: Any) -> str:
    return json.dumps({**chat_chunk(None), "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})


def last(reason: str) -> list[str]:
    usage = {"prompt_tokens": 10, "completion_tokens": 7}
    return [
        json.dumps(chat_chunk(None, reason)),
        json.dumps({**chat_chunk(None), "choices": [], "usage": usage}),
        "[DONE]",
    ]


def tool(index: int, **fields: Any) -> str:
    return piece(tool_calls=[{"index": index, **fields}])


STREAMS: dict[str, tuple[list[str], list[Any], str]] = {
    "text": (
        [piece(role="assistant"), piece(content="Par"), piece(content="is"), *last("stop")],
        [{"type": "text", "text": "Paris"}],
        "end_turn",
    ),
    "thinking and text": (
        [piece(reasoning_content="h"), piece(reasoning="m"), piece(content="Paris"), *last("length")],
        [{"type": "thinking", "thinking": "hm", "signature": ""}, {"type": "text", "text": "Paris"}],
        "max_tokens",
    ),
    "text and two tools": (
        [
            piece(content="see"),
            tool(0, id="c0", function={"name": "weather", "arguments": ""}),
            tool(0, function={"arguments": '{"ci'}),
            tool(0, function={"arguments": 'ty":1}'}),
            tool(1, id="c1", function={"name": "now", "arguments": "{}"}),
            *last("tool_calls"),
        ],
        [
            {"type": "text", "text": "see"},
            {"type": "tool_use", "id": "c0", "name": "weather", "input": {"city": 1}},
            {"type": "tool_use", "id": "c1", "name": "now", "input": {}},
        ],
        "tool_use",
    ),
    "a tool whose arguments come as an object": (
        [tool(0, id="c0", function={"name": "now", "arguments": {"a": 1}}), *last("tool_calls")],
        [{"type": "tool_use", "id": "c0", "name": "now", "input": {"a": 1}}],
        "tool_use",
    ),
    "a tool that is none": (
        [tool(0, id="c0", function="now"), *last("tool_calls")],
        [{"type": "tool_use", "id": "c0", "name": "", "input": {}}],
        "tool_use",
    ),
    "nothing": (last("stop"), [], "end_turn"),
    "only the first choice": (
        [
            piece(content="a"),
            json.dumps({**chat_chunk(None), "choices": [{"index": 1, "delta": {"content": "b"}}]}),
            *last("stop"),
        ],
        [{"type": "text", "text": "a"}],
        "end_turn",
    ),
}


def check_order(names: list[str]) -> None:
    """Anthropic's grammar: start, (block start, deltas, block stop)*, message delta, stop."""
    names = [name for name in names if name != "ping"]
    assert names[0] == "message_start"
    assert names[-2:] == ["message_delta", "message_stop"]
    open_block = False
    for name in names[1:-2]:
        assert (name == "content_block_start") != open_block
        open_block = name != "content_block_stop"
    assert not open_block


async def raw_events(gw: Gateway) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    fields = {"model": "m", "max_tokens": 9, "messages": USER, "stream": True}
    for event in (await gw.http.post("/v1/messages", json=fields)).text.strip().split("\n\n"):
        name, data = event.split("\n")
        yield name.removeprefix("event: "), json.loads(data.removeprefix("data: "))


@pytest.mark.parametrize(("events", "content", "stop_reason"), STREAMS.values(), ids=STREAMS)
async def test_streams(events: list[str], content: list[Any], stop_reason: str) -> None:
    async with ScriptedUpstream(Script(events=tuple(events))) as up, gateway(up) as gw, client(gw) as api:
        async with api.messages.stream(
            model="m", max_tokens=9, messages=[{"role": "user", "content": "hi"}]
        ) as stream:
            got = await stream.get_final_message()
        assert got.stop_reason == stop_reason
        assert [{k: v for k, v in b.to_dict().items() if v is not None} for b in got.content] == content
        assert (got.usage.input_tokens, got.usage.output_tokens) == (10, 7)
        assert up.requests[0].json()["stream_options"] == {"include_usage": True}
        made = [event async for event in raw_events(gw)]
        check_order([name for name, _ in made])
        assert all(name == data["type"] for name, data in made)
        indexes = [data["index"] for name, data in made if name == "content_block_start"]
        assert indexes == list(range(len(indexes)))


async def test_comments_become_pings() -> None:
    script = Script(
        raw=b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n: wait\n\n"
        b"data: " + piece(content="a").encode() + b"\n\ndata: " + last("stop")[0].encode() + b"\n\n"
    )
    async with ScriptedUpstream(script) as up, gateway(up) as gw, client(gw) as api:
        async with api.messages.stream(
            model="m", max_tokens=9, messages=[{"role": "user", "content": "hi"}]
        ) as stream:
            assert await stream.get_final_text() == "a"
        assert [name async for name, _ in raw_events(gw)].count("ping") == 1


@pytest.mark.parametrize(
    ("script", "error", "kind"),
    [
        (
            Script(status=400, body='{"error":{"message":"too long"}}'),
            anthropic.BadRequestError,
            "invalid_request_error",
        ),
        (
            Script(status=429, body='{"error":{"message":"too long"}}'),
            anthropic.RateLimitError,
            "rate_limit_error",
        ),
        (Script(status=404, body='{"error":"too long"}'), anthropic.NotFoundError, "not_found_error"),
        (
            Script(status=500, body='{"error":{"message":"too long"}}'),
            anthropic.InternalServerError,
            "api_error",
        ),
        (
            Script(status=503, body='{"message":"too long"}'),
            anthropic.InternalServerError,
            "overloaded_error",
        ),
    ],
)
async def test_errors_are_in_anthropics_envelope(
    script: Script, error: type[anthropic.APIStatusError], kind: str
) -> None:
    async with ScriptedUpstream(script) as up, gateway(up) as gw, client(gw) as api:
        for stream in (False, True):
            with pytest.raises(error) as caught:
                await api.messages.create(
                    model="m", max_tokens=1, messages=[{"role": "user", "content": "hi"}], stream=stream
                )
            assert caught.value.body == {"type": "error", "error": {"type": kind, "message": "too long"}}


async def test_the_gateways_own_errors_are_in_it_too() -> None:
    async with ScriptedUpstream() as up, gateway(up, server={"keys": ["k"], "max_body_bytes": 500}) as gw:
        for body, key, kind in (
            ("{}", "wrong", "authentication_error"),
            ("x" * 501, "k", "request_too_large"),
            ("{}", "k", "invalid_request_error"),
        ):
            reply = await gw.http.post("/v1/messages", content=body, headers={"x-api-key": key})
            assert reply.json()["type"] == "error"
            assert reply.json()["error"]["type"] == kind
