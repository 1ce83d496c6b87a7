"""The key covers all that can change an answer, and nothing that cannot."""

from __future__ import annotations

import copy
import json
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hasten import config
from hasten.cache.key import Fingerprint, Keys, canonical_key
from hasten.fields import ChatFields, CompletionFields, EmbeddingFields
from hasten.settings import Settings
from hasten.trace import Trace
from hasten.types import Request

TREE: dict[str, Any] = {
    "engines": {
        "e": {"kind": "openai", "base_url": "http://127.0.0.1:1/v1", "model": "big"},
        "f": {"kind": "openai", "base_url": "http://127.0.0.1:2/v1"},
        "l": {"kind": "llama"},
    },
    "models": {"m": {"engines": ["e"], "fallback": ["n"]}, "n": {"engines": ["f"]}, "o": {"engines": ["l"]}},
    "tenants": {
        "acme": {"keys": ["a" * 20]},
        "beta": {"keys": ["b" * 20], "cache_group": "club"},
        "gamma": {"keys": ["c" * 20], "cache_group": "club"},
    },
}


def build(**changes: Any) -> Settings:
    return config.build({**copy.deepcopy(TREE), **changes}, environ={})


SETTINGS = build()
KEYS = Keys(SETTINGS)


def of(
    body: dict[str, Any] | bytes, tenant: str = "", keys: Keys = KEYS, endpoint: str = "chat"
) -> Fingerprint:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    kinds = {"chat": ChatFields, "completions": CompletionFields, "embeddings": EmbeddingFields}
    fields = msgspec.json.decode(data, type=kinds[endpoint])
    trace = Trace()
    trace.tenant = tenant
    return keys.of(Request(endpoint, fields, data, trace), semantic=True)


