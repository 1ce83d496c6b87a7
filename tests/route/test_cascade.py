"""The cascade over HTTP: who answers, what the client sees, what is called off, what is counted."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from hasten.anatomy import parts
from hasten.testing import Script
from tests.gateway import eventually
from tests.route.cascades import STRONG, Cascading, cascading, script
from tests.sockets import connected, post

GOOD = ("Paris", " is", " the", " capital", ".")
REFUSED = ("I'm", " sorry", ", but", " I", " cannot", " help", ".")
PARIS = "".join(STRONG)
JSON: dict[str, Any] = {"response_format": {"type": "json_object"}}

SHORT: dict[str, tuple[Script, dict[str, Any], str]] = {
    "a refusal": (script(*REFUSED), {}, "refusal"),
    "cut": (script("Paris", finish="length"), {}, "truncated"),
    "no JSON": (script("Sure", ": ", "{}"), JSON, "json"),
    "a loop": (script(*["round and round and "] * 20), {}, "repetition"),
    "empty": (script(""), {}, "empty"),
    "unsure": (script("Perth", logprob=-3.0), {}, "unsure"),
    "refused by the engine": (Script(status=500, body="{}"), {}, "engine_status"),
    "reset": (Script(reset_after=0), {}, "engine_reset"),
}


@pytest.mark.parametrize("speculative", [False, True], ids=["", "speculative"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_a_good_answer_passes(stream: bool, speculative: bool) -> None:
    slow = script(*STRONG, ttft=30.0)
    async with cascading(script(*GOOD), slow, speculative=speculative) as run:
        text, headers = (await run.stream())[:2] if stream else await run.ask()
        assert text == "".join(GOOD)
        assert headers["x-hasten-model"] == "weak"
        assert headers["x-hasten-route"] == "easy"
        assert "cascade;dur=" in headers["server-timing"]
        assert run.outcomes == {("passed", ""): 1}
        await eventually(lambda: run.strong.open == 0)
        trace = run.traces[0]
        assert trace.engine == "weak"
        if speculative:
            assert len(run.strong.requests) == run.strong.gone == 1
            assert [model for model, *_ in trace.discarded] == ["strong"]
            assert run.discarded["strong", "input"] > 0
        else:
            assert not run.strong.requests
            assert not trace.discarded


@pytest.mark.parametrize("speculative", [False, True], ids=["", "speculative"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(("weak", "fields", "reason"), SHORT.values(), ids=SHORT)
async def test_what_falls_short_is_raised(
    weak: Script, fields: dict[str, Any], reason: str, stream: bool, speculative: bool
) -> None:
    strong = script('{"a":', "1}") if fields else script(*STRONG)
    if speculative:  # else it is whole before the weak one, and has nothing to wait for
        strong = script(*(('{"a":', "1}") if fields else STRONG), ttft=0.2)
    async with cascading(weak, strong, speculative=speculative) as run:
        text, headers = (await run.stream(**fields))[:2] if stream else await run.ask(**fields)
        assert text == ('{"a":1}' if fields else PARIS)
        assert headers["x-hasten-route"] == f"raised: {reason}"
        assert (headers["x-hasten-model"], headers["x-hasten-engine"]) == ("strong", "strong")
        assert run.outcomes == {("raised", reason): 1}
        assert len(run.strong.requests) == 1
        trace = run.traces[0]
        assert trace.served_model == "strong"
        assert trace.attempts == 2
        paid = not reason.startswith("engine") and (reason != "empty" or not stream)
        assert [model for model, *_ in trace.discarded] == ["weak"] * paid


async def test_the_discarded_answer_is_on_the_record() -> None:
    async with cascading(script(*REFUSED)) as run:
        reply = (await run.gw.chat()).json()
        assert reply["usage"]["completion_tokens"] == len(STRONG)
        assert run.traces[0].discarded == [("weak", 10, len(REFUSED))]
        assert run.discarded == {("weak", "input"): 10, ("weak", "output"): len(REFUSED)}
        assert run.traces[0].output_tokens == len(STRONG)
    weak, strong = 10 * 1 + len(REFUSED) * 2, 10 * 10 + len(STRONG) * 20
    assert run.cost == run.measured == pytest.approx((weak + strong) / 1e6)


# -- streams


async def test_nothing_is_shown_before_the_judge_has_seen_enough() -> None:
    async with cascading(script(*["word "] * 40, itl=0.02), hold_tokens=10) as run:
        text, _, events = await run.stream()
        assert text == "word " * 40
        assert len(events) == 41
        trace = run.traces[0]
        assert trace.ttft is not None
        assert 0.15 < trace.ttft < 0.7
        held = parts(trace)["cascade"]
        assert 0.15 < held < trace.ttft
        assert trace.tokens_seen == 40


async def test_what_fails_after_the_hold_is_not_taken_back() -> None:
    texts = (*["word "] * 12, *["round and round and "] * 20)
    async with cascading(script(*texts), hold_tokens=10) as run:
        assert (await run.stream())[0] == "".join(texts)
    async with cascading(script(*texts), hold_tokens=0) as run:
        assert (await run.stream())[0] == PARIS


async def test_a_weak_stream_that_falls_short_is_cancelled() -> None:
    async with cascading(script(*REFUSED, *["word "] * 2000, itl=0.01), hold_tokens=8) as run:
        text, headers, _ = await run.stream()
        assert text == PARIS
        assert headers["x-hasten-route"] == "raised: refusal"
        await eventually(lambda: run.weak.gone == 1)
        assert 8 <= run.traces[0].discarded[0][2] < 1000


async def test_the_weak_tier_dies_while_held() -> None:
    async with cascading(script(*GOOD, reset_after=3)) as run:
        text, headers, _ = await run.stream()
        assert text == PARIS
        assert headers["x-hasten-route"] == "raised: engine_reset"
        assert run.traces[0].discarded[0][2] == 3


async def test_the_weak_tier_dies_after_it_was_shown() -> None:
    async with cascading(script(*["word "] * 20, reset_after=10), hold_tokens=5) as run:
        text, _, events = await run.stream()
        assert text == "word " * 10
        assert "error" in events[-1]
        assert not run.strong.requests


@pytest.mark.parametrize("speculative", [False, True], ids=["", "speculative"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_the_strong_tier_dies(stream: bool, speculative: bool) -> None:
    dead = Script(status=500, body="{}")
    async with cascading(script(*REFUSED), dead, speculative=speculative) as run:
        text, headers = (await run.stream())[:2] if stream else await run.ask()
        assert text == "".join(REFUSED)
        assert headers["x-hasten-route"] == "kept: strong failed"
        assert headers["x-hasten-model"] == "weak"
        assert run.outcomes == {("kept", "refusal"): 1}
        assert run.traces[0].reasons == ["strong: engine_status"]
        assert not run.traces[0].discarded


async def test_both_die() -> None:
    async with cascading(script(*GOOD, reset_after=2), Script(status=500, body="{}")) as run:
        assert (await run.gw.chat(stream=True)).status_code == 500
        assert run.outcomes == {("failed", "engine_reset"): 1}
        assert run.discarded["weak", "output"] == 2
    async with cascading(Script(reset_after=0), Script(reset_after=0)) as run:
        assert (await run.gw.chat()).status_code == 502


async def test_a_slow_client_holds_the_weak_engine() -> None:
    many = [" ".join(map(str, range(i, i + 800))) for i in range(3000)]
    async with cascading(script(*many, logprob=-0.1), hold_tokens=2, logprobs=True) as run:
        async with connected(run.gw.port) as (reader, writer):
            writer.write(post(b'{"model":"m","messages":[],"stream":true}'))
            await reader.readuntil(b" 100 ")
            await asyncio.sleep(0.3)
            assert run.inflight == 1  # 10 MB are not all in memory
        await eventually(lambda: run.weak.open == 0)


# -- clients that leave


@pytest.mark.parametrize("speculative", [False, True], ids=["", "speculative"])
@pytest.mark.parametrize("stream", [b"true", b"false"], ids=["streamed", "whole"])
@pytest.mark.parametrize("raised", [False, True], ids=["at the weak tier", "at the strong tier"])
async def test_the_client_leaves(raised: bool, stream: bytes, speculative: bool) -> None:
    ttft = 0.0 if stream == b"true" else 30.0
    weak = script(*REFUSED) if raised else script(*GOOD, *["word "] * 50, ttft=ttft, itl=0.5)
    async with cascading(weak, script(*STRONG, ttft=30.0), speculative=speculative) as run:
        async with connected(run.gw.port) as (_, writer):
            writer.write(post(b'{"model":"m","messages":[],"stream":%b}' % stream))
            await eventually(lambda: len(run.weak.requests) == 1)
            if raised or speculative:
                await eventually(lambda: len(run.strong.requests) == 1)
            await asyncio.sleep(0.05)
        await eventually(lambda: run.weak.open == run.strong.open == 0 or run.inflight == 0)
        await eventually(lambda: run.weak.gone + run.strong.gone == (not raised) + (raised or speculative))
        assert run.inflight == 0
        assert run.gw.worker.server.active == 0


# -- speculation


async def test_a_strong_answer_that_is_first_is_served() -> None:
    async with cascading(script(*GOOD, ttft=30.0), speculative=True) as run:
        text, headers = await run.ask()
        assert text == PARIS
        assert headers["x-hasten-route"] == "raised: slow"
        await eventually(lambda: run.weak.gone == 1)
        assert run.traces[0].discarded[0][0] == "weak"


async def test_a_speculative_stream_is_served_from_its_beginning() -> None:
    async with cascading(script(*REFUSED, itl=0.03), script(*STRONG), speculative=True) as run:
        text, headers, _ = await run.stream()
        assert text == PARIS
        assert headers["x-hasten-route"] == "raised: refusal"


async def test_what_a_vain_stream_said_is_counted() -> None:
    async with cascading(
        script(*GOOD, ttft=0.2), script(*["word "] * 3000, itl=0.01), speculative=True
    ) as run:
        assert (await run.stream())[0] == "".join(GOOD)
        await eventually(lambda: run.strong.gone == 1)
        assert 1 <= run.discarded["strong", "output"] < 1000


# -- log-probabilities


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_logprobs_are_the_judges_alone(stream: bool) -> None:
    async with cascading(script(*GOOD, logprob=-0.1), logprobs=True, hold_tokens=2) as run:
        reply = await run.gw.chat(stream=stream)
        assert run.weak.requests[0].json()["logprobs"] is True
        assert '"logprob"' not in reply.text
        assert '"logprobs":null' in reply.text
        assert (await run.gw.chat(stream=stream, logprobs=True)).text.count('"logprob"')


async def test_the_strong_tier_is_asked_as_the_client_asked() -> None:
    async with cascading(script(*REFUSED, logprob=-0.1), logprobs=True) as run:
        await run.ask()
        assert "logprobs" not in run.strong.requests[0].json()
        assert run.strong.requests[0].json()["model"] == "strong"


# -- where there is no cascade


async def passes_unjudged(run: Cascading, **fields: Any) -> None:
    reply = await run.gw.chat(**fields)
    assert "sorry" in reply.text
    assert not run.outcomes
    assert not run.strong.requests


async def test_a_chosen_tier_is_not_judged() -> None:
    async with cascading(script(*REFUSED)) as run:
        await passes_unjudged(run, headers={"x-hasten-route": "weak"})


async def test_several_choices_are_not_judged() -> None:
    async with cascading(script(*REFUSED)) as run:
        await passes_unjudged(run, n=2)


async def test_nor_without_a_healthy_stronger_tier() -> None:
    async with cascading(script(*REFUSED)) as run:
        member = run.gw.worker.app.dispatch.members["strong"]
        for _ in range(5):
            member.circuit.failure()
        await passes_unjudged(run)
