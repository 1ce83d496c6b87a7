"""Counting tokens in Anthropic's format, judged by Anthropic's own client."""

from __future__ import annotations

from typing import Any

import anthropic
import pytest

from hasten.testing import ScriptedUpstream
from tests.accept.test_anthropic import IMAGE, REFUSED, TOOL, client
from tests.gateway import gateway
from tests.test_tokens import ENGLISH, Traces

PATH = "/v1/messages/count_tokens"
SAYS: dict[str, Any] = {"messages": [{"role": "user", "content": ENGLISH}]}
RESULT = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c", "content": ENGLISH}]}
CALL = {
    "role": "assistant",
    "content": [{"type": "tool_use", "id": "c", "name": "now", "input": {"a": ENGLISH}}],
}
#: What is asked besides, and what it adds: at least, at most.
MORE: dict[str, tuple[dict[str, Any], int, int]] = {
    "nothing": ({}, 0, 0),
    "a system prompt": ({"system": ENGLISH}, 15, 30),
    "a system prompt in blocks": ({"system": [{"type": "text", "text": ENGLISH}]}, 15, 30),
    "a tool": ({"tools": [TOOL]}, 10, 60),
    "a call and its result": ({"messages": [*SAYS["messages"], CALL, RESULT]}, 40, 90),
    "an image": ({"messages": [*SAYS["messages"], {"role": "user", "content": [IMAGE]}]}, 1000, 1010),
    "a choice of tools": ({"tool_choice": {"type": "auto"}}, 0, 0),
}


@pytest.mark.parametrize(("more", "least", "most"), MORE.values(), ids=MORE)
async def test_it_is_about_what_the_request_is(more: dict[str, Any], least: int, most: int) -> None:
    async with ScriptedUpstream() as up, gateway(up) as gw, client(gw) as api:
        base = (await api.messages.count_tokens(model="m", **SAYS)).input_tokens
        assert 15 < base < 35
        counted = await api.messages.count_tokens(model="m", **{**SAYS, **more})
        assert least <= counted.input_tokens - base <= most
        assert up.requests == []


async def test_it_is_what_a_message_is_said_to_be_where_no_engine_counts() -> None:
    async with ScriptedUpstream() as up, gateway(up) as gw, client(gw) as api:
        traces = Traces(gw)
        counted = await api.messages.count_tokens(model="m", system="be brief", tools=[TOOL], **SAYS)  # type: ignore[list-item]
        sent = {"model": "m", "max_tokens": 9, "system": "be brief", "tools": [TOOL], **SAYS}
        await gw.http.post("/v1/messages", json={**sent, "x_script": {"usage": False}})
        assert traces.made[-1].input_tokens == counted.input_tokens


@pytest.mark.parametrize(("messages", "path"), REFUSED, ids=[path for _, path in REFUSED])
async def test_what_no_message_may_be_is_not_counted(messages: Any, path: str) -> None:
    async with ScriptedUpstream() as up, gateway(up) as gw, client(gw) as api:
        with pytest.raises(anthropic.BadRequestError) as caught:
            await api.messages.count_tokens(model="m", messages=messages)
        assert caught.value.body["error"]["message"].startswith(f"{path}: ")  # type: ignore[index]
        assert caught.value.body["error"]["type"] == "invalid_request_error"  # type: ignore[index]


@pytest.mark.parametrize(
    ("body", "status", "kind", "text"),
    [
        ({"model": "nobody", **SAYS}, 404, "not_found_error", "there is no model 'nobody'; there are: m"),
        ({"model": "m"}, 400, "invalid_request_error", "messages: this field is required"),
        (SAYS, 400, "invalid_request_error", "model: this field is required"),
        ([], 400, "invalid_request_error", "the body: "),
    ],
)
async def test_errors_are_anthropic_s(body: Any, status: int, kind: str, text: str) -> None:
    async with ScriptedUpstream() as up, gateway(up) as gw:
        reply = await gw.http.post(PATH, json=body)
        assert reply.status_code == status
        assert reply.json()["type"] == "error"
        assert reply.json()["error"]["type"] == kind
        assert reply.json()["error"]["message"].startswith(text)
        method = await gw.http.get(PATH)
        assert method.status_code == 405


async def test_it_needs_a_key_as_messages_do() -> None:
    async with ScriptedUpstream() as up, gateway(up, server={"keys": ["secret"]}) as gw:
        body = {"model": "m", **SAYS}
        refused = await gw.http.post(PATH, json=body)
        assert refused.status_code == 401
        assert refused.json()["error"]["type"] == "authentication_error"
        reply = await gw.http.post(PATH, json=body, headers={"x-api-key": "secret"})
        assert reply.status_code == 200


async def test_it_is_no_call_for_an_engine() -> None:
    async with ScriptedUpstream() as up, gateway(up, slo={"e2e_p95_ms": 1}) as gw:
        traces = Traces(gw)
        assert (await gw.http.post(PATH, json={"model": "m", **SAYS})).status_code == 200
        trace = traces.made[0]
        assert (trace.endpoint, trace.engine, trace.input_tokens, trace.asked) == (
            "count_tokens",
            "",
            None,
            None,
        )
        page = await gw.metrics()
        assert 'hasten_requests_total{endpoint="count_tokens",status="200"} 1' in page
        for name in (
            "gen_ai_",
            "hasten_tokens_total",
            "hasten_cost",
            "hasten_latency_values",
            "hasten_cache_requests",
        ):
            assert not [line for line in page.splitlines() if line.startswith(name)]
        overview = (await gw.http.get("/admin/slo")).json()
        assert "count_tokens" not in str(overview)
