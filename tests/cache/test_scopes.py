"""Questions of different scopes never meet, even if the verifier says yes to everything."""

from __future__ import annotations

import asyncio
import copy
import random
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hasten.cache.key import Fingerprint, Keys
from hasten.cache.semantic.question import Finding
from hasten.cache.store.memory import MemoryStore
from tests.cache.parts import request
from tests.cache.parts import settings as configured
from tests.cache.semantics import Rig

KEYS = Keys(configured())


def tool(name: str, kind: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": {"type": kind}}}


TEXTS = ["", "Be brief.", "Be brief", "be brief.", "Bе brief.", "You sell shoes.", "\u200bBe brief."]
FIELDS: dict[str, list[Any]] = {
    "tools": [[], [tool("pay", "object")], [tool("pay", "string")], [tool("cancel", "object")]],
    "temperature": [0, 0.0, 1, 0.7, None],
    "max_tokens": [5, 50],
    "seed": [1, 2**63, 2**70, 2**70 + 1],
    "stop": ["a", ["a"]],
    "user": ["u1", "u2"],
    "response_format": [{"type": "text"}, {"type": "json_object"}],
    "x_unknown": [0, 1, "", [], [[]], {}, {"a": None}, {"a": []}],
}
CASES = 20  # an example


def turn(rng: random.Random) -> dict[str, Any]:
    role = rng.choice(["user", "assistant", "system", "tool"])
    return {"role": role, "content": rng.choice([*TEXTS, None])}


def context(rng: random.Random) -> dict[str, Any]:
    """Return all of a request but its last text."""
    return {
        "tenant": rng.choice(["", "acme", "beta", "acme\0", "ac"]),
        "model": rng.choice(["m", "other"]),
        "turns": [turn(rng) for _ in range(rng.randrange(4))],
        "fields": {name: rng.choice(FIELDS[name]) for name in rng.sample(list(FIELDS), rng.randrange(5))},
        "parts": rng.random() < 0.3,
    }


def changed(rng: random.Random, ours: dict[str, Any]) -> dict[str, Any]:
    """Return ``ours`` with one part of another: near, so that a careless key would not tell them apart."""
    made, other = copy.deepcopy(ours), context(rng)
    part = rng.choice([*ours, "field", "turn", "nothing"])
    if part == "field" and other["fields"]:
        name = rng.choice(sorted(other["fields"]))
        made["fields"][name] = other["fields"][name]
    elif part == "turn" and made["turns"]:
        made["turns"].insert(rng.randrange(len(made["turns"])), made["turns"].pop())
    elif part in ours:
        made[part] = other[part]
    return made


def fingerprint(context: dict[str, Any], text: str) -> Fingerprint:
    content: Any = [{"type": "text", "text": text}] if context["parts"] else text
    messages = [*context["turns"], {"role": "user", "content": content}]
    fields = {"model": context["model"], "messages": messages, **context["fields"]}
    return KEYS.of(request(tenant=context["tenant"], **fields), semantic=True)


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    yield made
    made.close()


@pytest.fixture(scope="module")
def rig(loop: asyncio.AbstractEventLoop) -> Iterator[Rig]:
    async def make() -> Rig:
        return await Rig(otherwise=99.0).__aenter__()

    made = loop.run_until_complete(make())
    yield made
    made.cache.close()


async def meets(rig: Rig, ours: Fingerprint, theirs: Fingerprint) -> Finding:
    """Return what ``theirs`` is told when only ``ours`` is stored."""
    rig.store = rig.cache.store = MemoryStore(2**20, rig.clock)
    stored = rig.cache.question(ours)
    asked = rig.cache.question(theirs)
    assert stored is not None
    assert asked is not None
    rig.cache.keep(stored, rig.fresh(stored, "ours"))
    return await rig.cache.look(asked, "")


@pytest.mark.parametrize(
    "wordings", [("is it paid for", "is it paid for now"), ("is it paid", "Is it paid?")]
)
@settings(max_examples=260, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 2**64))
def test_nothing_leaks_from_one_scope_to_another(
    loop: asyncio.AbstractEventLoop, rig: Rig, wordings: tuple[str, str], seed: int
) -> None:
    rng = random.Random(seed)

    async def cases() -> None:
        for _ in range(CASES):
            ours = context(rng)
            theirs = changed(rng, ours)
            found = await meets(rig, fingerprint(ours, wordings[0]), fingerprint(theirs, wordings[1]))
            # As JSON: 0 and 0.0 are two requests.
            same = msgspec.json.encode(ours, order="sorted") == msgspec.json.encode(theirs, order="sorted")
            assert found.serve == same, (ours, theirs)
            assert (found.entry is not None) == same

    loop.run_until_complete(cases())