BODY: dict[str, Any] = {
    "model": "m",
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What can I order?"},
        {"role": "assistant", "content": "Pizza.", "tool_calls": [{"id": "1", "type": "function"}]},
        {"role": "tool", "tool_call_id": "1", "content": "ok"},
        {"role": "user", "content": "Cancel it."},
    ],
    "tools": [{"type": "function", "function": {"name": "cancel", "parameters": {"type": "object"}}}],
    "tool_choice": "auto",
    "parallel_tool_calls": True,
    "temperature": 0.5,
    "top_p": 0.9,
    "top_k": 5,
    "n": 1,
    "seed": 7,
    "stop": ["\n"],
    "max_tokens": 50,
    "max_completion_tokens": 60,
    "presence_penalty": 0.1,
    "frequency_penalty": 0.2,
    "logit_bias": {"50256": -100},
    "logprobs": True,
    "top_logprobs": 3,
    "response_format": {"type": "json_object"},
    "reasoning_effort": "low",
    "user": "u1",
    "guided_json": {"a": 1},
    "chat_template_kwargs": {"enable_thinking": False},
    "metadata": {"x": "y"},
    "service_tier": "auto",
    "stream_options": {"include_usage": True, "continuous_usage_stats": True},
}


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths of all plain values."""
    if isinstance(value, dict):
        return [p for k, v in value.items() for p in leaves(v, (*path, k))]
    if isinstance(value, list):
        return [p for i, v in enumerate(value) for p in leaves(v, (*path, i))]
    return [path]


LEAVES = [p for p in leaves(BODY) if p != ("stream_options", "include_usage")]
PLAIN = st.none() | st.booleans() | st.integers(-5, 5) | st.floats(0, 2) | st.text(max_size=8)


def changed(body: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    made = copy.deepcopy(body)
    node: Any = made
    for step in path[:-1]:
        node = node[step]
    node[path[-1]] = value
    return made


def get(body: Any, path: tuple[Any, ...]) -> Any:
    for step in path:
        body = body[step]
    return body


def decodes(body: dict[str, Any]) -> bool:
    try:
        msgspec.json.decode(json.dumps(body), type=ChatFields)
    except msgspec.ValidationError:
        return False
    return True


@settings(max_examples=10_000, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(LEAVES), PLAIN)
def test_every_field_is_in_the_key_and_all_but_the_last_text_in_the_scope(
    path: tuple[Any, ...], value: Any
) -> None:
    before = get(BODY, path)
    body = changed(BODY, path, value)
    if json.dumps(value) == json.dumps(before) or not decodes(body):
        return
    ours, theirs = of(BODY), of(body)
    assert ours.key != theirs.key
    if path == ("messages", 4, "content"):
        assert theirs.scope in (ours.scope, None)  # None: no text any more
    else:
        assert ours.scope != theirs.scope


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted({p[:1] for p in LEAVES})), st.data())
def test_a_field_that_is_not_there_is_another_request(path: tuple[str], data: st.DataObject) -> None:
    body = copy.deepcopy(BODY)
    if path[0] in ("messages", "model"):
        return
    del body[path[0]]
    assert of(body).key != of(BODY).key
    assert of(body).scope != of(BODY).scope


@settings(max_examples=500, deadline=None)
@given(st.randoms(use_true_random=False), st.sampled_from([None, 1, 2]), st.booleans())
def test_order_and_white_space_do_not_matter(rng: Any, indent: int | None, ascii_only: bool) -> None:
    def shuffled(value: Any) -> Any:
        if isinstance(value, dict):
            items = [(k, shuffled(v)) for k, v in value.items()]
            rng.shuffle(items)
            return dict(items)
        return [shuffled(v) for v in value] if isinstance(value, list) else value

    data = json.dumps(shuffled(BODY), indent=indent, ensure_ascii=ascii_only).encode()
    assert of(data).key == of(BODY).key
    assert of(data).scope == of(BODY).scope


def test_how_the_answer_travels_does_not_matter() -> None:
    plain = {k: v for k, v in BODY.items() if k != "stream_options"}
    streamed = {**plain, "stream": True, "stream_options": {"include_usage": True}}
    assert of(plain).key == of(streamed).key == of({**plain, "stream": False}).key


def test_tenants_and_groups() -> None:
    keys = {
        tenant: of(BODY, tenant).key for tenant in ("", "acme", "beta", "gamma", "club", "key-1", "delta")
    }
    assert keys["beta"] == keys["gamma"]
    others = [keys[t] for t in ("", "acme", "beta", "key-1", "delta")]
    assert len(set(others)) == len(others)


@settings(max_examples=2000, deadline=None)
@given(st.text(max_size=12), st.text(max_size=12), st.text(max_size=12), st.text(max_size=12))
def test_no_tenant_can_write_its_name_so_as_to_be_another(a: str, b: str, x: str, y: str) -> None:
    ours = of({"model": "m", "messages": [{"role": "user", "content": x}]}, a)
    theirs = of({"model": "m", "messages": [{"role": "user", "content": y}]}, b)
    assert (ours.key == theirs.key) == ((a, x) == (b, y))
    assert (ours.scope == theirs.scope) == (a == b)


def test_a_model_is_what_it_resolves_to() -> None:
    def key(name: str = "m", **changes: Any) -> bytes:
        return of({**BODY, "model": name}, keys=Keys(build(**changes))).key

    engines: dict[str, Any] = TREE["engines"]
    first = key()
    assert first == key()
    moved = {**engines, "e": {**engines["e"], "base_url": "http://127.0.0.1:9/v1"}}
    assert first != key(engines=moved)
    assert first != key(engines={**engines, "e": {**engines["e"], "model": "small"}})
    assert first != key(engines={**engines, "e": {**engines["e"], "headers": {"api-version": "2"}}})
    # A fallback's engine too: it may answer. Its limits and the key to it say nothing of the answer.
    assert first != key(engines={**engines, "f": {**engines["f"], "model": "x"}})
    assert first == key(engines={**engines, "e": {**engines["e"], "api_key": "s", "timeouts": {"idle": 3}}})
    assert key("o") != key("o", engines={**engines, "l": {"kind": "llama", "precision": "stored"}})
    assert key("o") == key("o", engines={**engines, "l": {"kind": "llama", "slots": 9}})


def test_ignored_fields() -> None:
    keys = Keys(build(cache={"ignore": ["user", "metadata"]}))
    assert of(BODY, keys=keys).key == of({**BODY, "user": "u2", "metadata": {}}, keys=keys).key
    assert of(BODY, keys=keys).key != of({**BODY, "seed": 8}, keys=keys).key


def test_endpoints_do_not_meet() -> None:
    text = {"model": "m", "prompt": "x", "input": "x"}
    assert of(text, endpoint="completions").key != of(text, endpoint="embeddings").key
    assert of(text, endpoint="completions").scope is None


def test_only_a_last_user_text_has_a_scope() -> None:
    def scope(*messages: dict[str, Any]) -> bytes | None:
        return of({"model": "m", "messages": list(messages)}).scope

    user = {"role": "user", "content": "hi"}
    assert scope(user) is not None
    assert scope({"role": "user", "content": [{"type": "text", "text": "hi"}]}) is not None
    assert scope(user, {"role": "assistant", "content": "yes"}) is None
    image = {"type": "image_url", "image_url": {"url": "data:,"}}
    assert scope({"role": "user", "content": [{"type": "text", "text": "hi"}, image]}) is None
    assert scope({"role": "user", "content": None}) is None
    assert scope() is None


def test_the_same_words_in_two_chats_never_meet() -> None:
    def chat(context: str) -> Fingerprint:
        turns = [{"role": "user", "content": context}, {"role": "assistant", "content": "Shall I?"}]
        return of({"model": "m", "messages": [*turns, {"role": "user", "content": "yes, cancel it"}]})

    a, b = chat("my order 1"), chat("my order 2")
    assert a.text == b.text == "yes, cancel it"
    assert a.scope is not None
    assert b.scope is not None
    assert a.scope != b.scope
    assert canonical_key(a.scope, "yes cancel it") != canonical_key(b.scope, "yes cancel it")


# -- a key that is there twice

WORDS = st.text('a:"{é/', max_size=3)
TREES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.integers() | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.lists(st.tuples(WORDS, inner), max_size=4).map(tuple),
    max_leaves=8,
)


def written(tree: Any, how: st.DataObject) -> str:
    """Return a tree as JSON, in any of the ways it can be written; a tuple is an object's pairs."""
    space = how.draw(st.sampled_from(["", " ", "\n\t"]))
    if isinstance(tree, tuple):
        pairs = [f"{written(k, how)}{space}:{space}{written(v, how)}" for k, v in tree]
        return "{" + f",{space}".join(pairs) + "}"
    if isinstance(tree, list):
        return "[" + ",".join(written(each, how) for each in tree) + space + "]"
    if isinstance(tree, str):
        match how.draw(st.sampled_from(["plain", "ascii", "upper", "lower"])):
            case "upper":
                return '"' + "".join(f"\\u{ord(c):04X}" for c in tree) + '"'
            case "lower":
                return '"' + "".join(f"\\u{ord(c):04x}" for c in tree) + '"'
            case kind:
                return json.dumps(tree, ensure_ascii=kind == "ascii").replace("/", "\\/")
    return json.dumps(tree)


def repeats(tree: Any) -> bool:
    if isinstance(tree, tuple):
        keys = [key for key, _ in tree]
        return len(set(keys)) < len(keys) or any(repeats(value) for _, value in tree)
    return isinstance(tree, list) and any(map(repeats, tree))


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(TREES, st.booleans(), st.sampled_from(["", "x", "user"]), st.data())
def test_a_body_with_a_key_twice_has_no_key(tree: Any, usage: bool, ignored: str, how: st.DataObject) -> None:
    options = (("include_usage", usage), ("x", tree)) if usage else (("include_usage", usage),)
    whole: Any = (
        ("model", "m"),
        ("messages", []),
        ("x", tree),
        ("stream_options", options),
        ("stream", True),
    )
    keys = Keys(build(cache={"ignore": [ignored]})) if ignored else KEYS
    body = written(whole, how).encode()
    if repeats(tree):
        with pytest.raises(ValueError, match="twice"):
            of(body, keys=keys)
    else:
        of(body, keys=keys)


def test_where_it_is_not_sure_there_is_no_key_either() -> None:
    of({**BODY, "user": "\\u0020"})
    with pytest.raises(ValueError, match="twice"):
        of({**BODY, "user": "\\u003a"})  # a backslash, and then what looks like a colon
