"""The request log: whole records, and a sink that is slow, full or gone delays nobody."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from hasten import config
from hasten.errors import SettingsError
from hasten.measure.record import read
from hasten.testing import Script, ScriptedUpstream
from tests.gateway import Gateway, eventually, gateway


def dropped(gw: Gateway, reason: str) -> float:
    return gw.worker.metrics.gauge("hasten_request_log_dropped_total", reason).value


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


async def test_one_valid_line_a_request(tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    async with ScriptedUpstream() as up, gateway(up, log={"path": str(path)}) as gw:
        await gw.chat(
            stream=True, stream_options={"include_usage": True}, max_tokens=9, temperature=0.5, seed=3
        )
        up.script = Script(status=400, body='{"error":"\\n\u2028"}')
        await gw.chat()
        await gw.http.get("/v1/models")
        await gw.http.get('/no"where')
        for unlogged in ("/health", "/ready", "/metrics"):
            await gw.http.get(unlogged)
        await eventually(lambda: path.read_text().count("\n") >= 4)
    streamed, refused, models, nowhere = lines(path)
    assert streamed["status"] == 200
    assert (streamed["endpoint"], streamed["model"], streamed["engine"]) == ("chat", "m", "e0")
    assert (streamed["input_tokens"], streamed["output_tokens"], streamed["finish_reason"]) == (10, 7, "stop")
    assert (streamed["max_tokens"], streamed["temperature"], streamed["seed"]) == (9, 0.5, 3)
    assert (streamed["messages"], streamed["tools"], streamed["v"]) == (1, 0, 1)
    assert streamed["request_bytes"] > 100
    assert not {"request", "answer", "conversation", "prefix"} & streamed.keys()
    assert 0 < streamed["ttft_ms"] <= streamed["duration_ms"]
    assert (refused["status"], refused["error"]) == (400, "engine_status")
    assert (models["endpoint"], models["status"]) == ("models", 200)
    assert nowhere["status"] == 404
    assert len({line["id"] for line in (streamed, refused, models, nowhere)}) == 4


async def test_what_is_queued_is_written_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    async with ScriptedUpstream() as up, gateway(up, log={"path": str(path)}) as gw:
        for _ in range(5):
            await gw.http.get("/v1/models")
    assert len(lines(path)) == 5


@pytest.mark.parametrize("opened", [False, True], ids=["never opened", "never read"])
async def test_a_fifo_that_nobody_reads_delays_no_request(opened: bool, tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK) if opened else -1
    async with ScriptedUpstream() as up, gateway(up, log={"path": str(path), "max_pending": 300}) as gw:
        slowest = 0.0
        for _ in range(1500):  # a pipe holds 64 KB: some 400 lines
            since = time.perf_counter()
            assert b"200" in await gw.raw(b"GET /v1/models HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            slowest = max(slowest, time.perf_counter() - since)
        await eventually(lambda: dropped(gw, "slow") > 0)
        assert slowest < 2
        assert dropped(gw, "slow") < 1500
        reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # lets the writer's thread end
        try:
            log = gw.worker._log
            assert log is not None
            gw.worker._log = None
            closing = asyncio.get_running_loop().run_in_executor(None, log.close, 10.0)
            while not closing.done():
                await asyncio.sleep(0.01)
                with contextlib.suppress(BlockingIOError):
                    os.read(reading, 2**20)
            await closing
        finally:
            os.close(reading)
            if opened:
                os.close(reader)


async def test_a_full_disk_is_counted_and_delays_no_request() -> None:
    async with ScriptedUpstream() as up, gateway(up, log={"path": "/dev/full"}) as gw:
        for _ in range(20):
            assert (await gw.http.get("/v1/models")).status_code == 200
        await eventually(lambda: dropped(gw, "failed") == 20)
        assert 'hasten_request_log_dropped_total{reason="failed"} 20' in await gw.metrics()


async def test_what_waits_is_bounded_in_bytes(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    log = {"path": str(path), "prompts": True, "max_pending_bytes": 200_000}
    messages = [{"role": "user", "content": "x" * 30_000}]
    async with ScriptedUpstream() as up, gateway(up, log=log) as gw:
        for _ in range(20):
            await gw.http.post("/v1/chat/completions", json={"model": "m", "messages": messages})
        made = gw.worker._log
        assert made is not None
        assert made._taken_bytes - made._through_bytes <= 200_000
        await eventually(lambda: dropped(gw, "slow") > 0)
        reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        gw.worker._log = None
        closing = asyncio.get_running_loop().run_in_executor(None, made.close, 10.0)
        while not closing.done():
            await asyncio.sleep(0.01)
            with contextlib.suppress(BlockingIOError):
                os.read(reading, 2**20)
        os.close(reading)


async def test_both_texts_are_kept_where_asked_and_cut(tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    async with (
        ScriptedUpstream() as up,
        gateway(up, log={"path": str(path), "prompts": True}) as gw,
    ):
        await gw.chat(stream=True)
        await gw.chat(messages=[{"role": "user", "content": "y" * 100_000}])
    short, long = read(path)
    assert short.request is not None
    assert "capital of France" in short.request
    assert short.answer is not None
    assert short.answer.endswith("data: [DONE]\n\n")
    assert not short.cut
    assert long.cut
    assert long.request is not None
    assert len(long.request) == 65536


@pytest.mark.parametrize("pending", [0, 8], ids=["dropped", "queued"])
async def test_only_the_log_keeps_texts(pending: int, tmp_path: Path) -> None:
    log = {"path": str(tmp_path / "requests.jsonl"), "prompts": True, "max_pending": max(1, pending)}
    async with ScriptedUpstream() as up, gateway(up, log=log) as gw:
        made = gw.worker._log
        assert made is not None
        made._taken += 1 if not pending else 0  # one that never ends fills the queue
        await gw.chat()
        await gw.chat(stream=True)
        gw.worker.metrics.flush()
        await eventually(lambda: dropped(gw, "slow") == (0 if pending else 2))
        kept = [trace for *_, trace in gw.worker.metrics.watch.exemplars.ledger._open]
        assert len(kept) == 2
        assert all(trace.transcript is None for trace in kept)
        made._taken -= 1 if not pending else 0


async def test_hashes_tell_what_begins_alike_and_not_what_it_says(tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    system = {"role": "system", "content": "s" * 5000}
    first = [system, {"role": "user", "content": "one " * 1000}]
    then = [*first, {"role": "assistant", "content": "a"}, {"role": "user", "content": "more"}]
    other = [system, {"role": "user", "content": "two " * 1000}]
    keys = ("k1", "k2")
    for key in keys:
        async with ScriptedUpstream() as up, gateway(up, log={"path": str(path), "hash_key": key}) as gw:
            for messages in (first, then, other):
                await gw.chat(messages=messages)
    one, two, three, *rest = read(path)
    assert one.conversation == two.conversation != three.conversation
    assert one.request is None
    assert "one one" not in path.read_text()
    whole = len(one.prefix) - 1  # the last block is not full
    assert whole == 4
    assert two.prefix[:whole] == one.prefix[:whole]
    assert three.prefix[:2] == one.prefix[:2]
    assert not set(three.prefix[2:]) & set(one.prefix)
    assert not {number for record in rest for number in record.prefix} & set(one.prefix)


@pytest.mark.parametrize("moved", [True, False], ids=["renamed", "removed"])
async def test_a_file_that_was_moved_away_is_opened_anew(moved: bool, tmp_path: Path) -> None:
    path, old = tmp_path / "requests.jsonl", tmp_path / "requests.jsonl.1"
    async with ScriptedUpstream() as up, gateway(up, log={"path": str(path)}) as gw:
        await gw.http.get("/v1/models")
        await eventually(lambda: path.stat().st_size > 0)
        if moved:
            path.rename(old)
        else:
            path.unlink()
        log = gw.worker._log
        assert log is not None
        log._sink._looked -= 2.0  # type: ignore[attr-defined]
        await gw.http.get("/v1/models")
    assert len(lines(path)) == 1
    assert not moved or len(lines(old)) == 1


def refuse(record: dict[str, Any]) -> dict[str, Any] | None:
    """A hook: drops what is asked of the models, hides the texts of chats, fails where it is told to."""
    if record["endpoint"] == "models":
        return None
    if "fail" in record["request"]:
        raise KeyError(record["request"])
    record["request"] = record["request"].replace("France", "***")
    return record


async def test_a_hook_sees_each_record_first(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "requests.jsonl"
    log = {"path": str(path), "prompts": True, "redact": f"{__name__}:refuse"}
    async with ScriptedUpstream() as up, gateway(up, log=log) as gw:
        await gw.chat()
        await gw.http.get("/v1/models")
        await gw.chat(messages=[{"role": "user", "content": "fail: my secret"}])
        await eventually(lambda: dropped(gw, "redaction") == 1)
        assert dropped(gw, "redacted") == 1
    hidden, failed = read(path)
    assert hidden.request is not None
    assert "capital of ***" in hidden.request
    assert (failed.request, failed.answer, failed.status) == (None, None, 200)
    assert "secret" not in path.read_text()
    assert "refuse failed (KeyError); texts are left out" in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("no.such.module:f", "cannot be imported"),
        (f"{__name__}:missing", "has no missing"),
        (f"{__name__}:Any.__doc__", "is no function"),
        ("nonsense", "regex"),
    ],
)
def test_a_hook_that_is_not_there_is_named(path: str, why: str) -> None:
    with pytest.raises(SettingsError, match=r"log\.redact") as caught:
        settings({"redact": path})
    assert why in str(caught.value)


def test_parquet_needs_a_folder_and_its_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.touch()
    for given, why in (({}, "needed with format"), ({"path": str(file)}, "is no folder")):
        with pytest.raises(SettingsError, match=rf"log\.path.*{why}"):
            settings({"format": "parquet", **given})
    monkeypatch.setattr("hasten.checks.find_spec", lambda name: None)
    with pytest.raises(SettingsError, match=r"log\.format.*pip install 'hasten\[parquet\]'"):
        settings({"format": "parquet", "path": str(tmp_path)})


def settings(log: dict[str, Any]) -> None:
    engines = {"e": {"kind": "openai", "base_url": "http://127.0.0.1:1/v1"}}
    config.build({"engines": engines, "models": {"m": {"engines": ["e"]}}, "log": log}, environ={})


async def test_parquet_from_end_to_end(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    folder = tmp_path / "log"
    async with (
        ScriptedUpstream() as up,
        gateway(up, log={"format": "parquet", "path": str(folder), "prompts": True}) as gw,
    ):
        await gw.chat(stream=True)
        await gw.http.get("/v1/models")
        await asyncio.sleep(0.3)
        assert list(folder.glob("*.parquet")) == []
    (file,) = folder.iterdir()
    assert file.match("requests-*-0001.parquet")
    chat, models = found = list(read(folder))
    assert [record.endpoint for record in found] == ["chat", "models"]
    assert chat.stages_ms
    assert sum(chat.stages_ms.values()) == pytest.approx(chat.duration_ms, abs=0.02)
    assert chat.answer is not None
    assert "[DONE]" in chat.answer
    assert models.request is None


async def test_a_sink_that_raises_what_it_should_not_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "requests.jsonl"
    async with ScriptedUpstream() as up, gateway(up, log={"path": str(path)}) as gw:
        log = gw.worker._log
        assert log is not None
        with monkeypatch.context() as broken:
            broken.setattr(log._sink, "write", {}.__getitem__)
            for _ in range(2):
                await gw.http.get("/v1/models")
                await gw.http.get("/nowhere")
                await eventually(lambda: not log._pending)
            await eventually(lambda: dropped(gw, "failed") == 4)
        await gw.http.get("/v1/models")
    assert len(lines(path)) == 1
    assert caplog.text.count("goes on without some records") == 1


async def test_the_end_of_the_log_holds_nobody_up(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    runs = threading.Event()
    waited: list[bool] = []

    def close() -> int:
        loop.call_soon_threadsafe(runs.set)
        waited.append(runs.wait(30))
        return 0

    async with (
        ScriptedUpstream() as up,
        gateway(up, log={"path": str(tmp_path / "requests.jsonl")}) as gw,
    ):
        assert gw.worker._log is not None
        gw.worker._log._sink.close = close  # type: ignore[method-assign]
    assert waited == [True]


async def test_a_reload_that_is_refused_leaves_the_log_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse_it(*args: Any) -> None:
        raise SettingsError(["no"])

    old, new = tmp_path / "old.jsonl", tmp_path / "new.jsonl"
    async with ScriptedUpstream() as up, gateway(up, log={"path": str(old)}) as gw:
        changed = replace(gw.worker.settings, log=replace(gw.worker.settings.log, path=str(new)))
        with monkeypatch.context() as refusing:
            refusing.setattr("hasten.process.worker.App", refuse_it)
            with pytest.raises(SettingsError):
                gw.worker.reload(changed)
        await gw.http.get("/v1/models")
        await eventually(lambda: old.stat().st_size > 0)
        gw.worker.reload(changed)
        await gw.http.get("/v1/models")
    assert (len(lines(old)), len(lines(new))) == (1, 1)
