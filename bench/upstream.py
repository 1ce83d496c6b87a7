"""What stands behind the gateways: nginx with a canned answer, and (run as a program) a stream of events.

``python bench/upstream.py --port N --events 64 --interval-ms 10`` answers chat completions with streams of 64 events,
one every 10 ms.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sys
from pathlib import Path

import httptools
from candidates import MODEL, Running
from processes import Child, free_port

ANSWER = {
    "id": "chatcmpl-9f2c4e7a1b6d4c0f8a35e1d27b90c684",
    "object": "chat.completion",
    "created": 1767225600,
    "model": MODEL,
    "choices": [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": "A gateway takes requests, decides where each should go, and passes the answers back.",
            },
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 27, "completion_tokens": 17, "total_tokens": 44},
    "system_fingerprint": "fp_44709d6fcb",
}
MODELS = {
    "object": "list",
    "data": [{"id": MODEL, "object": "model", "created": 1767225600, "owned_by": "b"}],
}

NGINX = """
daemon off; master_process off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx-error.log;
events {{ worker_connections 1024; }}
http {{
  log_format tick 'x'; access_log off; default_type application/json; tcp_nodelay on;
  keepalive_timeout 600s; keepalive_requests 1000000000;
  client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
  uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
  server {{
    listen 127.0.0.1:{port} backlog=1024;
    location = /v1/chat/completions {{
      access_log {folder}/served tick buffer=64k flush=100ms;
      return 200 '{answer}';
    }}
    location = /v1/models {{ return 200 '{models}'; }}
    location = /health {{ return 200 '{{}}'; }}
    location / {{ return 404 '{{}}'; }}
  }}
}}
"""


def compact(value: object) -> str:
    """Return ``value`` as JSON without spaces."""
    return json.dumps(value, separators=(",", ":"))


class Canned:
    """nginx with a canned completion where it is installed, else the project's scripted upstream."""

    def __init__(self, core: int, folder: Path) -> None:
        self.port = free_port()
        self.folder = folder
        nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
        self.is_nginx = nginx is not None
        if nginx is not None:
            config = folder / "nginx.conf"
            text = NGINX.format(folder=folder, port=self.port, answer=compact(ANSWER), models=compact(MODELS))
            config.write_text(text)
            command = [nginx, "-c", str(config), "-p", str(folder)]
        else:
            command = [sys.executable, "-m", "hasten.testing", "--port", str(self.port)]
        self.child = Child(command, core, folder / "upstream.log")
        self.direct = Running("direct", self.port, None, {})

    def served(self) -> int | None:
        """Return how many chat completions it has answered; ``None`` where that is not known.

        One line in its log stands for one; what is younger than a fifth of a second may be missing.
        """
        return (self.folder / "served").stat().st_size // len("x\n") if self.is_nginx else None


# -- the stream of events, a program of its own


def events(count: int) -> list[bytes]:
    """Return the ``count`` framed events of one stream: role, tokens, finish, usage (with [DONE] behind it)."""
    base = {k: ANSWER[k] for k in ("id", "created", "model", "system_fingerprint")}
    base["object"] = "chat.completion.chunk"

    def framed(choices: list[dict[str, object]], **more: object) -> bytes:
        data = f"data: {compact({**base, 'choices': choices, **more})}\n\n".encode()
        return b"%x\r\n%b\r\n" % (len(data), data)

    def delta(piece: dict[str, str], finish: str | None = None) -> list[dict[str, object]]:
        return [{"index": 0, "delta": piece, "logprobs": None, "finish_reason": finish}]

    first = framed(delta({"role": "assistant", "content": ""}))
    tokens = [framed(delta({"content": f" token{i % 10}"})) for i in range(count - 3)]
    counts = {"prompt_tokens": 27, "completion_tokens": len(tokens), "total_tokens": 27 + len(tokens)}
    usage = framed([], usage=counts) + b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"
    return [first, *tokens, framed(delta({}, "stop")), usage]


class Streamer(asyncio.Protocol):
    """One connection: each POST starts a stream whose pieces go out on a fixed schedule, ``interval`` seconds apart.

    A piece that is late does not move the ones after it.
    """

    def __init__(self, pieces: list[bytes], interval: float) -> None:
        self.pieces = pieces
        self.interval = interval
        self.loop = asyncio.get_running_loop()
        self.parser = httptools.HttpRequestParser(self)
        self.timer: asyncio.TimerHandle | None = None
        self.url = b""
        self.start = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.timer is not None:
            self.timer.cancel()

    def on_url(self, url: bytes) -> None:
        self.url = url

    def on_message_complete(self) -> None:
        if self.url == b"/v1/chat/completions":
            self.transport.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
            )
            self.start = self.loop.time()
            self.send(0)
        else:
            known = self.url in (b"/v1/models", b"/health")
            status, data = (b"200 OK", compact(MODELS)) if known else (b"404 Not Found", "{}")
            head = b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
            self.transport.write(head % (status, len(data)) + data.encode())

    def send(self, i: int) -> None:
        """Write piece ``i`` and see to the next."""
        self.transport.write(self.pieces[i])
        if i + 1 < len(self.pieces):
            self.timer = self.loop.call_at(self.start + (i + 1) * self.interval, self.send, i + 1)


async def serve(port: int, count: int, interval: float) -> None:
    """Serve streams of ``count`` tokens, one every ``interval`` seconds, until ended."""
    pieces = events(count)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Streamer(pieces, interval), "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    import uvloop

    parser = argparse.ArgumentParser(description="An upstream that streams events on a fixed schedule.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--events", type=int, default=64)
    parser.add_argument("--interval-ms", type=float, default=10.0)
    args = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(args.port, args.events, args.interval_ms / 1e3))
