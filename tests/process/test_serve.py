"""`hasten serve` as a process of its own: signals, several workers, deaths."""

import asyncio
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from hasten.testing import Script, ScriptedUpstream
from tests.gateway import eventually

ASK = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


class Served:
    """A running `hasten serve` and what it says."""

    def __init__(self, process: asyncio.subprocess.Process, config: Path) -> None:
        self.process = process
        self.config = config
        self.said = ""
        self.url = ""
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stderr is not None
        while line := await self.process.stderr.readline():
            self.said += line.decode()

    async def says(self, pattern: str, within: float = 10.0) -> str:
        """Wait until a line matches; return its first group."""
        await eventually(
            lambda: re.search(pattern, self.said) is not None or self.process.returncode is not None, within
        )
        found = re.search(pattern, self.said)
        assert found is not None, self.said
        return found[1] if found.groups() else found[0]

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.url, timeout=20, trust_env=False)

    async def ended(self, within: float = 10.0) -> int:
        async with asyncio.timeout(within):
            return await self.process.wait()


def config_text(upstream: ScriptedUpstream, model: str = "m", extra: str = "") -> str:
    return (
        f"server: {{port: 0, drain_timeout: 3{extra}}}\n"
        f"engines: {{up: {{kind: openai, base_url: '{upstream.base_url}'}}}}\n"
        f"models: {{{model}: {{engines: [up]}}}}\n"
        "cache: {exact: false, semantic: false, coalesce: false}\n"
    )


@contextlib.asynccontextmanager
async def served(folder: Path, text: str, *args: str) -> AsyncIterator[Served]:
    config = folder / "hasten.yaml"
    config.write_text(text)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "hasten", "serve", str(config), *args,
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    made = Served(process, config)
    try:
        made.url = await made.says(r"serving on (\S+?),")
        async with made.client() as http:

            async def ready() -> bool:
                try:
                    return (await http.get("/ready")).status_code == 200
                except httpx.HTTPError:
                    return False

            async with asyncio.timeout(10):
                while not await ready():
                    await asyncio.sleep(0.02)
        yield made
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            await made.ended()


async def read_stream(http: httpx.AsyncClient, started: asyncio.Event | None = None) -> str:
    text = ""
    async with http.stream("POST", "/v1/chat/completions", json={**ASK, "stream": True}) as reply:
        assert reply.status_code == 200
        async for piece in reply.aiter_text():
            text += piece
            if started is not None:
                started.set()
    return text


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_sigterm_fails_ready_first_and_lets_streams_end(tmp_path: Path, workers: str) -> None:
    async with (
        ScriptedUpstream(Script(itl=0.05, repeat=2)) as up,
        served(tmp_path, config_text(up), "--workers", workers) as gw,
        gw.client() as http,
    ):
        started = [asyncio.Event() for _ in range(10)]
        streams = [asyncio.create_task(read_stream(http, event)) for event in started]
        for event in started:
            await event.wait()
        gw.process.send_signal(signal.SIGTERM)
        await gw.says("draining")

        async def not_ready() -> bool:
            return (await http.get("/ready")).status_code == 503

        async with asyncio.timeout(2):
            while not await not_ready():
                await asyncio.sleep(0.01)
        assert (await http.post("/v1/chat/completions", json=ASK)).status_code == 503
        for stream in streams:
            assert (await stream).endswith("data: [DONE]\n\n")
        assert await gw.ended() == 0


