"""The gateways that are compared: how each is installed, started, and asked.

Peers run as they ship. Each is installed once in a folder of its own below ``~/.cache/hasten-bench``; delete the
folder to get the newest version.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from importlib.metadata import version as installed_version
from pathlib import Path

from processes import Child, Failed, free_port

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "hasten-bench"
MODEL = "bench"
PROMPT = "Explain in one sentence what a gateway does."

#: Sent to every candidate: no cache of Hasten's may answer, the way through the gateway is what is measured.
HEADERS = {
    "content-type": "application/json",
    "authorization": "Bearer dummy",
    "x-hasten-cache": "bypass",
}


def body(stream: bool) -> str:
    """Return the request that is sent again and again."""
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": PROMPT}]
    return json.dumps({"model": MODEL, "messages": messages, "max_tokens": 64, "stream": stream})


class Running:
    """A candidate that is up: where it answers and what to send it. ``child`` is ``None`` for going direct."""

    def __init__(self, name: str, port: int, child: Child | None, headers: dict[str, str]) -> None:
        self.name = name
        self.port = port
        self.child = child
        self.headers = HEADERS | headers

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1/chat/completions"

    def request(self, stream: bool) -> urllib.request.Request:
        """Return one request as the load generators send them."""
        return urllib.request.Request(self.url, body(stream).encode(), self.headers)


class Candidate:
    """A gateway. ``install`` returns its version, ``command`` the words that start it before ``upstream``."""

    name = ""
    limit = 60.0  # seconds to get ready

    def install(self) -> str:
        """Install what is missing and return the version. Raises :class:`Failed`."""
        raise NotImplementedError

    def command(self, port: int, upstream: int, folder: Path) -> list[str]:
        """Return the command that serves on ``port`` before the upstream on port ``upstream``."""
        raise NotImplementedError

    def environ(self) -> dict[str, str]:
        """Return variables to set for the process."""
        return {}

    def headers(self, upstream: int) -> dict[str, str]:
        """Return headers that requests need."""
        return {}

    def start(self, upstream: int, core: int, folder: Path, stream: bool) -> Running:
        """Start it on ``core`` and wait until it answers. Raises :class:`Failed`."""
        port = free_port()
        command = self.command(port, upstream, folder)
        child = Child(command, core, folder / f"{self.name}.log", self.environ())
        running = Running(self.name, port, child, self.headers(upstream))
        try:
            child.wait_ready(running.request(stream), self.limit)
        except BaseException:
            child.end()
            raise
        return running


class Hasten(Candidate):
    """This project, one worker, its request log as by default, into a file."""

    name = "hasten"

    def install(self) -> str:
        return installed_version("hasten")

    def command(self, port: int, upstream: int, folder: Path) -> list[str]:
        config = folder / "hasten.yaml"
        base = f"http://127.0.0.1:{upstream}/v1"
        config.write_text(
            f"engines:\n  up: {{kind: openai, base_url: '{base}'}}\nmodels:\n  {MODEL}: {{engines: [up]}}\n"
            "cache: {exact: false, semantic: false, coalesce: false}\n"  # what passes through is measured
        )
        return [sys.executable, "-m", "hasten", "serve", str(config), "--port", str(port)]


class HastenRouted(Hasten):
    """The same with two tiers behind the name: every request is scored and routed; both lead to the one upstream."""

    name = "hasten-routed"

    def command(self, port: int, upstream: int, folder: Path) -> list[str]:
        config = folder / "hasten-routed.yaml"
        base = f"http://127.0.0.1:{upstream}/v1"
        config.write_text(
            f"engines:\n  up: {{kind: openai, base_url: '{base}'}}\nmodels:\n  small: {{engines: [up]}}\n"
            f"  large: {{engines: [up]}}\n  {MODEL}: {{tiers: [small, large]}}\n"
            "cache: {exact: false, semantic: false, coalesce: false}\n"
        )
        return [sys.executable, "-m", "hasten", "serve", str(config), "--port", str(port)]


class HastenSeeing(Hasten):
    """The same with all that watches it on: objectives, budgets, prices, the log in a file, spans to a collector."""

    name = "hasten-seeing"
    spans = True

    def command(self, port: int, upstream: int, folder: Path) -> list[str]:
        config = folder / f"{self.name}.yaml"
        base = f"http://127.0.0.1:{upstream}/v1"
        config.write_text(
            f"engines:\n  up: {{kind: openai, base_url: '{base}'}}\nmodels:\n"
            f"  {MODEL}: {{engines: [up], price: {{input: 1, output: 2}}}}\n"
            "cache: {exact: false, semantic: false, coalesce: false}\n"
            "slo: {ttft_p95_ms: 200, tpot_p95_ms: 33, e2e_p95_ms: 800, errors: 0.01,"
            " budget_ms: {accept: 5, prefill: 500}}\n"
            f"log: {{path: '{folder}/{self.name}.jsonl'}}\n"
            # It takes connections and refuses spans: what it costs to make and send them is there.
            + f"otel: {{endpoint: 'http://127.0.0.1:{upstream}'}}\n"
            * self.spans
        )
        return [sys.executable, "-m", "hasten", "serve", str(config), "--port", str(port)]


class HastenSeeingNoSpans(HastenSeeing):
    """All of that but the spans."""

    name = "hasten-seeing-no-spans"
    spans = False


class HastenBefore(Hasten):
    """Another version of this project, to compare with: ``HASTEN_BEFORE`` names the folder of its checkout."""

    name = "hasten-before"

    def install(self) -> str:
        folder = os.environ.get("HASTEN_BEFORE")
        if not folder:
            raise Failed("HASTEN_BEFORE is not set")
        return Path(folder).name

    def environ(self) -> dict[str, str]:
        return {"PYTHONPATH": f"{os.environ['HASTEN_BEFORE']}/src"}


class VllmRouter(Candidate):
    """vLLM's router, in Rust, as it ships; only its metrics port is moved, so that two can run.

    Its default policy, ``cache_aware``, asks the upstream to render each chat before it sends it on.
    """

    name = "vllm-router"
    policy: tuple[str, ...] = ()

    def install(self) -> str:
        return pip_install("vllm-router", "vllm-router")

    def command(self, port: int, upstream: int, folder: Path) -> list[str]:
        program = str(CACHE / "vllm-router" / "bin" / "vllm-router")
        words = [program, "--host", "127.0.0.1", "--port", str(port), "--prometheus-port", str(free_port())]
        return [*words, "--worker-urls", f"http://127.0.0.1:{upstream}", *self.policy]


class VllmRouterPlain(VllmRouter):
    """The same without its cache-aware policy: it does less than as shipped, and is the harder one to beat."""

    name = "vllm-router-rr"
    policy = ("--policy", "round_robin")


class LiteLlm(Candidate):
    """LiteLLM's proxy with its default of one worker. Its price list comes from the package, not the network.

    It refuses to start without a key of its own, so it gets a random one: its figures include checking that.
    """

    name = "litellm"
    limit = 180.0

    def __init__(self) -> None:
        self.key = f"sk-{secrets.token_hex(32)}"

    def install(self) -> str:
        return pip_install(self.name, "litellm[proxy]")

    def command(self, port: int, upstream: int, folder: Path) -> list[str]:
        base = f"http://127.0.0.1:{upstream}/v1"
        params = {"model": f"openai/{MODEL}", "api_base": base, "api_key": "dummy"}
        config = folder / "litellm.yaml"
        config.write_text(json.dumps({"model_list": [{"model_name": MODEL, "litellm_params": params}]}))
        program = str(CACHE / self.name / "bin" / "litellm")
        return [program, "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]

    def environ(self) -> dict[str, str]:
        return {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MASTER_KEY": self.key}

    def headers(self, upstream: int) -> dict[str, str]:
        return {"authorization": f"Bearer {self.key}"}


class Portkey(Candidate):
    """Portkey's gateway on Node.js; the request's headers name the upstream.

    Its range of versions for ``@hono/node-server`` admits ones (1.14 to 1.19) with which 1.15.2 answers streams with
    status 500, so an older one in that range is asked for.
    """

    name = "portkey"
    package = "@portkey-ai/gateway"

    @property
    def home(self) -> Path:
        return CACHE / self.name / "node_modules" / self.package

    def install(self) -> str:
        manifest = self.home / "package.json"
        if not manifest.exists():
            folder = CACHE / self.name
            folder.mkdir(parents=True, exist_ok=True)
            tool = shutil.which("npm")
            if tool is None:
                raise Failed("npm is not there")
            pinned = {"overrides": {"@hono/node-server": "1.13.8"}}
            (folder / "package.json").write_text(json.dumps(pinned))
            run_quietly([tool, "install", "--prefix", str(folder), "--no-fund", "--no-audit", self.package])
        found: str = json.loads(manifest.read_text())["version"]
        return found

    def command(self, port: int, upstream: int, folder: Path) -> list[str]:
        node = shutil.which("node") or "node"
        return [node, str(self.home / "build" / "start-server.js"), f"--port={port}", "--headless"]

    def headers(self, upstream: int) -> dict[str, str]:
        host = f"http://127.0.0.1:{upstream}/v1"
        return {"x-portkey-provider": "openai", "x-portkey-custom-host": host}


ALL: dict[str, Callable[[], Candidate]] = {
    kind.name: kind
    for kind in (
        Hasten,
        HastenBefore,
        HastenSeeing,
        HastenSeeingNoSpans,
        HastenRouted,
        VllmRouter,
        VllmRouterPlain,
        Portkey,
        LiteLlm,
    )
}


def pip_install(name: str, package: str) -> str:
    """Install ``package`` into a virtual environment below :data:`CACHE` and return its version."""
    folder = CACHE / name
    python = folder / "bin" / "python"
    done = folder / ".installed"
    if not done.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        run_quietly([sys.executable, "-m", "venv", str(folder)])
        uv = shutil.which("uv")
        words = [uv, "pip", "install", "--python"] if uv else []
        run_quietly([*words, str(python), package] if uv else [str(python), "-m", "pip", "install", package])
        done.touch()
    plain = package.partition("[")[0]
    code = f"from importlib.metadata import version; print(version({plain!r}))"
    return subprocess.run(
        [str(python), "-c", code], check=True, capture_output=True, text=True
    ).stdout.strip()


def run_quietly(command: list[str]) -> None:
    """Run ``command``, at most ten minutes. Raises :class:`Failed` with the last line it printed."""
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise Failed(f"{command[0]}: {exc}") from None
    if done.returncode:
        lines = done.stdout.strip().splitlines() or ["it printed nothing"]
        raise Failed(f"{Path(command[0]).name} ended with {done.returncode}: {lines[-1][:300]}")
