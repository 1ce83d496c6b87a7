"""The embedded engine, held to what transformers answers with the same weights (tests/data/smollm2_reference.json)."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from hasten.engines import weights
from hasten.engines.llama import LlamaRecipe, physical_cores
from hasten.engines.llama_child import prepare
from hasten.engines.managed import Backoff, ManagedProcess
from hasten.errors import SettingsError, Unavailable
from hasten.settings import LlamaEngine

REFERENCE = json.loads((Path(__file__).parents[1] / "data" / "smollm2_reference.json").read_text())
CHAT = {case["name"]: case for case in REFERENCE["chat"]}
#: Where the reference's first choice leads by less than this (logits), rounding decides, and outputs may part.
EPSILON = 0.02
MODEL = "smollm2-135m"


class Running:
    """A managed engine on an event loop in a thread, so that tests and their requests can be plain."""

    def __init__(self, settings: LlamaEngine, model: Path, exact: bool | None = None) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()
        recipe = LlamaRecipe(settings, model, exact=exact)
        self.process = self.do(self.make(recipe))

    async def make(self, recipe: LlamaRecipe) -> ManagedProcess:
        process = ManagedProcess(recipe, backoff=Backoff(first=0.05))
        process.start()
        return process

    def do(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(90)

    def open(self, path: str, body: dict[str, Any] | None = None) -> Any:
        base = f"http://127.0.0.1:{self.process.port}"
        data = json.dumps(body).encode() if body is not None else None
        return urllib.request.urlopen(urllib.request.Request(base + path, data), timeout=90)

    def post(self, path: str, **body: Any) -> Any:
        with self.open(path, body) as answer:
            return json.load(answer)

    def chat(self, content: str, **body: Any) -> Any:
        messages = [{"role": "user", "content": content}]
        return self.post("/v1/chat/completions", **{"messages": messages, "temperature": 0, **body})

    def close(self) -> None:
        self.do(self.process.stop())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


@pytest.fixture(scope="session")
def model() -> Path:
    return weights.pull(MODEL)


@pytest.fixture(scope="session")
def engine(model: Path) -> Iterator[Running]:
    # One thread: two that wait for each other crawl while something else wants the second core.
    running = Running(LlamaEngine(slots=4, embeddings=True, threads=1), model)
    try:
        running.do(running.process.ready(90))
        yield running
    finally:
        running.close()


@pytest.fixture(scope="session")
def answers(engine: Running) -> dict[str, list[int]]:
    """The engine's greedy output ids for each case of the reference, as far as the reference goes."""

    def answer(case: dict[str, Any]) -> list[int]:
        said = engine.post(
            "/v1/chat/completions",
            messages=case["messages"],
            temperature=0,
            max_tokens=REFERENCE["steps"],
            return_tokens=True,
            verbose=True,
        )
        ids: list[int] = said["__verbose"]["tokens"]
        assert said["usage"]["prompt_tokens"] == len(case["prompt_ids"])
        return ids[: len(case["ids"])]

    with ThreadPoolExecutor(4) as pool:
        return dict(zip(CHAT, pool.map(answer, CHAT.values()), strict=True))


# -- the reference ----------------------------------------------------------------------------------


@pytest.mark.embedded
@pytest.mark.parametrize("name", CHAT)
def test_prompt_tokens_are_those_of_the_reference(engine: Running, name: str) -> None:
    prompt = engine.post("/apply-template", messages=CHAT[name]["messages"])["prompt"]
    tokens = engine.post("/tokenize", content=prompt, add_special=True, parse_special=True)["tokens"]
    assert tokens == CHAT[name]["prompt_ids"]


@pytest.mark.embedded
@pytest.mark.parametrize("case", REFERENCE["plain"], ids=lambda case: repr(case["text"]))
def test_plain_text_gets_no_start_token_as_in_the_reference(engine: Running, case: dict[str, Any]) -> None:
    tokens = engine.post("/tokenize", content=case["text"], add_special=True, parse_special=True)["tokens"]
    assert tokens == case["ids"]
    if case["ids"]:
        usage = engine.post("/v1/completions", prompt=case["text"], max_tokens=1)["usage"]
        assert usage["prompt_tokens"] == len(case["ids"])


@pytest.mark.embedded
@pytest.mark.parametrize("name", CHAT)
def test_answers_part_from_the_reference_only_where_rounding_decides(
    answers: dict[str, list[int]], name: str
) -> None:
    case = CHAT[name]
    for step, (ours, theirs) in enumerate(zip(answers[name], case["ids"], strict=False)):
        if ours != theirs:
            assert case["margins"][step] < EPSILON, f"step {step}"
            return
    assert len(answers[name]) == len(case["ids"])