async def test_a_stream_over_the_drain_timeout_is_told_and_ended(tmp_path: Path) -> None:
    async with ScriptedUpstream(Script(itl=0.2, repeat=20)) as up:
        text = config_text(up).replace("drain_timeout: 3", "drain_timeout: 0.5")
        async with served(tmp_path, text) as gw, gw.client() as http:
            started = asyncio.Event()
            stream = asyncio.create_task(read_stream(http, started))
            await started.wait()
            gw.process.send_signal(signal.SIGINT)
            assert '"code":"shutting_down"' in (await stream).split("\n\n")[-2]
            assert await gw.ended(5) == 0


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_sighup_reloads_and_keeps_the_old_on_a_mistake(tmp_path: Path, workers: str) -> None:
    async with (
        ScriptedUpstream(Script(itl=0.05, repeat=3)) as up,
        served(tmp_path, config_text(up), "--workers", workers) as gw,
        gw.client() as http,
    ):
        started = asyncio.Event()
        stream = asyncio.create_task(read_stream(http, started))
        await started.wait()

        gw.config.write_text(config_text(up, extra=", prot: 1"))
        gw.process.send_signal(signal.SIGHUP)
        await gw.says(r"server\.prot .*did you mean 'port'")
        assert (await http.get("/v1/models")).json()["data"][0]["id"] == "m"

        gw.config.write_text(config_text(up, model="renamed"))
        gw.process.send_signal(signal.SIGHUP)
        await gw.says("reloaded, models: renamed")

        async def renamed() -> bool:
            async with gw.client() as fresh:  # a new connection: any worker may answer
                return bool((await fresh.get("/v1/models")).json()["data"][0]["id"] == "renamed")

        async with asyncio.timeout(5):
            while not all([await renamed() for _ in range(8)]):
                await asyncio.sleep(0.02)
        assert (await stream).endswith("data: [DONE]\n\n")


async def test_metrics_are_summed_over_workers_and_outlive_them(tmp_path: Path) -> None:
    async with ScriptedUpstream() as up, served(tmp_path, config_text(up), "--workers", "2") as gw:

        async def count() -> float:
            async with gw.client() as http:
                page = (await http.get("/metrics")).text
            return sum(
                sample.value
                for family in text_string_to_metric_families(page)
                for sample in family.samples
                if sample.name == "hasten_requests_total" and sample.labels["endpoint"] == "chat"
            )

        async def workers() -> list[int]:
            children = Path(f"/proc/{gw.process.pid}/task/{gw.process.pid}/children").read_text()
            return [int(pid) for pid in children.split()]

        for _ in range(20):
            async with gw.client() as http:
                assert (await http.post("/v1/chat/completions", json=ASK)).status_code == 200
        async with asyncio.timeout(10):
            while await count() < 20:  # another worker may not have counted its last ones yet
                await asyncio.sleep(0.02)

        victim = (await workers())[0]
        os.kill(victim, signal.SIGKILL)
        await gw.says(r"worker \d ended with code -9")
        async with asyncio.timeout(10):
            while victim in (now := await workers()) or len(now) < 2:
                await asyncio.sleep(0.02)
        for _ in range(10):
            async with gw.client() as http:
                assert (await http.post("/v1/chat/completions", json=ASK)).status_code == 200
        async with asyncio.timeout(10):
            while await count() < 30:
                await asyncio.sleep(0.02)
        assert await count() == 30


async def test_workers_end_when_the_parent_is_killed(tmp_path: Path) -> None:
    async with ScriptedUpstream() as up, served(tmp_path, config_text(up), "--workers", "2") as gw:
        children = Path(f"/proc/{gw.process.pid}/task/{gw.process.pid}/children").read_text().split()
        assert len(children) == 2
        gw.process.kill()
        await gw.ended()
        await eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children), 5)


def run(*args: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "hasten", *args], capture_output=True, text=True, timeout=30, check=False
    )
    return done.returncode, done.stdout + done.stderr


