"""Named routes: which chats they are for, and what is done with them."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hasten import config
from hasten.engines import weights
from hasten.errors import SettingsError
from hasten.fields import ChatFields
from hasten.route import named
from hasten.route.named import NamedStage, Vector
from hasten.route.system import Mode, put_system
from hasten.testing import FakeEngine, ScriptedUpstream
from hasten.types import Request
from tests.cache.parts import TREE, Counts, request
from tests.cache.semantics import embed as bag_of_words
from tests.gateway import Gateway, eventually, gateway

unhurried = settings(deadline=None)  # a shared machine may stall for longer than an example takes
GREETING = {"patterns": [r"^(hi|hello)\b"], "to": "other"}
PARCEL = {"examples": ["where is my parcel", "my parcel has not come"], "to": "other"}


def user(text: str, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], **more}


class Embedder:
    """Bags of words; ``error``: what it raises; ``hang``: whether it ever ends."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.error: RuntimeError | None = None
        self.hang = False

    async def __call__(self, texts: Sequence[str]) -> Sequence[Vector]:
        self.texts += texts
        if self.error is not None:
            raise self.error
        if self.hang:
            await asyncio.sleep(3600)
        return bag_of_words(texts)


class Rig:
    """The stage before an engine that answers anything."""

    def __init__(self, embed: Embedder | None = None, models: Any = None, **routes: Any) -> None:
        tree = {**TREE, "models": models or TREE["models"], "routes": routes}
        self.counts = Counts()
        self.engine = FakeEngine("e")
        self.stage = NamedStage(config.build(tree, environ={}), embed, self.counts)

    async def ready(self) -> Rig:
        while self.stage.state == "loading":
            await asyncio.sleep(0)
        return self

    async def ask(self, text: str = "Hello there", **more: Any) -> Request:
        """Return what the engine gets."""
        await self.stage(request(**{**user(text), **more}), self.engine.send)
        return self.engine.requests[-1]

    def counted(self, route: str, how: str) -> int:
        return self.counts.seen["hasten_route_named_total", route, how]


# -- which


async def test_a_pattern_leads() -> None:
    rig = Rig(greeting=GREETING)
    asked = request(**user("  HELLO there"))
    body, fields = asked.body, asked.fields
    await rig.stage(asked, rig.engine.send)
    assert (asked.model, asked.models, asked.trace.way) == ("other", ("other",), "named: greeting")
    assert asked.body is body
    assert asked.fields is fields
    assert rig.counted("greeting", "pattern") == 1
    assert [stage for stage, *_ in asked.trace.spans] == ["named"]


async def test_others_pass() -> None:
    rig = Rig(greeting=GREETING)
    asked = await rig.ask("I said hello")
    assert (asked.model, asked.models, asked.trace.way) == ("m", None, "")
    assert not rig.counts.seen


async def test_only_what_the_user_said_last_counts() -> None:
    rig = Rig(greeting=GREETING)
    said = [
        ("system", "Hello"),
        ("user", "Hello"),
        ("assistant", "Hello"),
        ("user", "Bye"),
        ("tool", "Hello"),
    ]
    messages = [{"role": role, "content": text} for role, text in said]
    assert (await rig.ask(messages=messages)).model == "m"
    parts = [{"type": "image_url", "image_url": {"url": "x"}}, {"type": "text", "text": "hi, what is this?"}]
    assert (await rig.ask(messages=[{"role": "user", "content": parts}])).model == "other"
    for nothing in ([], [{"role": "user", "content": None}], [{"role": "assistant", "content": "hi"}]):
        assert (await rig.ask(messages=nothing)).model == "m"


async def test_only_chats_are_led() -> None:
    rig = Rig(all={"patterns": ["."], "to": "other"})
    for kind in ("completions", "embeddings"):
        asked = request(kind)
        await rig.stage(asked, rig.engine.send)
        assert asked.model == "m"


