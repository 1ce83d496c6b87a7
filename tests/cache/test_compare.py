"""Whether two answers say the same."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hasten.cache.semantic.compare import DIFFERENT, SAME, answer_text, by_meaning, same_answer
from tests.cache.parts import stream_of

LONG = "The capital of France is Paris"


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        (LONG, LONG, True),
        (LONG, LONG.upper() + "!", True),
        ("Yes.", "yes", None),  # right for many questions
        ("It takes 5 days.", "It takes 7 days.", False),
        ("It takes 5 days.", "It takes 5 whole days.", None),
        ("It takes 5 days.", "It takes a few days.", False),
        ("Yes, you can do that.", "No, that is not possible.", False),
        ("Not at all, sorry.", "True, as far as I know.", False),
        ("Yes, you can.", "Yes, but only on weekdays.", None),
        ("In Paris.", "It is Paris.", None),
        (
            "Pay 5 dollars. " + "word " * 60,
            "Pay 7 dollars. " + "word " * 60,
            None,
        ),  # long ones have many numbers
        ("", "", None),
    ],
)
def test_by_letters(a: str, b: str, same: bool | None) -> None:
    assert same_answer(a, b) is same


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=80), st.text(max_size=80))
def test_both_ways_the_same(a: str, b: str) -> None:
    assert same_answer(a, b) is same_answer(b, a)
    assert same_answer(a, a) is not False


def test_by_meaning() -> None:
    assert [by_meaning(x) for x in (1.0, SAME, 0.75, DIFFERENT, 0.1)] == [True, True, None, None, False]


def test_the_text_of_an_answer() -> None:
    chat = {"choices": [{"message": {"content": "Hi"}}, {"message": {"content": None}}, {"text": " there"}]}
    assert answer_text(msgspec.json.encode(chat), False) == "Hi there"
    parts = [{"choices": [{"delta": {"content": part}}]} for part in ("Hel", "lo")]
    assert answer_text(stream_of([*parts, {"choices": [], "usage": None}]), True) == "Hello"


@settings(max_examples=200, deadline=None)
@given(
    st.binary(max_size=60)
    | st.recursive(
        st.none() | st.integers() | st.text(max_size=5),
        lambda x: (
            st.lists(x, max_size=3)
            | st.dictionaries(
                st.sampled_from(["choices", "message", "delta", "content", "text"]), x, max_size=3
            )
        ),
    ).map(msgspec.json.encode),
    st.booleans(),
)
def test_no_answer_raises(body: bytes, streamed: bool) -> None:
    answer_text(b"data: " + body if streamed else body, streamed)
