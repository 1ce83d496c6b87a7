"""The cache over HTTP, before a scripted upstream: what is served, what is shared, what is never kept."""

from __future__ import annotations

import asyncio
import json
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest
from msgspec.structs import replace

from hasten.testing import Script, ScriptedUpstream
from tests.gateway import Gateway, eventually, gateway

EXACT = {"semantic": False}


def cached(*upstreams: ScriptedUpstream, **cache: Any) -> AbstractAsyncContextManager[Gateway]:
    sections = {k: cache.pop(k) for k in ("server", "tenants", "models", "engine") if k in cache}
    return gateway(*upstreams, cache={**EXACT, **cache}, **sections)


def how(response: httpx.Response) -> str:
    return response.headers["x-hasten-cache"]


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


# -- exact


async def test_a_hit_is_byte_identical_and_says_so() -> None:
    async with ScriptedUpstream() as up, cached(up) as gw:
        first, second = await gw.chat(), await gw.chat()
        assert (how(first), how(second)) == ("miss", "exact")
        assert first.content == second.content
        assert len(up.requests) == 1
        assert int(second.headers["age"]) >= 0
        assert "exact key" in second.headers["x-hasten-cache-why"]
        assert second.headers["x-hasten-model"] == "m"
        assert second.headers["x-hasten-engine"] == "cache"
        page = await gw.metrics()
        assert 'hasten_cache_requests_total{endpoint="chat",outcome="exact"} 1' in page
        assert 'hasten_cache_saved_tokens_total{gen_ai_token_type="output"} 7' in page
        assert "hasten_cache_entries 1" in page


async def test_a_streamed_hit_is_byte_identical() -> None:
    async with ScriptedUpstream() as up, cached(up) as gw:
        options = {"stream": True, "stream_options": {"include_usage": True}}
        first, second = await gw.chat(**options), await gw.chat(**options)
        assert (how(first), how(second)) == ("miss", "exact")
        assert first.content == second.content
        assert b'"usage"' in second.content
        assert second.content.endswith(b"data: [DONE]\n\n")
        assert second.headers["content-type"].startswith("text/event-stream")
        assert len(up.requests) == 1


@pytest.mark.parametrize("usage", [True, False])
async def test_whole_to_stream_and_back(usage: bool) -> None:
    options = {"stream": True, "stream_options": {"include_usage": usage}}
    async with ScriptedUpstream() as up, cached(up) as gw:
        await gw.chat()
        streamed = await gw.chat(**options)
        assert how(streamed) == "exact"
        events = [json.loads(e[6:]) for e in streamed.text.split("\n\n") if e.startswith("data: {")]
        text = "".join(e["choices"][0]["delta"].get("content", "") for e in events if e["choices"])
        assert text == "The capital of France is Paris."
        assert events[-2 if usage else -1]["choices"][0]["finish_reason"] == "stop"
        assert ("usage" in events[-1]) == usage
        assert len(up.requests) == 1
    async with ScriptedUpstream() as up, cached(up) as gw:
        await gw.chat(**options)
        whole = await gw.chat()
        assert how(whole) == "exact"
        answer = whole.json()
        assert answer["object"] == "chat.completion"
        assert answer["choices"][0]["message"] == {
            "role": "assistant",
            "content": "The capital of France is Paris.",
        }
        assert answer["choices"][0]["finish_reason"] == "stop"
        assert answer["usage"]["completion_tokens"] == 7  # the engine was asked, whoever asked here


async def test_a_stream_without_usage_does_not_answer_who_wants_it() -> None:
    async with ScriptedUpstream() as up, cached(up, engine={"stream_usage": "as_asked"}) as gw:
        await gw.chat(stream=True)
        second = await gw.chat(stream=True, stream_options={"include_usage": True})
        assert how(second) == "miss"
        assert b'"usage"' in second.content
        third = await gw.chat(stream=True)  # of the newer entry, without its usage
        assert how(third) == "exact"
        assert b'"usage"' not in third.content


