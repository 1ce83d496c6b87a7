"""What a request shows of a conversation, and the table that remembers its tier."""

from __future__ import annotations

from pathlib import Path
from time import process_time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hasten.route.conversation import SLOTS, Conversations, talk_of
from hasten.testing import FakeClock
from tests.cache.parts import request


def chat(*turns: str, system: str | None = None, **keys: Any) -> Any:
    """Return a chat: turns of user and assistant in turn."""
    said = [{"role": "user" if i % 2 == 0 else "assistant", "content": t} for i, t in enumerate(turns)]
    if system is not None:
        said.insert(0, {"role": "system", "content": system})
    return request(messages=said, **keys)


def test_a_conversation_keeps_its_digest() -> None:
    one = talk_of(chat("hello", system="s"))
    two = talk_of(chat("hello", "hi", "and then?", system="s"))
    three = talk_of(chat("hello", "hi", "and then?", "well", "yes", system="s"))
    assert one.first == two.first == three.first
    assert one.early == b""
    assert two.early == three.early != two.first
    assert two.texts == ["hello", "and then?"]


def test_different_conversations_differ() -> None:
    base = talk_of(chat("hello", "hi", "go on", system="s"))
    others = [
        chat("hello!", "hi", "go on", system="s"),
        chat("hello", "hi", "go on", system="t"),
        chat("hello", "hi", "go on"),
        chat("hello", "hi", "go on", system="s", tenant="acme"),
        chat("hello", "hi", "go on", system="s", model="other"),
    ]
    assert all(talk_of(other).first != base.first for other in others)
    assert talk_of(chat("hello", "good day", "go on", system="s")).early != base.early


@pytest.mark.parametrize(
    "text", ["yes", "Yes, go on.", "ok", "continue please", "Ja, bitte weiter!", "the second one"]
)
def test_only_going_on(text: str) -> None:
    assert talk_of(chat("q", "a", text)).goes_on


@pytest.mark.parametrize("text", ["why?", "yes, and prove it by induction", "no, use Rust", "what is that"])
def test_a_question_of_its_own(text: str) -> None:
    assert not talk_of(chat("q", "a", text)).goes_on


def test_parts_and_other_endpoints() -> None:
    parts = [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": "data:x"}}]
    assert talk_of(request(messages=[{"role": "user", "content": parts}])).texts == ["look"]
    assert talk_of(request(messages=[{"role": "system", "content": "s"}])).texts == []
    assert talk_of(request("completions", prompt="go")).texts == ["go"]
    assert talk_of(request("completions", prompt=["a", "b"])).texts == ["a b"]
    assert (
        talk_of(request("embeddings", input=["a", "b"])).first
        != talk_of(request("embeddings", input="c")).first
    )


def test_a_table_remembers_and_forgets() -> None:
    clock = FakeClock(1000.0)
    table = Conversations(60, clock)
    assert table.get(b"x" * 16) is None
    table.put(b"x" * 16, 0)
    table.put(b"y" * 16, 2)
    assert (table.get(b"x" * 16), table.get(b"y" * 16)) == (0, 2)
    clock.advance(50)
    table.put(b"x" * 16, 1)
    clock.advance(20)
    assert (table.get(b"x" * 16), table.get(b"y" * 16)) == (1, None)


def test_workers_share_a_table(tmp_path: Path) -> None:
    clock = FakeClock(1000.0)
    one, two = (Conversations(60, clock, tmp_path / "talks") for _ in range(2))
    one.put(b"k" * 16, 1)
    assert two.get(b"k" * 16) == 1


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 5)), max_size=80))
def test_a_crowded_place_gives_way_to_the_newest(puts: list[tuple[int, int]]) -> None:
    """All digests fall into one bucket: what is found is right, and the latest is always found."""
    clock = FakeClock(1000.0)
    table = Conversations(1e6, clock)
    held: dict[int, int] = {}
    for which, tier in puts:
        digest = ((which + 1) * SLOTS).to_bytes(8, "little") + bytes(8)
        table.put(digest, tier)
        held[which] = tier
        clock.advance(1)
        assert table.get(digest) == tier
    for which, tier in held.items():
        assert table.get(((which + 1) * SLOTS).to_bytes(8, "little") + bytes(8)) in (tier, None)


def test_many_messages_before_the_first_answer_are_read_once() -> None:
    """Two megabytes of instructions and 2,000 short turns: in time that grows with their size, not with its square."""
    said = [{"role": "system", "content": "x" * 2_000_000}] + [{"role": "user", "content": "a"}] * 2000
    asked = request(messages=said)
    since = process_time()
    talk_of(asked)
    assert process_time() - since < 0.5
