"""What passes the judge and what does not."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hasten.fields import ChatFields, Message
from hasten.route.check import Check, Reading, features
from hasten.route.hearing import Heard, quiet, quiet_chunk, with_logprobs
from hasten.route.judge import Asked, Judge, asked_of, fits, loops
from hasten.route.language import mismatch
from hasten.settings import Cascade
from hasten.trace import Trace
from hasten.types import Chunk, Event, Reply, Request

JUDGE = Judge(Cascade(), Check.load())
APPLES = "Tom has 3 apples and buys 4 more apples. How many apples does he have?"


def heard(
    text: str | None, finish: str = "stop", logprobs: list[float] | None = None, **message: Any
) -> Heard:
    choice: dict[str, Any] = {
        "index": 0,
        "message": {"role": "assistant", "content": text, **message},
        "finish_reason": finish,
    }
    if logprobs is not None:
        choice["logprobs"] = {"content": [{"token": "x", "logprob": p} for p in logprobs]}
    body = msgspec.json.encode({"choices": [choice]})
    return Heard().whole(Reply(body=body, event=msgspec.json.decode(body, type=Event)))


def call(name: str, arguments: str) -> dict[str, Any]:
    return {
        "tool_calls": [{"id": "c", "type": "function", "function": {"name": name, "arguments": arguments}}]
    }


CASES: dict[str, tuple[Heard, Asked, str | None]] = {
    "fine": (heard("Paris."), Asked("What is the capital of France?"), None),
    "empty": (heard(" \n"), Asked("Hi"), "empty"),
    "nothing": (heard(None), Asked("Hi"), "empty"),
    "refused by a field": (heard(None, refusal="No."), Asked("Hi"), "refusal"),
    "refused": (heard("I'm sorry, but I can't help with that."), Asked("Hi"), "refusal"),
    "refused with a typographer's mark": (heard("I’m sorry, but I can’t."), Asked("Hi"), "refusal"),
    "an AI": (heard("As an AI language model, I have no opinion."), Asked("Hi"), "refusal"),
    "does not know": (heard("I don't know."), Asked("Hi"), "refusal"),
    "only says sorry": (heard("I'm sorry for your loss. Here is a letter."), Asked("Write a letter"), None),
    "cannot be": (heard("It cannot be proved in ZFC."), Asked("Is CH provable?"), None),
    "filtered": (heard("So", "content_filter"), Asked("Hi"), "refusal"),
    "cut": (heard("It is", "length"), Asked("Hi"), "truncated"),
    "cut at a wide limit": (heard("It is", "length"), Asked("Hi", limit=1024), "truncated"),
    "cut as asked": (heard("It is", "length"), Asked("Hi", limit=5), None),
    "JSON": (heard('{"a": 1}'), Asked("Hi", json=True), None),
    "JSON in words": (heard('Sure: {"a": 1}'), Asked("Hi", json=True), "json"),
    "JSON with an end missing": (heard('{"a": [1'), Asked("Hi", json=True), "json"),
    "JSON that does not fit": (
        heard('{"a": "1"}'),
        Asked("Hi", json=True, schema={"type": "object", "properties": {"a": {"type": "integer"}}}),
        "json",
    ),
    "a tool": (heard(None, "tool_calls", **call("f", "{}")), Asked("Hi", tools=frozenset("f")), None),
    "an unknown tool": (heard(None, "tool_calls", **call("g", "{}")), Asked("", tools=frozenset("f")), "tool call"),
    "a tool's broken arguments": (
        heard(None, "tool_calls", **call("f", '{"a":')),
        Asked("Hi", tools=frozenset("f")),
        "tool call",
    ),
    "a loop": (heard("Well. " + "and so on and on, " * 12), Asked("Hi"), "repetition"),
    "unsure tokens": (heard("Perth.", logprobs=[-2.0, -1.5]), Asked("Hi"), "unsure"),
    "sure tokens": (heard("Paris.", logprobs=[-0.1, -0.2]), Asked("Hi"), None),
    "wrong arithmetic": (heard("3 + 4 = 8 apples.\n#### 8"), Asked(APPLES), "arithmetic"),
    "right arithmetic": (heard("He has 3 + 4 = 7 apples.\n#### 7"), Asked(APPLES), None),
    "a fraction of a thing": (heard("He has 3 / 4 = 0.75 apples"), Asked(APPLES), "check"),
    "wrong arithmetic in code": (heard("```\nx = 3 + 4 = 8\n```"), Asked(APPLES), None),
}  # fmt: skip


@pytest.mark.parametrize(("said", "asked", "reason"), CASES.values(), ids=CASES)
def test_verdict(said: Heard, asked: Asked, reason: str | None) -> None:
    assert JUDGE.whole(asked, said) == reason


def test_the_worst_token() -> None:
    judge = Judge(Cascade(min_logprob=-5.0), JUDGE.check)
    assert judge.whole(Asked("Hi"), heard("Yes.", logprobs=[-0.01] * 30 + [-6.0])) == "unsure"
    assert judge.whole(Asked("Hi"), heard("Yes.", logprobs=[-0.01] * 30 + [-4.0])) is None


def test_without_the_learned_check() -> None:
    judge = Judge(Cascade(limit=1.0), JUDGE.check)
    assert judge.whole(Asked(APPLES), heard("3 + 4 = 8.\n#### 8")) is None


def test_the_check_knows_a_good_answer_from_a_bad_one() -> None:
    question = (
        "Siobhan has 2 fewer jewels than Aaron. Aaron has 5 more jewels than half of Raymond's jewels. "
        "If Raymond has 40 jewels, how many jewels does Siobhan have?"
    )
    good = "Aaron has 40 / 2 + 5 = 25 jewels.\nSiobhan has 25 - 2 = 23 jewels.\n#### 23"
    guess = "Siobhan has 40 / 3 = 13.33 jewels.\n"
    assert JUDGE.check.probability(question, good) < 0.4 < JUDGE.check.probability(question, guess)


def test_the_check_weighs_what_it_reads() -> None:
    assert JUDGE.check.weights.keys() <= features(Reading("", "")).keys()


def test_nothing_to_calculate_is_not_checked() -> None:
    everything = Judge(Cascade(limit=0.0), JUDGE.check)
    assert everything.whole(Asked("Who wrote Faust?"), heard("Goethe, in 1808 and 1832.")) is None
    assert everything.whole(Asked(APPLES), heard("He has 3 + 4 = 7 apples.\n#### 7")) == "check"


# -- parts


def test_loops() -> None:
    assert loops("no no no " * 20)
    assert loops("The same long line again.\nAnother line.\n" * 10)
    assert not loops("| --- | --- |" * 20)
    assert not loops("ha ha ha ha")
    assert not loops("Each sentence is another one. It says what is new. Then it ends, as it should.")
    assert not loops("\n".join(f"| {i} | a row of a table | {i * i} |" for i in range(40)))


@pytest.mark.parametrize(
    ("question", "answer", "differs"),
    [
        ("What is the capital of France, and how large is it?", "Париж, и это самый большой город страны", True),
        ("What is the capital of France, and how large is it?", "The capital is Paris; it is large.", False),
        ("What is the capital of France, and what is it like?",
         "Die Hauptstadt ist Paris und das ist eine sehr schöne Stadt mit der Seine", True),
        ("Translate to German: how are you, my dear friend of old?",
         "Wie geht es dir, mein alter Freund und wie ist es", False),
        ("法国的首都是哪里?请详细说明一下它的历史。", "法国的首都是巴黎,历史悠久。", False),
        ("法国的首都是哪里?请详细说明一下它的历史。", "The capital of France is Paris, and it is old.", True),
        ("フランスの首都はどこですか。詳しく教えてください。", "フランスの首都はパリです。とても古い町です。", False),
        ("Write me a function for the sum of a list in Python", "```python\nsum(xs)\n```", False),
        ("7 * 8", "56", False),
    ],
)  # fmt: skip
def test_language(question: str, answer: str, differs: bool) -> None:
    assert mismatch(question, answer) == ("language" if differs else None)


@pytest.mark.parametrize(
    ("value", "schema", "good"),
    [
        ({"a": 1}, {"type": "object", "required": ["a"]}, True),
        ({}, {"type": "object", "required": ["a"]}, False),
        ({"a": 1, "b": 2}, {"properties": {"a": {}}, "additionalProperties": False}, False),
        ([1, "2"], {"type": "array", "items": {"type": "integer"}}, False),
        (True, {"type": "integer"}, False),
        (2.0, {"type": "integer"}, True),
        (None, {"type": ["string", "null"]}, True),
        ("c", {"enum": ["a", "b"]}, False),
        ("c", {"const": "c"}, True),
        ("c", {"$ref": "#/x"}, True),
        ("c", "nonsense", True),
    ],
)
def test_fits(value: Any, schema: Any, good: bool) -> None:
    assert fits(value, schema) == good


# -- what is asked and heard


def make(**fields: Any) -> Request:
    body = msgspec.json.encode({"model": "m", "messages": [{"role": "user", "content": "Hi"}], **fields})
    return Request("chat", msgspec.json.decode(body, type=ChatFields), body, Trace())


def test_asked() -> None:
    schema = {"type": "object"}
    asked = asked_of(
        make(
            max_tokens=7,
            response_format={"type": "json_schema", "json_schema": {"schema": schema}},
            tools=[{"type": "function", "function": {"name": "f"}}],
        )
    )
    assert asked == Asked("Hi", 7, True, schema, frozenset("f"))


def test_logprobs_are_asked_for_and_taken_out() -> None:
    assert msgspec.json.decode(with_logprobs(make(user="u")))["logprobs"] is True
    with_them = (
        b'{"id":"x","choices":[{"index":0,"message":{"content":"a"},"logprobs":{"content":[]}}],"new":1}'
    )
    assert b"content" in quiet(with_them)
    made = msgspec.json.decode(quiet(with_them))
    assert made["choices"][0]["logprobs"] is None
    assert made["new"] == 1
    event = Chunk(b"data: " + with_them + b"\n\n", None, 5.0)
    assert quiet_chunk(event).raw == b"data: " + quiet(with_them) + b"\n\n"
    assert quiet_chunk(event).at == 5.0
    for other in (b"{", b"[DONE]", b'{"logprobs":1,"choices":3}', b'{"choices":[]}'):
        assert quiet(other) == other


def test_streamed_calls_are_put_together() -> None:
    said = Heard()
    for piece in ('{"a"', ": 1}"):
        delta = {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}
        data = msgspec.json.encode({"choices": [{"index": 0, "delta": delta}]})
        said.add(Chunk(b"data: " + data + b"\n\n", msgspec.json.decode(data, type=Event), 0.0))
    assert said.calls == {0: ["", '{"a": 1}']}


# -- it never raises

texts = st.text(max_size=300) | st.text(alphabet="0123456789+-*/=() .%$#<>x\nhow many apples?", max_size=300)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
)


@given(
    texts, texts, st.booleans(), st.lists(st.floats(), max_size=5), st.sampled_from(["stop", "length", None])
)
def test_never_raises(question: str, answer: str, json: bool, logs: list[float], finish: str | None) -> None:
    said = Heard()
    said.texts, said.finish = [answer], finish
    said.logprobs = [p for p in logs if p <= 0]
    for limit in (0.0, 0.5):
        judge = Judge(Cascade(limit=limit, min_logprob=-1.0), JUDGE.check)
        judge.early(Asked(question, json=json), said)
        judge.whole(Asked(question, json=json), said)


@given(json_values, json_values)
def test_any_schema(value: Any, schema: Any) -> None:
    fits(value, schema)


@given(json_values)
def test_any_answer(value: Any) -> None:
    body = msgspec.json.encode({"choices": [{"index": 0, "message": {"content": "a"}, "logprobs": value}]})
    Heard().whole(Reply(body=body, event=msgspec.json.decode(body, type=Event)))
    quiet(body)
    delta = {"tool_calls": [{"index": value, "function": value}]}
    Heard().add(
        Chunk(b"data: " + body + b"\n\n", msgspec.convert({"choices": [{"delta": delta}]}, Event), 0.0)
    )


def test_messages_of_parts() -> None:
    request = make()
    assert isinstance(request.fields, ChatFields)
    request.fields.messages = [Message("user", [{"type": "text", "text": "What?"}, {"type": "image_url"}])]
    assert asked_of(request).question == "What?"