@pytest.mark.parametrize(
    ("only", "led"),
    [
        ({"models": ["m"]}, True),
        ({"models": ["other"]}, False),
        ({"tenants": ["acme"]}, True),
        ({"tenants": ["beta"]}, False),
    ],
)
async def test_models_and_tenants(only: dict[str, list[str]], led: bool) -> None:
    rig = Rig(greeting={**GREETING, "to": None, "cache": {"policy": "bypass"}, **only})
    asked = request(tenant="acme", **user("hi"))
    await rig.stage(asked, rig.engine.send)
    assert (asked.trace.named == "greeting") == led


async def test_an_unknown_model_stays_unknown() -> None:
    assert (await Rig(greeting=GREETING).ask("hi", model="none")).trace.way == ""


async def test_long_texts_are_looked_at_in_part() -> None:
    rig = Rig(end={"patterns": ["needle"], "to": "other"})
    assert (await rig.ask("x" * 990 + "needle")).model == "other"
    assert (await rig.ask("x" * 2000 + "needle")).model == "m"


WORDS = ["hi", "refund", "parcel", "order", "thanks"]


@unhurried
@given(st.lists(st.sampled_from(WORDS), min_size=1, max_size=5), st.lists(st.sampled_from(WORDS), max_size=4))
def test_the_first_in_the_files_order_wins(patterns: list[str], text: list[str]) -> None:
    routes: dict[str, Any] = {f"r{i}": {"patterns": [rf"\b{word}\b"]} for i, word in enumerate(patterns)}
    asked = asyncio.run(Rig(**routes).ask(" ".join(["so", *text])))
    expected = next((f"r{i}" for i, word in enumerate(patterns) if word in text), "")
    assert asked.trace.named == expected


# -- examples


async def test_an_example_leads() -> None:
    embed = Embedder()
    rig = await Rig(embed, parcel=PARCEL, greeting=GREETING).ready()
    assert embed.texts == PARCEL["examples"]
    assert (await rig.ask("so where is my parcel")).trace.way == "named: parcel"
    assert (await rig.ask("what is the capital of France")).trace.way == ""
    assert rig.counted("parcel", "example") == 1


async def test_patterns_come_before_examples() -> None:
    embed = Embedder()
    rig = await Rig(embed, parcel=PARCEL, lost={"patterns": ["parcel"]}).ready()
    assert (await rig.ask("where is my parcel")).trace.named == "lost"
    assert len(embed.texts) == 2


async def test_nothing_is_embedded_for_closed_routes() -> None:
    embed = Embedder()
    rig = await Rig(embed, parcel={**PARCEL, "models": ["other"]}).ready()
    await rig.ask("where is my parcel")
    assert len(embed.texts) == 2


async def test_the_threshold_and_the_order_decide() -> None:
    far = {"examples": ["where is my order"], "threshold": 0.7}
    near = {"examples": ["where is my parcel"], "threshold": 0.9}
    rig = await Rig(Embedder(), far=far, near=near).ready()
    assert (await rig.ask("where is my parcel")).trace.named == "far"
    rig = await Rig(Embedder(), far={**far, "threshold": 0.9}, near=near).ready()
    assert (await rig.ask("where is my parcel")).trace.named == "near"


async def test_a_slow_embedder_is_not_waited_for() -> None:
    embed = Embedder()
    rig = await Rig(embed, parcel={**PARCEL, "timeout": 0.01}).ready()
    embed.hang = True
    assert (await rig.ask("where is my parcel")).model == "m"
    assert rig.counted("", "timeout") == 1


async def test_a_failing_embedder_is_passed_by() -> None:
    embed = Embedder()
    rig = await Rig(embed, parcel=PARCEL).ready()
    embed.error = RuntimeError("out of order")
    assert (await rig.ask("where is my parcel")).model == "m"
    assert rig.counted("", "failed") == 1