@pytest.mark.parametrize("asked", [True, False])
@pytest.mark.parametrize("sent", [True, False])
@pytest.mark.parametrize("mode", ["always", "as_asked"])
async def test_a_streamed_hit_is_byte_identical_whatever_the_engine_counts(
    mode: str, asked: bool, sent: bool
) -> None:
    end = {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}}
    events = [chunk(delta={"content": "Hello there"}), chunk(finish_reason="stop")]
    script = Script(events=(*events, *[json.dumps(end)] * sent, "[DONE]"))
    async with ScriptedUpstream(script) as up, cached(up, engine={"stream_usage": mode}) as gw:
        options = {"stream": True, "stream_options": {"include_usage": asked}}
        first, second = await gw.chat(**options), await gw.chat(**options)
        assert (how(first), how(second)) == ("miss", "exact")
        assert first.content == second.content
        assert (b'"usage"' in first.content) == (sent and (asked or mode == "as_asked"))


async def test_anthropic_clients_hit_in_their_own_format() -> None:
    body = {"model": "m", "max_tokens": 50, "messages": user("Capital of France?")}
    async with ScriptedUpstream() as up, cached(up) as gw:
        first = await gw.http.post("/v1/messages", json=body)
        second = await gw.http.post("/v1/messages", json=body)
        assert (how(first), how(second)) == ("miss", "exact")
        assert second.json()["content"] == first.json()["content"]
        assert second.json()["usage"] == first.json()["usage"]
        streamed = await gw.http.post("/v1/messages", json={**body, "stream": True})
        assert how(streamed) == "exact"
        assert "event: message_stop" in streamed.text
        assert "Paris" in streamed.text
        assert len(up.requests) == 1


async def test_completions_and_embeddings() -> None:
    async with ScriptedUpstream() as up, cached(up) as gw:
        for path, body in (
            ("/v1/completions", {"model": "m", "prompt": "x"}),
            ("/v1/embeddings", {"model": "m", "input": "x"}),
        ):
            first, second = [await gw.http.post(path, json=body) for _ in range(2)]
            assert (how(first), how(second)) == ("miss", "exact")
            assert first.content == second.content
        assert len(up.requests) == 2


# -- control


async def test_bypass_refresh_and_age() -> None:
    async with ScriptedUpstream() as up, cached(up) as gw:
        await gw.chat()
        for headers in ({"x-hasten-cache": "bypass"}, {"cache-control": "no-store"}):
            assert how(await gw.chat(headers=headers)) == "bypass"
        assert len(up.requests) == 3
        up.script = Script(tokens=("New",))
        assert how(await gw.chat(headers={"x-hasten-cache": "refresh"})) == "miss"
        assert "New" in (await gw.chat()).text
        await asyncio.sleep(0.01)
        assert how(await gw.chat(headers={"x-hasten-cache-max-age": "0"})) == "miss"
        assert how(await gw.chat(headers={"x-hasten-cache-max-age": "60"})) == "exact"


async def test_a_wrong_header_is_named() -> None:
    async with ScriptedUpstream() as up, cached(up) as gw:
        response = await gw.chat(headers={"x-hasten-cache": "always"})
        assert response.status_code == 400
        assert response.json()["error"]["param"] == "x-hasten-cache"
        assert up.requests == []


async def test_sampled_requests_can_be_left_out() -> None:
    async with ScriptedUpstream() as up, cached(up, sampled=False) as gw:
        assert [how(await gw.chat()) for _ in range(2)] == ["bypass"] * 2
        assert [how(await gw.chat(temperature=0)) for _ in range(2)] == ["miss", "exact"]


async def test_entries_expire_and_are_renewed_behind_the_clients_back() -> None:
    async with ScriptedUpstream() as up, cached(up, ttl=0.2, stale=60) as gw:
        await gw.chat()
        await asyncio.sleep(0.25)
        up.script = Script(tokens=("New",))
        stale = await gw.chat()
        assert how(stale) == "exact"
        assert "stale" in stale.headers["x-hasten-cache-why"]
        assert "Paris" in stale.text
        await eventually(lambda: len(up.requests) == 2)
        await asyncio.sleep(0.02)
        assert "New" in (await gw.chat()).text
    async with ScriptedUpstream() as up, cached(up, ttl=0.05) as gw:
        await gw.chat()
        await asyncio.sleep(0.06)
        assert how(await gw.chat()) == "miss"


# -- what is never kept


