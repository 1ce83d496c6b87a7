"""The gateway with its cache as a child process, and a plain client that asks one request after the other."""

from __future__ import annotations

import http.client
import json
import sys
import urllib.request
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

from candidates import MODEL, Hasten, Running
from processes import Failed

OFF = "cache: {exact: false, semantic: false, coalesce: false}\n"


class Cached(Hasten):
    """This project with its cache: as shipped, or with ``sections`` of settings."""

    def __init__(self, name: str, sections: str = "") -> None:
        self.name = name
        self.sections = sections

    def command(self, port: int, upstream: int, folder: Path) -> list[str]:
        config = folder / f"{self.name}.yaml"
        base = f"http://127.0.0.1:{upstream}/v1"
        engines = (
            f"engines:\n  up: {{kind: openai, base_url: '{base}'}}\nmodels:\n  {MODEL}: {{engines: [up]}}\n"
        )
        config.write_text(engines + self.sections)
        return [sys.executable, "-m", "hasten", "serve", str(config), "--port", str(port)]

    def start(self, upstream: int, core: int, folder: Path, stream: bool) -> Running:
        """Start it, wait until the models are loaded, and let requests reach the cache."""
        running = super().start(upstream, core, folder, stream)
        assert running.child is not None
        try:
            running.child.wait_ready(urllib.request.Request(address(running, "/ready")), 60)
        except BaseException:
            running.child.end()
            raise
        del running.headers["x-hasten-cache"]
        return running


def address(running: Running, path: str) -> str:
    """Return the URL of another page of a gateway."""
    return f"http://127.0.0.1:{running.port}{path}"


def state(running: Running) -> dict[str, Any]:
    """Return what the gateway's page about its cache says."""
    with urllib.request.urlopen(address(running, "/admin/cache"), timeout=10) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


def need_semantic(running: Running) -> None:
    """Raise :class:`Failed` if the semantic cache does not work here."""
    semantic = state(running)["semantic"]
    if semantic is None or semantic["state"] != "ready":
        assert running.child is not None
        why = running.child.last_line() if semantic is None else semantic["state"]
        raise Failed(f"the semantic cache does not work here: {why}")


class Answer(NamedTuple):
    """One answer. ``cache`` and ``why``: the gateway's headers. ``first``: seconds to the first token of a stream."""

    body: bytes
    cache: str
    why: str
    seconds: float
    first: float | None

    def json(self) -> dict[str, Any]:
        """Return the body of an answer that is not a stream."""
        found: dict[str, Any] = json.loads(self.body)
        return found


class Client:
    """One kept connection."""

    def __init__(self, port: int, timeout: float = 120.0) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)

    def ask(self, fields: dict[str, Any], **headers: str) -> Answer:
        """Send a chat completion, read its answer to the end. Raises :class:`Failed` for anything but a 200."""
        body = json.dumps(fields).encode()
        sent = {"content-type": "application/json"} | {k.replace("_", "-"): v for k, v in headers.items()}
        since = perf_counter()
        try:
            self._connection.request("POST", "/v1/chat/completions", body, sent)
            reply = self._connection.getresponse()
            data, first = _read(reply, since) if fields.get("stream") else (reply.read(), None)
        except (OSError, http.client.HTTPException) as exc:
            raise Failed(f"no answer: {exc!r}") from None
        seconds = perf_counter() - since
        if reply.status != 200:
            raise Failed(f"status {reply.status}: {data[:300]!r}")
        return Answer(
            data,
            reply.headers["x-hasten-cache"] or "",
            reply.headers["x-hasten-cache-why"] or "",
            seconds,
            first,
        )

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def _read(reply: http.client.HTTPResponse, since: float) -> tuple[bytes, float | None]:
    """Return a stream's bytes, and the seconds until its first token."""
    parts, first = [], None
    while line := reply.readline():
        parts.append(line)
        if first is None and b'"content":"' in line and b'"content":""' not in line:
            first = perf_counter() - since
    return b"".join(parts), first
