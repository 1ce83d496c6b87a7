"""Real clients against the embedded engine, started as a user would start it."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import anthropic
import httpx
import openai
import pytest
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from hasten.engines import weights

pytestmark = pytest.mark.embedded

MODEL = "smollm2-135m"
QUESTION = "What is the capital of France?"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The address of `hasten serve` without a configuration, ready."""
    weights.pull(MODEL)
    process = subprocess.Popen(
        [sys.executable, "-m", "hasten", "serve", "--port", "0"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "HASTEN__ENGINES__LOCAL__THREADS": "1"},  # a second core is the tests'
    )
    assert process.stderr is not None
    try:
        said = ""
        while not (found := re.search(r"serving on (\S+?),", said)):
            line = process.stderr.readline()
            assert line, said
            said += line
        while "is ready" not in said:
            line = process.stderr.readline()
            assert line, said
            said += line
        reader = threading.Thread(target=process.stderr.read, daemon=True)
        reader.start()
        yield found[1]
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        reader.join(5)
        process.stderr.close()


def test_openai_client(url: str) -> None:
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="none")
    assert [model.id for model in client.models.list()] == [MODEL]
    answer = client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": QUESTION}], temperature=0
    )
    assert "Paris" in (answer.choices[0].message.content or "")
    assert answer.usage is not None
    assert answer.usage.completion_tokens > 3


def test_openai_client_streaming(url: str) -> None:
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="none")
    stream = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": QUESTION}],
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    text = "".join(c.delta.content or "" for chunk in chunks for c in chunk.choices)
    assert "Paris" in text
    assert chunks[-1].usage is not None
    assert len(chunks) > 5


def test_openai_client_json_schema(url: str) -> None:
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="none")
    schema = {
        "type": "object",
        "properties": {"capital": {"type": "string", "maxLength": 20}},
        "required": ["capital"],
        "additionalProperties": False,
    }
    answer = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": f"{QUESTION} Answer as JSON."}],
        temperature=0,
        max_tokens=60,
        response_format={"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}},
    )
    assert set(json.loads(answer.choices[0].message.content or "")) == {"capital"}


def test_anthropic_client(url: str) -> None:
    client = anthropic.Anthropic(base_url=url, api_key="none")
    answer = client.messages.create(
        model=MODEL,
        max_tokens=50,
        extra_body={"temperature": 0},
        messages=[{"role": "user", "content": QUESTION}],
    )
    assert answer.content[0].type == "text"
    assert "Paris" in answer.content[0].text
    assert answer.usage.input_tokens + (answer.usage.cache_read_input_tokens or 0) > 10


def test_anthropic_client_streaming(url: str) -> None:
    client = anthropic.Anthropic(base_url=url, api_key="none")
    with client.messages.stream(
        model=MODEL,
        max_tokens=50,
        extra_body={"temperature": 0},
        messages=[{"role": "user", "content": QUESTION}],
    ) as stream:
        assert "Paris" in "".join(stream.text_stream)
        assert stream.get_final_message().stop_reason == "end_turn"


def test_langchain(url: str) -> None:
    chat = ChatOpenAI(base_url=f"{url}/v1", api_key=SecretStr("none"), model=MODEL, temperature=0)
    assert "Paris" in str(chat.invoke(QUESTION).content)
    assert "Paris" in "".join(str(piece.content) for piece in chat.stream(QUESTION))


def test_llm_command(url: str, tmp_path: Path) -> None:
    (tmp_path / "extra-openai-models.yaml").write_text(
        f"- model_id: hasten\n  model_name: {MODEL}\n  api_base: {url}/v1\n  api_key_name: hasten\n"
    )
    environ = {**os.environ, "LLM_USER_PATH": str(tmp_path)}
    program = str(Path(sys.executable).with_name("llm"))
    command = [program, "-m", "hasten", "--key", "none", "-o", "temperature", "0", QUESTION]
    for extra in ([], ["--no-stream"]):
        done = subprocess.run(
            [*command, *extra], capture_output=True, text=True, env=environ, timeout=60, check=True
        )
        assert "Paris" in done.stdout


def test_hasten_chat(url: str) -> None:
    command = [sys.executable, "-m", "hasten", "chat", "--url", url, "--temperature", "0", QUESTION]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert "Paris" in done.stdout
    assert re.search(r"TTFT \d+ ms, [\d.]+ tokens/s", done.stdout)


def test_trace_of_the_embedded_engine(url: str) -> None:
    page = httpx.get(f"{url}/metrics").text
    assert 'gen_ai_provider_name="llama.cpp"' in page