@pytest.mark.embedded
def test_nearly_all_answers_equal_the_reference_to_the_end(answers: dict[str, list[int]]) -> None:
    equal = [name for name, case in CHAT.items() if answers[name] == case["ids"]]
    assert len(equal) >= 18, sorted(set(CHAT) - set(equal))


@pytest.mark.embedded
def test_the_capital_of_france(engine: Running) -> None:
    answer = engine.chat("What is the capital of France?", max_tokens=32)
    assert answer["choices"][0]["message"]["content"] == "The capital of France is Paris."
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["model"] == MODEL


@pytest.mark.embedded
def test_a_tokenizer_that_adds_the_start_token_does_not_double_it(model: Path, tmp_path: Path) -> None:
    other = tmp_path / "adds_bos.gguf"
    shutil.copyfile(model, other)
    with other.open("r+b") as file:
        head = file.read(1 << 20)
        key = b"tokenizer.ggml.add_bos_token"
        at = head.index(key) + len(key)
        # The value: its type (4 bytes, 7: a boolean), then one byte.
        assert head[at : at + 5] == b"\x07\x00\x00\x00\x00"
        file.seek(at + 4)
        file.write(b"\x01")
    running = Running(LlamaEngine(model=str(other), slots=1, context=256, threads=1), other)
    try:
        running.do(running.process.ready(60))
        case = CHAT["france"]
        usage = running.chat(case["messages"][0]["content"], max_tokens=1)["usage"]
        assert usage["prompt_tokens"] == len(case["prompt_ids"])
        usage = running.post("/v1/completions", prompt="Once upon a time", max_tokens=1)["usage"]
        assert usage["prompt_tokens"] == 5
    finally:
        running.close()


# -- what it can do ---------------------------------------------------------------------------------


@pytest.mark.embedded
def test_streaming_ends_with_the_usage(engine: Running) -> None:
    body = {
        "messages": CHAT["france"]["messages"],
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    with engine.open("/v1/chat/completions", body) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = [line[6:].strip() for line in answer if line.startswith(b"data: ")]
    assert lines.pop() == b"[DONE]"
    events = [json.loads(line) for line in lines]
    text = "".join(event["choices"][0]["delta"].get("content") or "" for event in events if event["choices"])
    assert text == CHAT["france"]["text"]
    assert events[-1]["usage"]["completion_tokens"] == len(CHAT["france"]["ids"])


@pytest.mark.embedded
def test_json_mode_gives_an_object(engine: Running) -> None:
    answer = engine.chat(
        "Give me a person with a name and an age.", response_format={"type": "json_object"}, max_tokens=100
    )
    assert isinstance(json.loads(answer["choices"][0]["message"]["content"]), dict)


@pytest.mark.embedded
def test_a_json_schema_is_kept_to(engine: Running) -> None:
    schema = {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 20},
            "age": {"type": "integer", "maximum": 99},
        },
        "required": ["name", "age"],
        "additionalProperties": False,
    }
    answer = engine.chat(
        "Give me a person.",
        response_format={"type": "json_schema", "json_schema": {"name": "person", "schema": schema}},
        max_tokens=100,
    )
    person = json.loads(answer["choices"][0]["message"]["content"])
    assert set(person) == {"name", "age"}
    assert isinstance(person["age"], int)


@pytest.mark.embedded
def test_tools_are_passed_over_where_the_template_knows_none(engine: Running) -> None:
    tool = {
        "type": "function",
        "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}},
    }
    answer = engine.chat(CHAT["france"]["messages"][0]["content"], tools=[tool], max_tokens=32)
    assert answer["choices"][0]["message"]["content"] == CHAT["france"]["text"]


@pytest.mark.embedded
def test_embeddings_on_the_same_server(engine: Running) -> None:
    texts = [
        "The cat sleeps on the sofa.",
        "A kitten is napping on the couch.",
        "Interest rates rose by one percent.",
    ]
    together = [item["embedding"] for item in engine.post("/v1/embeddings", input=texts)["data"]]
    one, two, three = (engine.post("/v1/embeddings", input=text)["data"][0]["embedding"] for text in texts)
    assert len(one) == 576

    def dot(a: list[float], b: list[float]) -> float:
        return sum(x * y for x, y in zip(a, b, strict=True))

    assert dot(one, one) == pytest.approx(1.0, abs=1e-3)
    assert dot(one, two) > dot(one, three)
    assert [dot(a, b) for a, b in zip(together, [one, two, three], strict=True)] == pytest.approx(
        [1, 1, 1], abs=2e-3
    )


