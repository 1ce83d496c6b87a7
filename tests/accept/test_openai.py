"""OpenAI's own client gets what the engine sent, to the last field, whole and streamed."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest

from hasten.testing import Script, ScriptedUpstream, chat_chunk
from tests.gateway import Gateway, gateway

MESSAGES: Any = [{"role": "user", "content": "hi"}]


def client(gw: Gateway, **options: Any) -> openai.AsyncOpenAI:
    http = openai.DefaultAsyncHttpxClient(
        verify=False, trust_env=False
    )  # no TLS: making its context takes long
    return openai.AsyncOpenAI(
        base_url=f"{gw.url}/v1", api_key="any", max_retries=0, http_client=http, **options
    )


def choice(index: int = 0, **fields: Any) -> dict[str, Any]:
    return {"index": index, "finish_reason": None, "logprobs": None, **fields}


CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
LOGPROBS = {"content": [{"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": []}], "refusal": None}
USAGE = {
    "prompt_tokens": 1,
    "completion_tokens": 2,
    "total_tokens": 3,
    "completion_tokens_details": {"reasoning_tokens": 1},
}

FEATURES: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {
    "tool calls": (
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}], "tool_choice": "auto"},
        [
            choice(
                message={"role": "assistant", "content": None, "tool_calls": [CALL]},
                finish_reason="tool_calls",
            )
        ],
    ),
    "logprobs": (
        {"logprobs": True, "top_logprobs": 2},
        [choice(message={"role": "assistant", "content": "a"}, logprobs=LOGPROBS, finish_reason="stop")],
    ),
    "n": (
        {"n": 2},
        [choice(i, message={"role": "assistant", "content": f"{i}"}, finish_reason="stop") for i in (0, 1)],
    ),
    "response format": (
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "x", "schema": {"type": "object"}},
            }
        },
        [choice(message={"role": "assistant", "content": "{}"}, finish_reason="stop")],
    ),
    "reasoning": (
        {"reasoning_effort": "low"},
        [
            choice(
                message={"role": "assistant", "content": "a", "reasoning_content": "hm"}, finish_reason="stop"
            )
        ],
    ),
    "fields that nobody knows": (
        {"extra_body": {"guided_regex": "a+", "z": {"y": [1.50, None]}}},
        [
            choice(
                message={"role": "assistant", "content": "a", "novel": {"x": 1}},
                finish_reason="stop",
                matched_stop=7,
            )
        ],
    ),
}


def expected_body(fields: dict[str, Any], **more: Any) -> dict[str, Any]:
    fields = dict(fields)
    return {"model": "m", "messages": MESSAGES, **fields.pop("extra_body", {}), **fields, **more}


@pytest.mark.parametrize(("fields", "choices"), FEATURES.values(), ids=FEATURES)
async def test_whole(fields: dict[str, Any], choices: list[dict[str, Any]]) -> None:
    answer = {
        "id": "x",
        "object": "chat.completion",
        "created": 1,
        "model": "e",
        "choices": choices,
        "usage": USAGE,
        "system_fingerprint": "fp",
        "novel": [1],
    }
    async with ScriptedUpstream(Script(body=json.dumps(answer))) as up, gateway(up) as gw, client(gw) as api:
        got = await api.chat.completions.create(model="m", messages=MESSAGES, **fields)
        assert json.loads(got.model_dump_json(exclude_unset=True)) == answer
        assert up.requests[0].json() == expected_body(fields)


def deltas(choices: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return chunks that bring ``choices``, the message as one delta, then its end."""
    made = []
    for one in choices:
        delta = dict(one["message"])
        if "tool_calls" in delta:
            delta["tool_calls"] = [{"index": 0, **call} for call in delta["tool_calls"]]
        first = {**{k: v for k, v in one.items() if k != "message"}, "delta": delta, "finish_reason": None}
        made += [
            {**chat_chunk(None), "choices": [first]},
            {
                **chat_chunk(None),
                "choices": [choice(one["index"], delta={}, finish_reason=one["finish_reason"])],
            },
        ]
    return [*made, {**chat_chunk(None), "choices": [], "usage": USAGE}]


