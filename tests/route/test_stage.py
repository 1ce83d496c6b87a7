"""Routing over HTTP: two scripted tiers behind one name."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from hasten.testing import Script, ScriptedUpstream
from tests.gateway import Gateway, gateway

EASY, HARD = "easy", "hard " * 50


class ByLength:
    """A judge that takes a long text for hard."""

    def score(self, text: str) -> float:
        return 0.9 if len(text) > 100 else 0.1

    def prior(self) -> list[float]:
        return [i / 100 for i in range(101)]


class Two:
    """A gateway before a weak and a strong upstream."""

    def __init__(self, gate: Gateway, weak: ScriptedUpstream, strong: ScriptedUpstream) -> None:
        self.gate, self.weak, self.strong = gate, weak, strong

    async def ask(self, *turns: str, headers: dict[str, str] | None = None, **fields: Any) -> Any:
        said = [{"role": "assistant" if i % 2 else "user", "content": turn} for i, turn in enumerate(turns)]
        return await self.gate.chat(model="auto", messages=said, headers=headers or {}, **fields)

    async def went(self, *turns: str, **fields: Any) -> tuple[str, str]:
        """Return the tier that answered and the reason."""
        reply = await self.ask(*turns, **fields)
        assert reply.status_code == 200, reply.text
        return reply.headers["x-hasten-model"], reply.headers["x-hasten-route"]


@contextlib.asynccontextmanager
async def two(
    route: dict[str, Any] | None = None, weak: dict[str, Any] | None = None, **sections: Any
) -> AsyncIterator[Two]:
    async with (
        ScriptedUpstream(Script(tokens=("weak",))) as small,
        ScriptedUpstream(Script(tokens=("strong",))) as big,
    ):
        models = {
            "fast": {"engines": ["e0"], **(weak or {})},
            "smart": {"engines": ["e1"], "tags": ["eu"]},
            "auto": {"tiers": ["fast", "smart"], "route": {"holdback": 0, **(route or {})}},
        }
        async with gateway(small, big, models=models, **sections) as gate:
            stage = gate.worker.app.route
            assert stage is not None
            stage.complexity = ByLength()  # type: ignore[assignment]
            yield Two(gate, small, big)


async def test_the_difficulty_decides() -> None:
    async with two() as world:
        reply = await world.ask(EASY)
        assert reply.json()["choices"][0]["message"]["content"] == "weak"
        assert reply.headers["x-hasten-model"] == "fast"
        assert reply.headers["x-hasten-route"] == "easy"
        assert reply.headers["x-hasten-complexity"] == "0.100"
        assert "route;dur=" in reply.headers["server-timing"]
        assert await world.went(HARD) == ("smart", "hard")
        assert world.weak.requests[0].json()["model"] == "fast"  # the engine has no name of its own for it
        page = await world.gate.metrics()
        assert 'hasten_route_requests_total{model="auto",tier="fast",reason="easy"} 1' in page


async def test_an_explicit_choice_is_not_routed() -> None:
    async with two() as world:
        reply = await world.gate.chat(model="fast", messages=[{"role": "user", "content": HARD}])
        assert reply.headers["x-hasten-model"] == "fast"
        assert "x-hasten-route" not in reply.headers
        assert await world.went(HARD, headers={"x-hasten-route": "fast"}) == ("fast", "asked")
        wrong = await world.ask(EASY, headers={"x-hasten-route": "huge"})
        assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "x-hasten-route")


async def test_a_conversation_never_goes_down() -> None:
    async with two() as world:
        assert await world.went(HARD) == ("smart", "hard")
        assert await world.went(HARD, "answer", "yes") == ("smart", "conversation")
        assert await world.went(HARD, "answer", "yes", "more", "thanks, " + EASY) == ("smart", "conversation")
        assert await world.went(EASY) == ("fast", "easy")
        assert await world.went(EASY, "answer", "ok") == ("fast", "conversation")
        assert await world.went(EASY, "answer", "ok", "x", HARD) == ("smart", "harder")
        assert await world.went(EASY, "answer", "ok", "x", HARD, "y", "go on") == ("smart", "conversation")


async def test_an_unknown_conversation_is_judged_by_its_turns() -> None:
    async with two() as world:
        assert await world.went(HARD, "answer", "yes, go on") == ("smart", "hard")
        assert await world.went("hi", "hello", "and you?") == ("fast", "easy")


async def test_embeddings_are_not_routed() -> None:
    async with two() as world:
        reply = await world.gate.http.post("/v1/embeddings", json={"model": "auto", "input": "x"})
        assert reply.status_code == 400
        assert reply.json()["error"]["message"] == "embeddings are not routed: ask for one of fast, smart"


async def test_messages_are_routed() -> None:
    async with two() as world:
        asked = {"model": "auto", "max_tokens": 9, "messages": [{"role": "user", "content": HARD}]}
        reply = await world.gate.http.post("/v1/messages", json=asked)
        assert (reply.headers["x-hasten-model"], reply.headers["x-hasten-route"]) == ("smart", "hard")


async def test_streams_are_routed() -> None:
    async with two() as world:
        reply = await world.ask(HARD, stream=True)
        assert reply.headers["x-hasten-model"] == "smart"
        assert "strong" in reply.text
        stage = world.gate.worker.app.route
        assert stage is not None
        assert stage.routed["auto"].tiers[1].ttft.n == 1


async def test_what_the_request_needs() -> None:
    async with two(weak={"tools": False, "context": 500}) as world:
        tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
        assert await world.went(EASY, tools=[tool]) == ("smart", "needs tools")
        assert await world.went(EASY, max_tokens=600) == ("smart", "needs context")
        assert await world.went(EASY, headers={"x-hasten-require": "eu"}) == ("smart", "needs tags")
        refused = await world.ask(EASY, headers={"x-hasten-require": "eu, moon"})
        assert refused.status_code == 400
        assert refused.json()["error"]["code"] == "no_tier"


async def test_a_tenants_demand_holds_when_the_tier_fails() -> None:
    tenants = {"acme": {"keys": ["a" * 20], "require": ["eu"]}}
    async with two(tenants=tenants, server={"keys": ["b" * 20]}) as world:
        world.strong.script = Script(status=500, body="{}")
        mine = {"authorization": "Bearer " + "a" * 20}
        reply = await world.ask(EASY, headers=mine)
        assert reply.status_code == 500
        assert world.weak.requests == []
        other = await world.ask(HARD, headers={"authorization": "Bearer " + "b" * 20})
        assert (other.headers["x-hasten-model"], other.headers["x-hasten-route"]) == ("fast", "fallback")


async def test_a_tier_that_fails_is_stood_in_for() -> None:
    async with two(circuit={"failures": 1, "open": 60}) as world:
        world.weak.script = Script(status=500, body="{}")
        assert await world.went(EASY) == ("smart", "fallback")
        assert await world.went(EASY) == ("smart", "health")


async def test_a_deadline() -> None:
    async with two() as world:
        stage = world.gate.worker.app.route
        assert stage is not None
        for _ in range(20):
            stage.routed["auto"].tiers[1].e2e.saw(2.0)
        assert await world.went(HARD, headers={"x-hasten-deadline-ms": "900"}) == ("fast", "deadline")
        bad = await world.ask(HARD, headers={"x-hasten-deadline-ms": "soon"})
        assert bad.status_code == 400
        assert "x-hasten-deadline-ms" in bad.text


async def test_the_dial_and_the_holdback() -> None:
    async with two({"share": 0.0}) as world:
        assert await world.went(EASY) == ("smart", "off")
    async with two({"holdback": 1.0}) as world:
        assert await world.went(EASY) == ("smart", "holdback")


async def test_answers_of_another_demand_are_not_shared() -> None:
    async with two(cache={"semantic": False}) as world:
        assert await world.went(EASY) == ("fast", "easy")
        again = await world.ask(EASY)
        assert again.headers["x-hasten-cache"] == "exact"
        assert await world.went(EASY, headers={"x-hasten-route": "smart"}) == ("smart", "asked")
        assert await world.went(EASY, headers={"x-hasten-require": "eu"}) == ("smart", "needs tags")


@pytest.mark.parametrize("share", [0.2, 0.5])
async def test_a_share_over_http(share: float) -> None:
    async with two({"hold": {"strong_share": share}, "sticky": 0}) as world:
        strong = 0
        for i in range(300):
            tier, _ = await world.went(f"{i} " + (HARD if i % 3 else EASY))
            strong += tier == "smart"
        assert abs(strong / 300 - share) <= 0.07


async def test_a_reload_forgets_nothing() -> None:
    async with two() as world:
        await world.went(HARD)
        worker = world.gate.worker
        stage = worker.app.route
        assert stage is not None
        debt, scores = stage.routed["auto"].tiers[1].e2e, stage.routed["auto"].scores
        worker.reload(worker.app.settings)
        again = worker.app.route
        assert again is not None
        assert again is not stage
        assert again.routed["auto"].scores is scores
        assert again.routed["auto"].tiers[1].e2e is debt
        again.complexity = ByLength()  # type: ignore[assignment]
        assert await world.went(HARD, "answer", "yes") == ("smart", "conversation")


async def test_a_conversation_does_not_go_down_by_another_one_of_the_same_first_words() -> None:
    async with two() as world:
        assert await world.went("hi", headers={"x-hasten-route": "smart"}) == ("smart", "asked")
        assert await world.went("hi") == ("fast", "easy")  # somebody else
        assert await world.went("hi", "hello", "yes, go on") == ("smart", "conversation")


async def test_an_answer_for_one_in_a_hurry_is_not_kept_for_the_next() -> None:
    async with two(cache={"semantic": False}) as world:
        stage = world.gate.worker.app.route
        assert stage is not None
        for _ in range(20):
            stage.routed["auto"].tiers[1].e2e.saw(2.0)
        assert await world.went(HARD, headers={"x-hasten-deadline-ms": "900"}) == ("fast", "deadline")
        assert 'hasten_cache_unstored_total{reason="stand_in"} 1' in await world.gate.metrics()
        assert await world.went(HARD) == ("smart", "hard")
        assert (await world.ask(HARD)).headers["x-hasten-cache"] == "exact"