BAD = {
    "truncated": Script(
        body=json.dumps({"choices": [{"message": {"content": "a"}, "finish_reason": "length"}]})
    ),
    "filtered": Script(
        body=json.dumps({"choices": [{"message": {"content": "a"}, "finish_reason": "content_filter"}]})
    ),
    "unfinished": Script(
        body=json.dumps({"choices": [{"message": {"content": "a"}, "finish_reason": None}]})
    ),
    "refusal": Script(
        body=json.dumps(
            {"choices": [{"message": {"content": None, "refusal": "no"}, "finish_reason": "stop"}]}
        )
    ),
    "empty": Script(body=json.dumps({"choices": [{"message": {"content": ""}, "finish_reason": "stop"}]})),
    "no choice": Script(body=json.dumps({"choices": []})),
    "error in 200": Script(body=json.dumps({"error": {"message": "overloaded"}})),
    "error": Script(status=500, body="{}"),
    "refused": Script(status=400, body=json.dumps({"error": {"message": "bad"}})),
    "not json": Script(body="<html>", headers={"content-type": "text/html"}),
    "tools": Script(
        body=json.dumps(
            {"choices": [{"message": {"tool_calls": [{"id": "1"}]}, "finish_reason": "tool_calls"}]}
        )
    ),
}


@pytest.mark.parametrize("name", BAD)
async def test_a_bad_answer_is_never_served_again(name: str) -> None:
    async with ScriptedUpstream(BAD[name]) as up, cached(up) as gw:
        await gw.chat()
        before = len(up.requests)
        up.script = Script()
        second = await gw.chat()
        assert how(second) == "miss"
        assert "Paris" in second.text
        assert len(up.requests) == before + 1


def chunk(**choice: Any) -> str:
    return json.dumps({"choices": [{"index": 0, "delta": {}, "finish_reason": None, **choice}]})


BAD_STREAMS = {
    "truncated": Script(events=(chunk(delta={"content": "a"}), chunk(finish_reason="length"), "[DONE]")),
    "filtered": Script(
        events=(chunk(delta={"content": "a"}), chunk(finish_reason="content_filter"), "[DONE]")
    ),
    "broken": Script(reset_after=3),
    "error event": Script(events=(chunk(delta={"content": "a"}), json.dumps({"error": {"message": "x"}}))),
    "never finished": Script(events=(chunk(delta={"content": "a"}),)),
    "empty": Script(events=(chunk(finish_reason="stop"), "[DONE]")),
    "tools": Script(
        events=(
            chunk(delta={"tool_calls": [{"index": 0, "id": "1"}]}),
            chunk(finish_reason="tool_calls"),
            "[DONE]",
        )
    ),
}


@pytest.mark.parametrize("name", BAD_STREAMS)
async def test_a_bad_stream_is_never_served_again(name: str) -> None:
    async with ScriptedUpstream(BAD_STREAMS[name]) as up, cached(up) as gw:
        await gw.chat(stream=True)
        up.script = Script()
        second = await gw.chat(stream=True)
        assert how(second) == "miss"
        assert "Paris" in second.text


async def test_a_stream_whose_client_left_is_not_kept() -> None:
    async with ScriptedUpstream(Script(repeat=20, itl=0.01)) as up, cached(up) as gw:
        async with gw.http.stream(
            "POST", "/v1/chat/completions", json={"model": "m", "messages": user("x"), "stream": True}
        ) as r:
            async for _ in r.aiter_lines():
                break
        await eventually(lambda: up.gone == 1)
        up.script = Script()
        assert how(await gw.chat(messages=user("x"), stream=True)) == "miss"


async def test_a_fallbacks_answer_is_not_the_first_models() -> None:
    async with ScriptedUpstream(Script(status=500)) as bad, ScriptedUpstream() as good:
        models = {"m": {"engines": ["e0"], "fallback": ["n"]}, "n": {"engines": ["e1"]}}
        async with cached(bad, good, models=models) as gw:
            assert (await gw.chat()).headers["x-hasten-route"] == "fallback"
            bad.script = Script(tokens=("First",))
            second = await gw.chat()
            assert how(second) == "miss"
            assert "First" in second.text