@pytest.mark.parametrize(("fields", "choices"), FEATURES.values(), ids=FEATURES)
async def test_streamed(fields: dict[str, Any], choices: list[dict[str, Any]]) -> None:
    chunks = deltas(choices)
    script = Script(events=(*map(json.dumps, chunks), "[DONE]"))
    async with ScriptedUpstream(script) as up, gateway(up) as gw, client(gw) as api:
        options: Any = {"stream": True, "stream_options": {"include_usage": True}}
        stream = await api.chat.completions.create(model="m", messages=MESSAGES, **options, **fields)
        got = [json.loads(part.model_dump_json(exclude_unset=True)) async for part in stream]
        assert got == chunks
        assert up.requests[0].json() == expected_body(fields, **options)


async def test_completions() -> None:
    async with ScriptedUpstream() as up, gateway(up) as gw, client(gw) as api:
        got = await api.completions.create(model="m", prompt=["a", "b"], echo=True, logprobs=2)
        assert got.choices[0].text == "The capital of France is Paris."
        assert up.requests[0].json() == {"model": "m", "prompt": ["a", "b"], "echo": True, "logprobs": 2}
        assert up.requests[0].target == "/v1/completions"
        text = {"id": "x", "object": "text_completion", "created": 1, "model": "e"}
        parts = [
            {**text, "choices": [{"index": 0, "text": t, "finish_reason": f}]}
            for t, f in (("a", None), ("b", "stop"))
        ]
        up.script = Script(events=(*map(json.dumps, parts), "[DONE]"))
        stream = await api.completions.create(model="m", prompt="a", stream=True)
        assert "".join([part.choices[0].text async for part in stream]) == "ab"
        assert (
            'gen_ai_server_time_to_first_token_seconds_count{gen_ai_operation_name="text_completion"'
            in await gw.metrics()
        )


@pytest.mark.parametrize("input", ["a", ["a", "b"], [1, 2], [[1, 2], [3]]])
async def test_embeddings(input: Any) -> None:
    async with ScriptedUpstream() as up, gateway(up) as gw, client(gw) as api:
        got = await api.embeddings.create(model="m", input=input, dimensions=2, encoding_format="float")
        assert got.data[0].embedding == [0.6, 0.8]
        assert up.requests[0].json() == {
            "model": "m",
            "input": input,
            "dimensions": 2,
            "encoding_format": "float",
        }
        assert up.requests[0].target == "/v1/embeddings"


async def test_models() -> None:
    async with ScriptedUpstream() as up:
        models = {"m": {"engines": ["e0"]}, "org/name:tag": {"engines": ["e0"]}}
        async with gateway(up, models=models) as gw, client(gw) as api:
            assert [model.id async for model in api.models.list()] == ["m", "org/name:tag"]
            assert (await api.models.retrieve("org/name:tag")).owned_by == "hasten"
            with pytest.raises(
                openai.NotFoundError, match="there is no model 'gpt'; there are: m, org/name:tag"
            ):
                await api.models.retrieve("gpt")


async def test_an_error_in_the_stream_reaches_the_caller() -> None:
    async with (
        ScriptedUpstream(Script(tokens=("a",), itl=0.02, reset_after=1)) as up,
        gateway(up) as gw,
        client(gw) as api,
    ):
        stream = await api.chat.completions.create(model="m", messages=MESSAGES, stream=True)
        with pytest.raises(openai.APIError) as caught:
            async for _ in stream:
                pass
        assert caught.value.code == "engine_reset"


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, openai.BadRequestError),
        (404, openai.NotFoundError),
        (422, openai.UnprocessableEntityError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
    ],
)
async def test_errors_arrive_as_the_engine_sent_them(status: int, error: type[openai.APIStatusError]) -> None:
    said = {"message": "no", "type": "t", "param": "p", "code": "c", "novel": 1}
    async with (
        ScriptedUpstream(Script(status=status, body=json.dumps({"error": said}))) as up,
        gateway(up) as gw,
        client(gw) as api,
    ):
        with pytest.raises(error) as caught:
            await api.chat.completions.create(model="m", messages=MESSAGES)
        assert caught.value.body == said
