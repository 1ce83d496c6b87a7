"""The stage where its parts meet: who may share what, what is renewed, what a client may not do."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import httpx
import msgspec
import pytest

from hasten.accept.anthropic_reply import AnthropicEncoder
from hasten.cache.admin import Admin
from hasten.cache.control import read
from hasten.cache.report import Report
from hasten.cache.stage import CacheStage
from hasten.cache.store.base import Stats
from hasten.cache.store.memory import MemoryStore
from hasten.errors import EngineReset, Forbidden, HastenError, InvalidField, NotFound
from hasten.testing import FakeSource, ScriptedUpstream
from hasten.types import Event, Reply, Request, Stream
from tests.cache.flights import settle
from tests.cache.parts import Counts, chunks_of, drain, request, settings, stream_of
from tests.cache.semantics import LIMIT, Rig, answer
from tests.cache.stores import Clock
from tests.cache.test_stage import KEYS, as_, cached, tenants

STORED = "how do i get my parcel back from your old shop"
ASKED = "how can i get my old parcel back from the shop"


class Engine:
    """Answers each request, streamed or whole, when it is let."""

    def __init__(self) -> None:
        self.asked: list[Request] = []
        self.go = asyncio.Event()
        self.go.set()
        self.streams: list[Stream] = []
        self.hold_streams = False
        self.text = "Hi"
        self.usage: dict[str, int] | None = None
        self.error: HastenError | None = None  # a stream ends with it

    async def __call__(self, asked: Request) -> Reply:
        self.asked.append(asked)
        asked.trace.engine, asked.trace.served_model = "e", "m"
        await self.go.wait()
        if not asked.stream:
            if self.error is not None:
                raise self.error
            body = msgspec.json.encode({**msgspec.json.decode(answer(self.text)), "usage": self.usage})
            return Reply(body=body, event=msgspec.json.decode(body, type=Event))
        stream = Stream(FakeSource())
        events: list[dict[str, Any]] = [
            {"choices": [{"index": 0, "delta": {"content": self.text}}]},
            {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": self.usage},
        ]
        for chunk in chunks_of(stream_of(events)):
            stream.feed(chunk)
        if self.hold_streams:
            self.streams.append(stream)
        else:
            stream.end(self.error)
        return Reply(content_type=b"text/event-stream", stream=stream)


def stage_of(rig: Rig | None = None, clock: Clock | None = None, **cache: Any) -> CacheStage:
    given = settings(**cache)
    if rig is not None:
        return CacheStage(given, rig.store, rig.cache, rig.counts, rig.report, clock=rig.clock)
    clock = clock or Clock()
    return CacheStage(given, MemoryStore(2**24, clock), None, Counts(), Report(), clock=clock)


def counts(stage: CacheStage) -> Any:
    seen = stage._count
    assert isinstance(seen, Counts)
    return seen.seen


def user(text: str, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], **more}


def text_of(reply: Reply) -> str:
    return (drain(reply).raw if reply.stream is not None else reply.body).decode()


async def settled(stage: CacheStage) -> None:
    """Wait until nothing runs in the background."""
    while stage._tasks:
        await asyncio.sleep(0.001)


# -- who shares a call


@pytest.mark.parametrize("headers", [{b"x-hasten-cache": b"exact"}, {b"x-hasten-cache-max-age": b"1"}])
@pytest.mark.parametrize("stream", [False, True])
async def test_who_wants_none_of_it_is_not_given_another_wording_by_way_of_a_leader(
    headers: dict[bytes, bytes], stream: bool
) -> None:
    async with Rig() as rig:
        stage, engine = stage_of(rig), Engine()
        engine.text = "Stored"
        text_of(await stage(request(**user(STORED)), engine))
        await settle()
        rig.pairs[STORED, ASKED] = LIMIT
        rig.clock.now += 60
        engine.text = "Fresh"
        rig.go.clear()  # the leader looks long
        leading = asyncio.create_task(stage(request(**user(ASKED, stream=stream)), engine))
        await settle()
        following = asyncio.create_task(stage(request(headers=headers, **user(ASKED, stream=stream)), engine))
        await settle()
        rig.go.set()
        assert "Stored" in text_of(await leading)
        assert "Fresh" in text_of(await following)


@pytest.mark.parametrize("stream", [False, True])
async def test_an_anthropic_client_beside_a_leader_with_a_semantic_hit_gets_its_answer(stream: bool) -> None:
    options: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": False}} if stream else {}
    async with Rig() as rig:
        stage, engine = stage_of(rig), Engine()
        text_of(await stage(request(**user(STORED)), engine))
        await settle()
        rig.pairs[STORED, ASKED] = LIMIT
        rig.go.clear()
        leading = asyncio.create_task(stage(request(**user(ASKED, **options)), engine))
        await settle()
        asked = request("messages", **user(ASKED, **options))
        following = asyncio.create_task(stage(asked, engine))
        await settle()
        rig.go.set()
        reply = await following
        await leading
        if reply.stream is None:
            assert reply.event is not None
        else:
            encoder = AnthropicEncoder(asked)
            assert b"Hi" in b"".join(encoder.chunk(chunk) for chunk in drain(reply).chunks)


async def test_nothing_is_left_behind() -> None:
    async with Rig() as rig:
        stage, engine = stage_of(rig), Engine()
        for i in range(200):
            asked = request(tenant=f"t{i}", **user(f"{ASKED} {i % 7}", stream=bool(i % 2)))
            text_of(await stage(asked, engine))
        await settled(stage)
        assert not stage._flights
        assert not stage._renewing


# -- renewal


@pytest.mark.parametrize("stream", [False, True])
async def test_a_stale_answer_is_renewed_once_and_keeps_its_tags_and_age(stream: bool) -> None:
    clock = Clock()
    stage, engine = stage_of(clock=clock, ttl=100, stale=1000), Engine()
    headers = {b"x-hasten-cache-tags": b"docs", b"x-hasten-cache-ttl": b"10"}
    text_of(await stage(request(headers=headers, stream=stream), engine))
    clock.now += 11
    engine.hold_streams, engine.text = True, "New"
    engine.go.clear()
    for _ in range(3):
        assert "Hi" in text_of(await stage(request(stream=stream), engine))
        await settle()
    engine.go.set()
    await settle()
    for _ in range(3):  # of a stream only the head is there
        text_of(await stage(request(stream=stream), engine))
        await settle()
    for held in engine.streams:
        held.end()
    await settle()
    assert len(engine.asked) == 2
    fresh = request(stream=stream)
    assert "New" in text_of(await stage(fresh, engine))
    assert "stale" not in fresh.trace.cache_why
    entry = await stage.store.get(stage.keys.of(fresh).key)
    assert entry is not None
    assert entry.expires - entry.created == pytest.approx(10)
    await stage.store.invalidate(["tag::docs"])
    assert await stage.store.get(entry.key) is None


@pytest.mark.parametrize("asked", [ASKED, STORED.upper()])
async def test_a_stale_answer_to_another_wording_is_renewed_in_that_wording(asked: str) -> None:
    async with Rig() as rig:
        stage, engine = stage_of(rig, ttl=100, stale=1000), Engine()
        headers = {b"x-hasten-cache-tags": b"docs", b"x-hasten-cache-ttl": b"10"}
        text_of(await stage(request(headers=headers, **user(STORED)), engine))
        await settle()
        rig.pairs[STORED, asked] = LIMIT
        rig.clock.now += 11
        engine.text = "New"
        engine.go.clear()
        for _ in range(2):  # nobody waits for the renewal, which is made once
            stale = request(**user(asked))
            assert "Hi" in text_of(await asyncio.wait_for(stage(stale, engine), 5))
            assert stale.trace.cache == "semantic"
            assert ", stale, being renewed; stored 11 s ago" in stale.trace.cache_why
            await settle()
        engine.go.set()
        await settled(stage)
        assert [seen.body for seen in engine.asked[1:]] == [stale.body]
        fresh = request(**user(asked))
        assert "New" in text_of(await stage(fresh, engine))
        assert fresh.trace.cache == "exact"
        entry = await stage.store.get(stage.keys.of(fresh).key)
        assert entry is not None
        assert entry.expires - entry.created == pytest.approx(10)
        assert "tag::docs" in entry.tags
        assert "Hi" in text_of(await stage(request(**user(STORED)), engine))  # and is renewed now
        await settled(stage)
        assert "New" in text_of(await stage(request(**user(STORED)), engine))
        assert not stage._renewing


@pytest.mark.parametrize("stream", [False, True])
async def test_renewals_are_counted_with_what_they_cost(stream: bool) -> None:
    clock = Clock()
    stage, engine = stage_of(clock=clock, ttl=100, stale=1000), Engine()
    text_of(await stage(request(stream=stream), engine))
    assert not any("renewal" in name for name, *_ in counts(stage))
    usage = {"prompt_tokens": 3, "completion_tokens": 4}
    for engine.usage, engine.error in ((usage, None), (None, EngineReset("gone"))):
        clock.now += 101
        assert "Hi" in text_of(await stage(request(stream=stream), engine))
        await settle()
    seen = counts(stage)
    assert seen["hasten_cache_renewals_total", "answered"] == 1
    assert seen["hasten_cache_renewals_total", "engine_reset"] == 1
    assert seen["hasten_cache_renewal_tokens_total", "input"] == 3
    assert seen["hasten_cache_renewal_tokens_total", "output"] == 4


# -- what is kept


@pytest.mark.parametrize("stream", [False, True])
async def test_what_was_invalidated_meanwhile_is_not_kept_at_all(stream: bool) -> None:
    async with Rig() as rig:
        for stage in (stage_of(), stage_of(rig)):
            engine = Engine()
            engine.go.clear()
            asking = asyncio.create_task(stage(request(stream=stream), engine))
            await settle()
            await stage.store.invalidate(["tenant:"])
            engine.go.set()
            assert "Hi" in text_of(await asking)
            await settle()
            assert stage.store.stats().entries == 0
            assert counts(stage)["hasten_cache_unstored_total", "invalidated"] == 1


@pytest.mark.parametrize("value", [b"1e400", b'"\xff"', b"-1e9999", b"[[1e400]]", b'{"a":1,"a":2}'])
async def test_what_only_the_engine_can_read_goes_to_it(value: bytes) -> None:
    stage, engine = stage_of(), Engine()
    asked = request()
    asked.body = asked.body[:-1] + b',"x_unknown":' + value + b"}"
    for _ in range(2):
        assert "Hi" in text_of(await stage(asked, engine))
        assert (asked.trace.cache, asked.trace.cache_why) == ("bypass", "unreadable")
    assert len(engine.asked) == 2


def test_a_digit_that_is_none_in_ascii() -> None:
    assert read({b"cache-control": b"max-age=\xb2"}).max_age is None


# -- the admin's pages


def admin_of(stage: CacheStage) -> Admin:
    return Admin(stage, stage.report, lambda: {"workers": 1, **dict.fromkeys(Stats._fields, 0)})


async def test_feedback_reaches_ones_own_entries_only() -> None:
    async with Rig() as rig:
        stage, engine = stage_of(rig), Engine()
        text_of(await stage(request(tenant="acme", **user(STORED)), engine))
        await settle()
        rig.pairs[STORED, ASKED] = LIMIT
        reply = await stage(request(tenant="acme", **user(ASKED)), engine)
        entry = dict(reply.headers)[b"x-hasten-cache-entry"].decode()
        wrong = msgspec.json.encode({"entry": entry, "right": False})
        with pytest.raises(NotFound):
            await admin_of(stage).feedback(wrong, "beta")
        again = request(tenant="acme", **user(ASKED))
        await stage(again, engine)
        assert again.trace.cache == "semantic"
        assert await admin_of(stage).feedback(wrong, "acme") == {"entry": entry, "right": False}
        again = request(tenant="acme", **user(ASKED))
        await stage(again, engine)
        assert again.trace.cache == "miss"
        for bad in (b'{"entry": "xyz", "right": true}', b'{"entry": "\xff"}', b"[]", b'{"entry": ""}'):
            with pytest.raises(InvalidField):
                await admin_of(stage).feedback(bad, None)


async def test_a_tenant_cannot_reach_anothers_entries_by_a_name() -> None:
    stage = stage_of()
    page = admin_of(stage)
    for tag in ("b:c", ":", "", "ü", "a" * 65, "a\nb"):
        with pytest.raises(InvalidField):
            await page.invalidate(msgspec.json.encode({"tags": [tag]}), "acme")
    with pytest.raises(InvalidField):
        await page.invalidate(msgspec.json.encode({"tags": [f"t{i}" for i in range(101)]}), "acme")
    for body in ({"tenant": "beta"}, {"tenant": "beta", "all": True}, {"models": ["m"]}):
        with pytest.raises(Forbidden):
            await page.invalidate(msgspec.json.encode(body), "acme")
    with pytest.raises(Forbidden):
        await page.purge(b'{"tenant": "beta"}', "acme")


async def test_a_tenant_sees_its_own_looks_only() -> None:
    async with Rig() as rig:
        stage, engine = stage_of(rig), Engine()
        for tenant in ("acme", "beta"):
            text_of(await stage(request(tenant=tenant, **user(f"{STORED} {tenant}")), engine))
            await settle()
            rig.pairs[f"{STORED} {tenant}", f"{ASKED} {tenant}"] = LIMIT
            await stage(request(tenant=tenant, **user(f"{ASKED} {tenant}")), engine)
        seen = msgspec.json.encode(admin_of(stage).view("acme"))
        assert b"shop acme" in seen
        assert b"shop beta" not in seen


async def test_no_admin_page_without_a_key() -> None:
    pages = [("GET", ""), ("POST", "/invalidate"), ("POST", "/purge"), ("POST", "/feedback")]
    server = {"admin_keys": [KEYS["x"]]}
    async with ScriptedUpstream() as up, cached(up, tenants=tenants(), server=server) as gw:
        for method, path in pages:

            async def ask(headers: dict[str, str], method: str = method, path: str = path) -> httpx.Response:
                return await gw.http.request(method, f"/admin/cache{path}", headers=headers, content=b"{}")

            assert (await ask({})).status_code == 401
            assert (await ask({"authorization": "Bearer wrong"})).status_code == 401
            assert (await ask(as_("a"))).status_code == 403
            assert (await ask(as_("x"))).status_code in (200, 400)


async def test_what_a_client_sends_is_in_no_header_of_the_cache() -> None:
    async with ScriptedUpstream() as up, cached(up) as gw:
        for _ in range(2):
            answered = await gw.chat(
                headers={"x-hasten-cache-tags": "zqx"}, user="zqx", x_unknown="zqx\r\nx: y"
            )
            for name, value in answered.headers.items():
                assert re.fullmatch(r"[ -~]*", value)
                assert "zqx" not in value, name