async def test_a_busy_embedder_is_passed_by(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(named, "LOOKS", 1)
    embed = Embedder()
    rig = await Rig(embed, parcel={**PARCEL, "timeout": 60.0}).ready()
    embed.hang = True
    first = asyncio.create_task(rig.ask("where is my parcel"))
    await asyncio.sleep(0)
    assert (await rig.ask("where is my parcel")).model == "m"
    assert rig.counted("", "busy") == 1
    first.cancel()


async def test_examples_are_not_waited_for_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(named, "RETRY", 0.0)
    embed = Embedder()
    embed.error = RuntimeError("not yet")
    rig = Rig(embed, parcel=PARCEL, greeting=GREETING)
    assert rig.stage.state == "loading"
    assert (await rig.ask("where is my parcel")).model == "m"
    assert rig.counted("", "loading") == 1
    await eventually(lambda: rig.stage.state == "failed")
    assert (await rig.ask("hi")).model == "other"
    embed.error = None
    await eventually(lambda: rig.stage.state == "ready")
    assert (await rig.ask("where is my parcel")).model == "other"
    rig.stage.close()


async def test_without_an_embedder_patterns_still_lead() -> None:
    rig = Rig(None, parcel=PARCEL, greeting=GREETING)
    assert rig.stage.state == "failed"
    assert (await rig.ask("where is my parcel")).model == "m"
    assert (await rig.ask("hi")).model == "other"


async def test_what_was_learnt_is_kept() -> None:
    rig = await Rig(Embedder(), parcel=PARCEL).ready()
    tree = {**TREE, "routes": {"parcel": PARCEL}}
    embed = Embedder()
    stage = NamedStage(config.build(tree, environ={}), embed, rig.counts, rig.stage.known)
    assert (stage.state, embed.texts) == ("ready", [])


# -- the client's word, and what a request needs


async def test_a_clients_choice_of_a_tier_stands() -> None:
    rig = Rig(greeting={**GREETING, "system": "Be brief."})
    asked = request(headers={b"x-hasten-route": b"m"}, **user("hi"))
    await rig.stage(asked, rig.engine.send)
    assert (asked.model, asked.models) == ("m", None)
    assert b"Be brief." in asked.body


NAMES = ["x-hasten-cache", "x-hasten-cache-ttl", "x-hasten-cache-tags", "x-hasten-cache-max-age"]


@unhurried
@given(st.dictionaries(st.sampled_from([n.encode() for n in NAMES]), st.binary(min_size=1, max_size=4)))
def test_a_clients_headers_win(sent: dict[bytes, bytes]) -> None:
    rig = Rig(greeting={**GREETING, "cache": {"policy": "exact", "ttl": 60, "tags": ["faq", "hi"]}})
    asked = request(headers=dict(sent), **user("hi"))
    asyncio.run(rig.stage(asked, rig.engine.send))
    ours = {b"x-hasten-cache": b"exact", b"x-hasten-cache-ttl": b"60", b"x-hasten-cache-tags": b"faq,hi"}
    assert asked.headers == {**ours, **sent}


async def test_no_model_gets_what_it_cannot_do() -> None:
    models = {
        "m": {"engines": ["e"]},
        "other": {"engines": ["e"], "tools": False, "tags": ["eu"], "fallback": ["us", "de"]},
        "us": {"engines": ["e"]},
        "de": {"engines": ["e"], "tags": ["eu"]},
    }
    rig = Rig(models=models, greeting=GREETING)
    assert (await rig.ask("hi")).models == ("other", "us", "de")
    asked = request(headers={b"x-hasten-require": b"eu"}, **user("hi"))
    await rig.stage(asked, rig.engine.send)
    assert asked.models == ("other", "de")
    tools = [{"type": "function", "function": {"name": "f"}}]
    asked = await rig.ask("hi", tools=tools)
    assert (asked.model, asked.models) == ("m", None)
    assert rig.counted("greeting", "lacks tools") == 1


async def test_no_name_is_led_to_where_all_tiers_lack_what_it_needs() -> None:
    plain: dict[str, Any] = {"engines": ["e"], "tools": False}
    models = {"m": {"engines": ["e"]}, "a": plain, "b": plain, "other": {"tiers": ["a", "b"]}}
    rig = Rig(models=models, greeting=GREETING)
    tools = [{"type": "function", "function": {"name": "f"}}]
    assert (await rig.ask("hi", tools=tools)).model == "m"
    assert rig.counted("greeting", "lacks tools") == 1
    assert (await rig.ask("hi")).model == "other"


# -- the system prompt

CONTENT = st.one_of(
    st.text(max_size=8),
    st.none(),
    st.lists(st.builds(lambda t: {"type": "text", "text": t, "cache": 1.5}, st.text(max_size=8)), max_size=2),
)
MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "developer", "user", "assistant"]), "content": CONTENT},
    optional={"name": st.text(max_size=4), "x": st.integers(-(2**63), 2**63)},
)
SYSTEM = ("system", "developer")


