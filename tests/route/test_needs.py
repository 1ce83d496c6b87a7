"""What a request needs of a model."""

from __future__ import annotations

from hasten.route.needs import needs_of
from tests.cache.parts import request

NONE: frozenset[str] = frozenset()


def test_tools_and_json() -> None:
    assert needs_of(request(tools=[{"type": "function"}]), NONE).tools
    assert not needs_of(request(tools=[]), NONE).tools
    assert needs_of(request(response_format={"type": "json_object"}), NONE).json_mode
    assert needs_of(request(response_format={"type": "json_schema", "json_schema": {}}), NONE).json_mode
    assert not needs_of(request(response_format={"type": "text"}), NONE).json_mode


def test_an_image_counts_as_one_whatever_its_bytes() -> None:
    def seen(url: str) -> int:
        part = {"type": "image_url", "image_url": {"url": url}}
        needs = needs_of(request(messages=[{"role": "user", "content": [part]}]), NONE)
        assert needs.images
        return needs.tokens

    assert abs(seen("data:image/png;base64," + "A" * 300_000) - seen("data:")) < 10


def test_tokens_hold_prompt_and_answer() -> None:
    text = "word " * 1000
    bound = needs_of(request(messages=[{"role": "user", "content": text}], max_tokens=500), NONE)
    assert 1500 < bound.tokens < 2400
    later = needs_of(request(messages=[{"role": "user", "content": text}], max_completion_tokens=900), NONE)
    assert later.tokens - bound.tokens > 390
    assert needs_of(request("completions", prompt=text, max_tokens=7), NONE).tokens > 1000
    assert needs_of(request("embeddings", input=text), frozenset({"eu"})).tags == {"eu"}