def test_check_names_the_key_and_what_is_allowed(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("engines:\n  a: {kind: vllm}\nmodels: {m: {engines: [b]}}\nserver: {port: eighty}\n")
    code, said = run("check", str(config))
    assert code == 2
    assert "engines.a.kind (line 2): is 'vllm'; allowed: llama, openai" in said
    assert "server.port (line 4): expected int, got str" in said
    config.write_text(
        "engines: {a: {kind: openai, base_url: 'http://10.0.0.1/v1'}}\nmodels: {m: {engines: [a]}}\n"
    )
    code, said = run("check", str(config))
    assert code == 0
    assert "model m: a (least_loaded)" in said


def test_check_tells_what_is_configured_and_what_is_hardly_meant(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("""
engines: {a: {kind: openai, base_url: 'http://10.0.0.1/v1'}}
models:
  weak: {engines: [a], price: {input: 3, output: 5}}
  strong: {engines: [a], price: {input: 1, output: 5}}
  auto: {tiers: [weak, strong], route: {hold: {quality: 0.9}, cascade: true, learn: {share: 0.5}}}
tenants: {acme: {keys: [key-of-acme], cache_group: shops, require: [eu]}}
routes: {news: {patterns: [news], to: weak, cache: {ttl: 90000, tags: [n]}}}
slo: {e2e_p95_ms: 800, models: {weak: {errors: 0.1}}, budget_ms: {cache: 10}}
""")
    code, said = run("check", str(config))
    assert code == 0
    assert said.split("\n") == [
        f"{config}: good",
        "  server: 127.0.0.1:8400, 1 keys, 1 worker(s)",
        "  tenant acme: 1 key(s), cache group shops, requires eu",
        "  engine a: http://10.0.0.1/v1",
        "  model weak: a (least_loaded)",
        "  model strong: a (least_loaded)",
        "  model auto: one of weak, strong (holds quality 0.9); cascade, holds 24 tokens; learns, share 0.5",
        "  route news: 1 pattern(s), 0 example(s) to weak; cache ttl 90000, tags n",
        "  prices: weak: input 3, output 5; strong: input 1, output 5",
        "  cache: memory, exact, coalesce, semantic (false hits to 1%), 86400 s",
        "  slo: e2e_p95_ms 800; model weak: errors 0.1; budget_ms cache 10",
        "  log: jsonl to standard output",
        "  otel: off",
        "warning: models.auto.tiers: strong costs less than weak, but the weakest stands first",
        "warning: routes.news.cache.ttl: 90000 has no effect above cache.ttl (86400)",
        "",
    ]


def test_check_tells_where_log_and_spans_go_and_tries_the_log(tmp_path: Path) -> None:
    config, log = tmp_path / "c.yaml", tmp_path / "requests.jsonl"
    text = """
engines: {a: {kind: openai, base_url: 'http://10.0.0.1/v1'}}
models: {m: {engines: [a], price: {input: 2.5, cached_input: 0.25}}, n: {engines: [a]}}
otel: {endpoint: 'http://127.0.0.1:4318', sample: 0.1}
log: {path: PATH, prompts: true, hash_key: k, redact: 'json:dumps'}
"""
    config.write_text(text.replace("PATH", str(log)))
    code, said = run("check", str(config))
    assert code == 0
    assert "  prices: m: input 2.5, output 0, cached_input 0.25; none of n\n" in said
    assert f"  log: jsonl to {log}, with texts, with hashes, redacted by json:dumps\n" in said
    assert "  otel: spans of 10% of the requests to http://127.0.0.1:4318\n" in said
    assert not log.exists()
    log.symlink_to(tmp_path / "nowhere" / "file")
    code, said = run("check", str(config))
    assert code == 2
    assert f"log.path: {log} cannot be opened: No such file or directory" in said


def test_serve_says_what_is_wrong(tmp_path: Path) -> None:
    code, said = run("serve", str(tmp_path / "none.yaml"))
    assert code == 2
    assert "No such file" in said
    config = tmp_path / "c.yaml"
    config.write_text(
        "engines: {a: {kind: openai, base_url: 'http://10.0.0.1/v1'}}\nmodels: {m: {engines: [a]}}\n"
    )
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, said = run("serve", str(config), "--port", str(port))
    assert code == 1
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in said