@unhurried
@given(st.lists(MESSAGE, max_size=5), st.sampled_from(["if_missing", "prepend", "replace"]))
def test_only_the_system_prompt_changes(messages: list[dict[str, Any]], mode: Mode) -> None:
    asked = request(messages=messages, seed=2**60 + 1, unknown={"deep": [1.0, None]})
    before = msgspec.json.decode(asked.body)
    put_system(asked, "Be brief.", mode)
    after = msgspec.json.decode(asked.body)
    assert asked.fields == msgspec.json.decode(asked.body, type=ChatFields)
    assert {**after, "messages": messages} == before
    others = [m for m in messages if m["role"] not in SYSTEM]
    assert [m for m in after["messages"] if m["role"] not in SYSTEM] == others
    systems = [m for m in after["messages"] if m["role"] in SYSTEM]
    if mode == "replace":
        assert systems == [{"role": "system", "content": "Be brief."}]
    elif mode == "prepend":
        assert "Be brief." in str(after["messages"][0]["content"])
        assert after["messages"][0]["role"] in SYSTEM
        assert len(systems) == max(1, len(messages) - len(others)) + (
            len(others) != len(messages) and messages[0]["role"] not in SYSTEM
        )
    elif len(others) < len(messages):
        assert after == before
    else:
        assert after["messages"][0] == {"role": "system", "content": "Be brief."}


def test_a_prompt_is_put_before_the_clients_own() -> None:
    for content, expected in (
        ("Rhyme.", "Be brief.\n\nRhyme."),
        (None, "Be brief."),
        (
            [{"type": "text", "text": "Rhyme."}],
            [{"type": "text", "text": t} for t in ("Be brief.", "Rhyme.")],
        ),
    ):
        asked = request(messages=[{"role": "developer", "content": content, "name": "x"}])
        put_system(asked, "Be brief.", "prepend")
        told = msgspec.json.decode(asked.body)["messages"]
        assert told == [{"role": "developer", "content": expected, "name": "x"}]


# -- over HTTP


def body_of(up: ScriptedUpstream, at: int = -1) -> Any:
    return up.requests[at].json()


def how(response: Any) -> tuple[str, str, str | None]:
    headers = response.headers
    return headers["x-hasten-cache"], headers["x-hasten-model"], headers.get("x-hasten-route")


MODELS = {"m": {"engines": ["e0"]}, "small": {"engines": ["e0"]}, "auto": {"tiers": ["small", "m"]}}
CACHE = {"semantic": False}


async def test_a_chat_is_led_over_http() -> None:
    routes = {"greeting": {"patterns": ["^hi"], "to": "small", "system": "Be brief."}}
    async with ScriptedUpstream() as up, gateway(up, models=MODELS, routes=routes) as gw:
        answer = await gw.chat(**user("Hi there", x_unknown=[1.50]))
        assert how(answer) == ("bypass", "small", "named: greeting")
        assert "named;dur=" in answer.headers["server-timing"]
        told = body_of(up)
        assert told["model"] == "small"
        assert told["messages"][0] == {"role": "system", "content": "Be brief."}
        assert told["x_unknown"] == [1.50]
        assert how(await gw.chat()) == ("bypass", "m", None)
        assert 'hasten_route_named_total{route="greeting",how="pattern"} 1' in await gw.metrics()


async def test_a_name_with_tiers_adds_its_reason() -> None:
    routes = {"greeting": {"patterns": ["^hi"], "to": "auto"}}
    async with ScriptedUpstream() as up, gateway(up, models=MODELS, routes=routes) as gw:
        answer = await gw.chat(**user("Hi there"))
        assert (answer.headers["x-hasten-route"] or "").startswith("named: greeting, ")
        assert answer.headers["x-hasten-model"] in ("small", "m")