async def test_tool_calls_are_kept_on_request() -> None:
    calls = [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    body = json.dumps(
        {"choices": [{"index": 0, "message": {"tool_calls": calls}, "finish_reason": "tool_calls"}]}
    )
    async with ScriptedUpstream(Script(body=body)) as up, cached(up, tool_calls=True) as gw:
        await gw.chat()
        second = await gw.chat()
        assert how(second) == "exact"
        streamed = await gw.chat(stream=True)
        assert how(streamed) == "exact"
        assert '"index":0' in streamed.text
        assert len(up.requests) == 1


# -- coalescing


async def test_a_thousand_identical_requests_make_one_call() -> None:
    async with ScriptedUpstream(Script(ttft=0.3)) as up, cached(up) as gw:
        limits = httpx.Limits(max_connections=1000)
        async with httpx.AsyncClient(base_url=gw.url, limits=limits, timeout=120, trust_env=False) as http:
            body = {"model": "m", "messages": user("x")}
            answers = await asyncio.gather(
                *(http.post("/v1/chat/completions", json=body) for _ in range(1000))
            )
        assert len(up.requests) == 1
        assert {a.content for a in answers} == {answers[0].content}
        kinds = [how(a) for a in answers]
        assert kinds.count("miss") == 1
        assert set(kinds) <= {"miss", "coalesced", "exact"}


async def test_late_joiners_of_a_stream_get_all_of_it() -> None:
    async with ScriptedUpstream(Script(repeat=5, itl=0.01)) as up, cached(up) as gw:

        async def ask(after: float) -> httpx.Response:
            await asyncio.sleep(after)
            return await gw.chat(stream=True)

        answers = await asyncio.gather(*(ask(i * 0.05) for i in range(5)))
        assert len(up.requests) == 1
        assert {a.content for a in answers} == {answers[0].content}
        assert [how(a) for a in answers] == ["miss", *["coalesced"] * 4]


@pytest.mark.parametrize("stream", [True, False])
async def test_the_call_goes_on_when_the_leader_leaves(stream: bool) -> None:
    script = Script(repeat=5, itl=0.03, ttft=0.2 if stream else 1.0)
    async with ScriptedUpstream(script) as up, cached(up) as gw:
        leader = asyncio.create_task(gw.chat(stream=stream))
        await eventually(lambda: len(up.requests) == 1)
        async with httpx.AsyncClient(base_url=gw.url, timeout=10, trust_env=False) as http:
            body = {"model": "m", "stream": stream, "messages": user("What is the capital of France?")}
            follower = asyncio.create_task(http.post("/v1/chat/completions", json=body))
            await asyncio.sleep(0.4)
            leader.cancel()
            answer = await follower
        assert how(answer) == "coalesced"
        assert answer.text.count("Paris") == 5
        assert up.gone == 0
        assert how(await gw.chat(stream=stream)) == "exact"  # and it was kept


async def test_the_call_ends_when_all_have_left() -> None:
    async with ScriptedUpstream(Script(repeat=100, itl=0.02)) as up, cached(up) as gw:
        tasks = [asyncio.create_task(gw.chat(stream=True)) for _ in range(3)]
        await asyncio.sleep(0.2)
        assert len(up.requests) == 1
        for task in tasks:
            task.cancel()
            await asyncio.sleep(0.02)
        await eventually(lambda: up.gone == 1)
    async with ScriptedUpstream(Script(ttft=5)) as up, cached(up) as gw:
        tasks = [asyncio.create_task(gw.chat()) for _ in range(3)]
        await asyncio.sleep(0.2)
        for task in tasks:
            task.cancel()
        await eventually(lambda: up.gone == 1)


async def test_all_hear_of_the_failure_of_their_one_call() -> None:
    async with ScriptedUpstream(Script(status=500, ttft=0.1)) as up, cached(up) as gw:
        answers = await asyncio.gather(*(gw.chat() for _ in range(5)))
        assert [a.status_code for a in answers] == [500] * 5
        assert len(up.requests) == 1
        up.script = Script()
        assert (await gw.chat()).status_code == 200


async def test_different_requests_do_not_wait_for_each_other() -> None:
    async with ScriptedUpstream(Script(ttft=0.1)) as up, cached(up) as gw:
        answers = await asyncio.gather(*(gw.chat(messages=user(str(i))) for i in range(5)))
        assert [how(a) for a in answers] == ["miss"] * 5
        assert len(up.requests) == 5


# -- tenants, invalidation, purge


KEYS = {"a": "key-of-acme-1234", "b": "key-of-beta-1234", "c": "key-of-club-1234", "x": "admin-key-12345"}


def as_(who: str) -> dict[str, str]:
    return {"authorization": f"Bearer {KEYS[who]}"}


def tenants() -> dict[str, Any]:
    return {
        "acme": {"keys": [KEYS["a"]]},
        "beta": {"keys": [KEYS["b"]], "cache_group": "club"},
        "club": {"keys": [KEYS["c"]]},
    }


async def test_tenants_share_only_what_the_settings_say() -> None:
    async with ScriptedUpstream() as up, cached(up, tenants=tenants()) as gw:
        assert how(await gw.chat(headers=as_("a"))) == "miss"
        assert how(await gw.chat(headers=as_("b"))) == "miss"
        assert how(await gw.chat(headers=as_("c"))) == "exact"
        assert how(await gw.chat(headers=as_("a"))) == "exact"
        assert (await gw.chat()).status_code == 401


async def test_keys_of_nobody_in_particular_do_not_share() -> None:
    async with ScriptedUpstream() as up, cached(up, server={"keys": [KEYS["a"], KEYS["b"]]}) as gw:
        assert how(await gw.chat(headers=as_("a"))) == "miss"
        assert how(await gw.chat(headers=as_("b"))) == "miss"


async def test_invalidation_by_tag_model_tenant_and_all() -> None:
    async with ScriptedUpstream() as up, cached(up) as gw:
        for body in ({"tags": ["docs"]}, {"models": ["m"]}, {"tenant": ""}, {"all": True}):
            tagged = {"x-hasten-cache-tags": "docs, other"}
            await gw.chat(headers=tagged)
            assert how(await gw.chat()) == "exact"
            response = await gw.http.post("/admin/cache/invalidate", json=body)
            assert response.status_code == 200, response.text
            assert how(await gw.chat(headers=tagged)) == "miss", body
        await gw.http.post("/admin/cache/invalidate", json={"tags": ["unrelated"]})
        assert how(await gw.chat()) == "exact"
        for wrong in ({}, {"tag": "docs"}, {"tags": "docs"}):
            assert (await gw.http.post("/admin/cache/invalidate", json=wrong)).status_code == 400


async def test_an_answer_begun_before_an_invalidation_is_not_kept_alive() -> None:
    async with ScriptedUpstream(Script(ttft=0.2)) as up, cached(up) as gw:
        asking = asyncio.create_task(gw.chat())
        await eventually(lambda: len(up.requests) == 1)
        await gw.http.post("/admin/cache/invalidate", json={"all": True})
        await asking
        assert how(await gw.chat()) == "miss"


async def test_a_tenant_sees_and_touches_its_own_only() -> None:
    server = {"admin_keys": [KEYS["x"]]}
    async with ScriptedUpstream() as up, cached(up, tenants=tenants(), server=server) as gw:
        denied = await gw.http.get("/admin/cache", headers=as_("a"))
        assert denied.status_code == 403
        await gw.chat(headers=as_("a"))
        await gw.chat(headers=as_("c"))
        purged = await gw.http.post("/admin/cache/purge", json={"tenant": "acme"}, headers=as_("x"))
        assert purged.json() == {"tenant": "acme", "purged": 1}
        assert how(await gw.chat(headers=as_("a"))) == "miss"
        assert how(await gw.chat(headers=as_("c"))) == "exact"
    async with ScriptedUpstream() as up, cached(up, tenants=tenants()) as gw:
        await gw.chat(headers=as_("a"))
        for who, code in (("b", 403), ("a", 200)):
            answer = await gw.http.post("/admin/cache/purge", json={"tenant": "acme"}, headers=as_(who))
            assert answer.status_code == code
        everything = await gw.http.post("/admin/cache/invalidate", json={"all": True}, headers=as_("b"))
        assert everything.json() == {"invalidated": ["tenant:club"]}
        assert (
            await gw.http.post("/admin/cache/invalidate", json={"models": ["m"]}, headers=as_("b"))
        ).status_code == 403


async def test_a_reload_keeps_the_cache_where_its_settings_are_the_same() -> None:
    async with ScriptedUpstream() as up, cached(up) as gw:
        await gw.chat()
        gw.worker.reload(gw.worker.settings)
        assert how(await gw.chat()) == "exact"


async def test_a_reload_that_turns_the_cache_on_opens_its_store(tmp_path: Path) -> None:
    async with ScriptedUpstream() as up, cached(up, exact=False, coalesce=False) as gw:
        assert gw.worker.app.cache is None
        kept = replace(gw.worker.settings.cache, exact=True, store="disk", path=str(tmp_path / "answers"))
        gw.worker.reload(replace(gw.worker.settings, cache=kept))
        await gw.chat()
        async with asyncio.timeout(5):
            while how(await gw.chat()) != "exact":
                await asyncio.sleep(0.01)