@pytest.mark.embedded
def test_a_text_longer_than_a_usual_batch_can_be_embedded_and_one_longer_than_a_slot_not(
    engine: Running,
) -> None:
    usage = engine.post("/v1/embeddings", input="word " * 600)["usage"]
    assert usage["prompt_tokens"] == 601
    with pytest.raises(urllib.error.HTTPError) as caught:
        engine.post("/v1/embeddings", input="word " * 3000)
    with caught.value:
        assert caught.value.code in (400, 500)


@pytest.mark.embedded
def test_a_prompt_longer_than_a_slot_is_refused(engine: Running) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        engine.chat("word " * 3000, max_tokens=1)
    with caught.value:
        assert caught.value.code == 400


@pytest.mark.embedded
def test_four_at_once_say_what_each_says_alone(engine: Running) -> None:
    names = ["france", "japan", "sum", "long"]
    with ThreadPoolExecutor(4) as pool:
        said = list(
            pool.map(lambda name: engine.chat(CHAT[name]["messages"][0]["content"], max_tokens=32), names)
        )
    assert [a["choices"][0]["message"]["content"] for a in said] == [CHAT[name]["text"] for name in names]


@pytest.mark.embedded
def test_a_prefix_that_was_seen_is_not_computed_again(engine: Running) -> None:
    content = CHAT["long"]["messages"][0]["content"]
    engine.chat(content, max_tokens=1)
    usage = engine.chat(content + " Answer in one word.", max_tokens=1)["usage"]
    assert usage["prompt_tokens_details"]["cached_tokens"] > 450


@pytest.mark.embedded
def test_a_killed_engine_comes_back(engine: Running) -> None:
    process, restarts = engine.process, engine.process.restarts
    pid = process.pid
    assert pid is not None
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(engine.chat, "Tell me a long story.", max_tokens=1000)
        while not any(slot["is_processing"] for slot in json.load(engine.open("/slots"))):
            pass
        os.kill(pid, signal.SIGKILL)
        with pytest.raises((OSError, urllib.error.URLError)):
            asked.result(30)
    while process.restarts == restarts:
        pass
    engine.do(process.ready(60))
    assert process.pid != pid
    answer = engine.chat("What is the capital of France?", max_tokens=32)
    assert "Paris" in answer["choices"][0]["message"]["content"]


# -- the recipe -------------------------------------------------------------------------------------


def test_the_catalogue_decides_whether_weights_are_written_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HASTEN_CACHE", "/cache")
    command = LlamaRecipe(LlamaEngine(), Path("/m.gguf")).command(1234)
    assert "--expand=/cache/models/smollm2-135m.f16" in command
    assert "--port=1234" in command
    assert f"--threads={physical_cores()}" in command
    assert "--embeddings" not in command
    own = LlamaRecipe(LlamaEngine(model="/m.gguf", threads=3, embeddings=True), Path("/m.gguf")).command(1)
    assert not any(part.startswith("--expand") for part in own)
    assert "--threads=3" in own
    assert "--embeddings" in own


def test_without_the_package_the_settings_cannot_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SettingsError, match=r"pip install 'hasten\[llama\]'"):
        LlamaRecipe(LlamaEngine(), Path("/m.gguf"), "local")


@pytest.mark.embedded
def test_weights_are_written_out_once_or_used_as_they_are(model: Path, tmp_path: Path) -> None:
    target = tmp_path / "m.f16"
    assert prepare(model, None) == model
    assert prepare(model, target) == target
    # Two bytes for each of the 134.5 million weights, and the tokenizer.
    assert 269_000_000 < target.stat().st_size < 272_000_000
    made = target.stat().st_mtime_ns
    assert prepare(model, target) == target
    assert target.stat().st_mtime_ns == made
    broken = tmp_path / "m.gguf"
    broken.write_bytes(model.read_bytes()[:50_000_000])
    assert prepare(broken, tmp_path / "broken.f16") == broken
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.f16", "m.gguf"]


@pytest.mark.embedded
@pytest.mark.parametrize("content", [None, b"GGUF, but not really"])
def test_weights_that_cannot_be_loaded(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "m.gguf"
    if content is not None:
        path.write_bytes(content)

    async def main() -> None:
        process = ManagedProcess(LlamaRecipe(LlamaEngine(model=str(path)), path), backoff=Backoff(first=0.01))
        process.start()
        with pytest.raises(Unavailable, match=str(path)):
            await process.ready(60)
        assert process.state == "failed"

    asyncio.run(main())