async def test_the_cache_is_steered() -> None:
    routes = {
        "never": {"patterns": ["today"], "cache": {"policy": "bypass"}},
        "brief": {"patterns": ["briefly"], "system": "Be brief."},
        "faq": {"patterns": ["faq"], "cache": {"tags": ["faq"], "ttl": 3600}},
    }
    async with ScriptedUpstream() as up, gateway(up, routes=routes, cache=CACHE) as gw:
        for _ in range(2):
            assert (await gw.chat(**user("the news of today"))).headers["x-hasten-cache"] == "bypass"
        sent = {"x-hasten-cache": "refresh"}
        assert (await gw.chat(**user("the news of today"), headers=sent)).headers["x-hasten-cache"] == "miss"
        assert how(await gw.chat(**user("briefly"))) == ("miss", "m", "named: brief")
        assert how(await gw.chat(**user("briefly"))) == ("exact", "m", "named: brief")
        await gw.chat(**user("faq"))
        assert (await gw.chat(**user("faq"))).headers["x-hasten-cache"] == "exact"
        gone = await gw.http.post("/admin/cache/invalidate", json={"tags": ["faq"]})
        assert gone.status_code == 200
        assert (await gw.chat(**user("faq"))).headers["x-hasten-cache"] == "miss"
        assert (await gw.chat(**user("briefly"))).headers["x-hasten-cache"] == "exact"


async def test_a_changed_prompt_is_another_request() -> None:
    routes = {"brief": {"patterns": ["^hi"], "system": "Be brief.", "tenants": ["a"]}}
    tenants = {n: {"keys": [n * 20], "cache_group": "one"} for n in ("a", "b")}
    async with ScriptedUpstream() as up, gateway(up, routes=routes, cache=CACHE, tenants=tenants) as gw:
        for name, cache in (("a", "miss"), ("b", "miss"), ("a", "exact"), ("b", "exact")):
            answer = await gw.chat(**user("hi"), headers={"authorization": f"Bearer {name * 20}"})
            assert answer.headers["x-hasten-cache"] == cache
            assert ("x-hasten-route" in answer.headers) == (name == "a")
        assert [len(body_of(up, i)["messages"]) for i in (0, 1)] == [2, 1]


async def test_anthropics_format_is_led_too() -> None:
    routes = {
        "greeting": {"patterns": ["^hi"], "to": "small", "system": "Be brief.", "system_mode": "prepend"}
    }
    async with ScriptedUpstream() as up, gateway(up, models=MODELS, routes=routes) as gw:
        told = {"model": "m", "max_tokens": 9, "system": "Rhyme.", **user("Hi there")}
        answer = await gw.http.post("/v1/messages", json=told)
        assert how(answer) == ("bypass", "small", "named: greeting")
        assert body_of(up)["messages"][0]["content"] == "Be brief.\n\nRhyme."


async def test_a_stale_answer_is_renewed_where_it_came_from() -> None:
    routes = {"greeting": {"patterns": ["^hi"], "to": "small", "cache": {"ttl": 1}}}
    cache = {**CACHE, "stale": 600}
    async with ScriptedUpstream() as up, gateway(up, models=MODELS, routes=routes, cache=cache) as gw:
        await gw.chat(**user("hi"))
        await asyncio.sleep(1.05)
        assert (await gw.chat(**user("hi"))).headers["x-hasten-cache-why"].startswith("exact key, stale")
        await eventually(lambda: len(up.requests) == 2)
        assert [body_of(up, i)["model"] for i in (0, 1)] == ["small", "small"]


async def test_without_routes_there_is_no_stage() -> None:
    async with ScriptedUpstream() as up, gateway(up) as gw:
        assert gw.worker.app.named is None
        assert gw.worker.app.embedding is None
        assert "named" not in (await gw.chat()).headers["server-timing"]


# -- the settings

