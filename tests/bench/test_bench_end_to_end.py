"""``hasten bench`` against a tiny server on loopback."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hasten.bench.target import base_of
from hasten.bench.workload import Workload, as_messages, read_prompts
from hasten.cli import bench

MODELS = {"data": [{"id": "first"}, {"id": "second"}]}


class Server:
    """Answers by the model's name; keeps what it was asked. Runs on a thread of its own."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.heads: list[str] = []
        self.on_chat: Callable[[int], bool] = lambda n: True  # false: never answer
        self.after_probe = ""  # the model to take requests for, but for the first
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        self._started.wait()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._loop.close()

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        server = await asyncio.start_server(self._client, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        await self._stop.wait()
        server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while await self._one(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.heads.append(head)
        if head.startswith("GET /v1/models "):
            writer.write(whole(200, json.dumps(MODELS)))
            return True
        size = next(line for line in head.split("\r\n") if line.startswith("content-length"))
        body = json.loads(await reader.readexactly(int(size.partition(":")[2])))
        self.bodies.append(body)
        if not self.on_chat(len(self.bodies)):
            await self._stop.wait()
        if self.after_probe and len(self.bodies) > 1:
            body["model"] = self.after_probe
        writer.write(answer(body))
        return not body["model"].startswith("cut")


def whole(status: int, text: str) -> bytes:
    kind = "text/html" if text.startswith("<") else "application/json"
    return (
        f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {len(text)}\r\n\r\n{text}".encode()
    )


def chunk(delta: dict[str, Any], finish: str | None = None) -> str:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return f"data: {json.dumps({'choices': [choice]})}\n\n"


def answer(body: dict[str, Any]) -> bytes:
    model = body["model"]
    if model.isdigit():
        return whole(int(model), '{"error": {"message": "as you\\nasked", "code": null}}')
    if model == "html":
        return whole(200, "<html>")
    usage = {"prompt_tokens": 3, "completion_tokens": 7, "total_tokens": 10}
    if not body["stream"]:
        message = {"role": "assistant", "content": "one two three"}
        return whole(200, json.dumps({"choices": [{"index": 0, "message": message}], "usage": usage}))
    events = [": hello\n\n", chunk({"role": "assistant", "content": ""})]
    events += [chunk({"content": word}) for word in ("one", "two", "three")]
    if model == "error-event":
        events.append('data: {"error": {"message": "out of memory"}}\n\n')
    if model == "malformed":
        events.append("data: {oops\n\n")
    if not model.startswith("cut"):
        events.append(chunk({}, "stop"))
        if model != "no-usage":
            events.append(f"data: {json.dumps({'choices': [], 'usage': usage})}\n\n")
        events.append("data: [DONE]\n\n")
    framed = "".join(f"{len(event):x}\r\n{event}\r\n" for event in events)
    end = "" if model == "cut-off" else "0\r\n\r\n"
    head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    return (head + framed + end).encode()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def run(*words: str) -> int:
    parser = argparse.ArgumentParser()
    bench.add(parser.add_subparsers())
    args = parser.parse_args(["bench", *words])
    code: int = args.run(args)
    return code


def measure(tmp_path: Path, *words: str, code: int = 0) -> dict[str, Any]:
    out = tmp_path / "out.json"
    assert run(*words, "--warmup", "0", "--json", str(out)) == code
    found: dict[str, Any] = json.loads(out.read_text())
    return found


def test_streamed(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = measure(tmp_path, server.url, "-n", "20", "-c", "3", "--raw", "--slo", "ttft=60000,e2e=60000")
    summary = found["targets"][0]["summary"]
    assert found["schema"] == "hasten.bench/1"
    assert found["targets"][0]["model"] == "first"
    assert (summary["ok"], summary["failed"], summary["tokens_from"]) == (20, 0, "usage")
    assert summary["output_tokens"] == 140
    assert summary["ttft_ms"]["n"] == summary["tpot_ms"]["n"] == summary["e2e_ms"]["n"] == 20
    assert summary["itl_ms"]["n"] == 40  # three token events each; comments, roles and usage are none
    assert summary["goodput_share"] == 1
    records = found["targets"][0]["rounds"][0]
    assert len(records) == 20
    assert all(0 <= r["due"] <= r["first"] <= r["end"] for r in records)
    assert len(server.bodies) == 21  # the probe
    assert server.bodies[1]["stream_options"] == {"include_usage": True}
    assert server.bodies[1]["max_tokens"] == 64
    assert "temperature" not in server.bodies[1]
    printed = capsys.readouterr()
    assert "TTFT (ms)" in printed.out
    assert "20 requests ok, 0 failed" in printed.out
    assert printed.err == ""  # no bar where there is no terminal


def test_whole(server: Server, tmp_path: Path) -> None:
    found = measure(tmp_path, f"{server.url}/v1/", "-n", "5", "--no-stream", "--model", "m")
    summary = found["targets"][0]["summary"]
    assert (summary["ok"], summary["output_tokens"], summary["ttft_ms"]) == (5, 35, None)
    assert "stream_options" not in server.bodies[0]
    assert server.bodies[0]["stream"] is False


def test_tokens_are_counted_where_no_usage_comes(server: Server, tmp_path: Path) -> None:
    summary = measure(tmp_path, server.url, "-n", "4", "--model", "no-usage")["targets"][0]["summary"]
    assert (summary["output_tokens"], summary["tokens_from"]) == (12, "events")


def test_open_loop(server: Server, tmp_path: Path) -> None:
    found = measure(tmp_path, server.url, "-n", "30", "--rate", "2000", "--arrival", "poisson")
    summary = found["targets"][0]["summary"]
    assert summary["ok"] == 30
    assert summary["lag_ms"]["n"] > 0


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        ("500", "status 500"),
        ("429", "status 429"),
        ("error-event", "in_band"),
        ("malformed", "protocol"),
        ("cut", "reset"),
        ("cut-off", "reset"),
        ("html", "protocol"),
    ],
)
def test_every_request_failed(server: Server, tmp_path: Path, model: str, kind: str) -> None:
    server.after_probe = model
    found = measure(tmp_path, server.url, "-n", "6", code=1)
    assert found["targets"][0]["summary"]["errors"] == {kind: 6}


def test_a_timeout_is_counted(server: Server, tmp_path: Path) -> None:
    server.on_chat = lambda n: n != 2
    found = measure(tmp_path, server.url, "-n", "3", "-c", "1", "--timeout", "0.5")
    summary = found["targets"][0]["summary"]
    assert (summary["ok"], summary["errors"]) == (2, {"timeout": 1})


@pytest.mark.parametrize(
    ("model", "line"),
    [("401", "answered 401 (is --api-key right?): as you asked"), ("404", "answered 404: as you asked")],
)
def test_what_cannot_be_measured(
    server: Server, capsys: pytest.CaptureFixture[str], model: str, line: str
) -> None:
    assert run(server.url, "--model", model) == 2
    assert capsys.readouterr().err == f"hasten bench: {server.url}/v1 {line}\n"
    assert len(server.bodies) == 1


def test_no_target(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    assert run(url) == 2
    assert capsys.readouterr().err == f"hasten bench: {url}/v1: the target refused the connection\n"


@pytest.mark.parametrize(
    "words",
    [
        ["ftp://x"],
        ["http://"],
        ["http://h/v1?key=1"],
        ["http://h", "--no-stream", "--slo", "ttft=3"],
        ["http://h", "--prompts", "/does/not/exist"],
    ],
)
def test_settings_that_cannot_be_used(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*words) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    "words", [["-n", "0"], ["--rate", "-1"], ["--slo", "x=1"], ["-H", "nocolon"], ["--rounds", "1"]]
)
def test_flags_that_are_refused(words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run("http://h", *words)
    assert ended.value.code == 2


def test_headers_and_keys_are_sent_and_not_reported(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    found = measure(tmp_path, server.url, "-n", "1", "-H", "X-Team: blue-42")
    assert all("authorization: Bearer sk-very-secret\r\n" in head for head in server.heads)
    assert all("x-team: blue-42\r\n" in head for head in server.heads)
    assert found["settings"]["headers"] == ["authorization", "x-team"]
    assert "very-secret" not in json.dumps(found)
    assert "blue-42" not in json.dumps(found)


def test_interrupt_keeps_what_was_measured(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def on_chat(n: int) -> bool:
        if n == 7:  # the probe and five answers are through
            os.kill(os.getpid(), signal.SIGINT)
        return n < 7

    server.on_chat = on_chat
    found = measure(tmp_path, server.url, "-n", "100", "-c", "1", code=130)
    assert found["interrupted"] is True
    assert found["targets"][0]["summary"]["ok"] == 5
    assert "interrupted" in capsys.readouterr().out


def test_two_targets_in_turns(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = Server()
    try:
        words = ("--vs", other.url, "-n", "20", "-c", "2", "--rounds", "5", "--unique", "--raw")
        found = measure(tmp_path, server.url, *words)
    finally:
        other.close()
    assert [len(target["rounds"]) for target in found["targets"]] == [5, 5]
    assert [target["summary"]["ok"] for target in found["targets"]] == [20, 20]
    e2e = found["ratios"]["E2E p50"]
    assert e2e["low"] <= e2e["estimate"] <= e2e["high"]
    assert e2e["pairs"] == 5
    asked = [body["messages"][0]["content"] for body in server.bodies + other.bodies]
    assert len(set(asked)) == len(asked) == 42
    assert "A/B TTFT p50" in capsys.readouterr().out


def test_json_on_standard_output_is_alone_there(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(server.url, "-n", "2", "--json", "-", "--prompt", "hello") == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["targets"][0]["summary"]["ok"] == 2
    assert "TTFT (ms)" in printed.err
    assert server.bodies[0]["messages"] == [{"role": "user", "content": "hello"}]


def test_bases() -> None:
    assert base_of("http://h") == base_of("http://h/") == base_of("http://h/v1/") == "http://h/v1"
    assert base_of("https://h:8/api/v3/chat/completions") == "https://h:8/api/v3"


def test_prompts_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "prompts"
    path.write_text('plain\n\n{"prompt": "p"}\n{"messages": [{"role": "user", "content": "m"}], "more": 1}\n')
    assert read_prompts(path) == [as_messages("plain"), as_messages("p"), as_messages("m")]
    for bad in ("", "{", '{"messages": []}', '{"messages": [1]}'):
        path.write_text(f"good\n{bad}\n" if bad else "\n")
        with pytest.raises(ValueError, match=r"prompts, line 2|no prompts in it"):
            read_prompts(path)


def test_unique_prompts_leave_parts_alone() -> None:
    parts = [{"role": "user", "content": [{"type": "text", "text": "look"}]}]
    work = Workload([parts], unique="run", stream=False)
    body = json.loads(work.body("m", 3))
    assert body["messages"] == [{"role": "system", "content": "[run-3]"}, *parts]