WRONG = {
    "{}": "routes.r.patterns (line 3): needs patterns, examples or both",
    "{patterns: ['(a+)+b']}": "routes.r.patterns.0 (line 3): too slow on some texts",
    "{patterns: [x, '(']}": "routes.r.patterns.1 (line 3): no valid regular expression: missing )",
    "{patterns: [x], to: n}": "routes.r.to (line 3): 'n' is not defined; there are: m",
    "{patterns: [x], models: [m, n]}": "routes.r.models.1 (line 3): 'n' is not defined; there are: m",
    "{patterns: [x], tenants: [t]}": "routes.r.tenants.0 (line 3): 't' is not defined; there are: none",
    "{patterns: [x], system_mode: replace}": "routes.r.system_mode (line 3): needs system",
    "{patterns: [x], cache: {policy: never}}": "routes.r.cache.policy (line 3): allowed: bypass, ",
    "{patterns: [x], cache: {tags: ['a b']}}": "routes.r.cache.tags.0 (line 3): expected str matching",
    "{examples: [x], threshold: 2}": "routes.r.threshold (line 3): expected float <= 1",
    "{pattern: [x]}": "routes.r.pattern (line 3): unknown key; did you mean 'patterns'?",
}


@pytest.mark.parametrize(("route", "problem"), WRONG.items(), ids=list(WRONG))
def test_what_is_wrong_with_routes(route: str, problem: str) -> None:
    text = (
        "engines: {e: {kind: openai, base_url: 'http://h/v1'}}\nmodels: {m: {engines: [e]}}\n"
        f"routes: {{r: {route}}}"
    )
    with pytest.raises(SettingsError) as found:
        config.parse(text, environ={})
    assert any(p.startswith(problem) for p in found.value.problems), found.value.problems


# -- with the real embedder

MISSING = [
    n for n in ("numpy", "onnxruntime", "tokenizers", "usearch") if importlib.util.find_spec(n) is None
]
PATH = None if MISSING else weights.resolve("all-minilm-l6-v2")
REAL = {
    "parcel": {
        "examples": [
            "Where is my parcel?",
            "My order has not arrived yet.",
            "Track my delivery.",
            "My package is late.",
        ]
    },
    "refund": {"examples": ["I want my money back.", "How do I get a refund?", "Please refund my order."]},
}
SAID = {
    "where's my package, it should have come yesterday": "parcel",
    "Can I track the delivery of my order?": "parcel",
    "can you refund me": "refund",
    "Give me my money back please": "refund",
    "What is the capital of France?": None,
    "Write a haiku about the sea.": None,
    "How do I sort a list in Python?": None,
}


async def told(gw: Gateway) -> dict[str, str | None]:
    """Return by which route each of the texts is led."""
    answers = {text: await gw.chat(**user(text)) for text in SAID}
    ways = {text: answer.headers.get("x-hasten-route") for text, answer in answers.items()}
    return {text: way.removeprefix("named: ") if way else None for text, way in ways.items()}


@pytest.mark.skipif(bool(MISSING), reason=f"the extra 'semantic' is not installed: {', '.join(MISSING)}")
@pytest.mark.skipif(PATH is None, reason="all-minilm-l6-v2 is not here: hasten models pull all-minilm-l6-v2")
@pytest.mark.parametrize("shared", [False, True])
async def test_the_real_embedder_leads(shared: bool) -> None:
    routes = {name: {**route, "timeout": 30.0} for name, route in REAL.items()}
    cache = {"semantic": shared, "coalesce": False}
    async with ScriptedUpstream() as up, gateway(up, routes=routes, cache=cache) as gw:
        app = gw.worker.app
        stage = app.named
        assert stage is not None
        assert (app.embedding is None) == shared
        await eventually(lambda: stage.state == "ready", within=60)
        assert await told(gw) == SAID
        gw.worker.reload(gw.worker.settings)  # nothing is loaded or learnt again
        after = gw.worker.app
        assert after.named is not None
        assert after.named is not stage
        assert after.named.state == "ready"
        assert (after.embedding is None) == shared
        assert app.embedding is None
        assert await told(gw) == SAID
