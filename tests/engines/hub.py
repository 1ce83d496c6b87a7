"""A hub on loopback that serves one file, and breaks off where told."""

from __future__ import annotations

import http.server
from typing import Any

BODY = b"GGUF" + bytes(range(256)) * 400


class Hub(http.server.ThreadingHTTPServer):
    """Serves ``body`` with ranges. ``cuts``: after how many bytes of each answer the connection is cut."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.body = BODY
        self.tag = '"one"'
        self.cuts: list[int] = []
        self.linked: str | None = None
        self.redirect: str | None = None
        self.status: int | None = None
        self.seen: list[dict[str, str]] = []
        self.paths: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Answer(http.server.BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self) -> None:
        hub = self.server
        hub.seen.append({key.lower(): value for key, value in self.headers.items()})
        hub.paths.append(self.path)
        if hub.status is not None:
            self.send_response(hub.status)
            self.send_header("Content-Length", "0")
            return self.end_headers()
        if hub.redirect is not None:
            self.send_response(302)
            self.send_header("Location", hub.redirect)
            if hub.linked:
                self.send_header("X-Linked-ETag", f'"{hub.linked}"')
            self.send_header("Content-Length", "0")
            return self.end_headers()
        start = 0
        if "Range" in self.headers and self.headers.get("If-Range") == hub.tag:
            start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
            if start >= len(hub.body):
                self.send_response(416)
                self.send_header("Content-Length", "0")
                return self.end_headers()
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(hub.body) - 1}/{len(hub.body)}")
        else:
            self.send_response(200)
        rest = hub.body[start:]
        self.send_header("Content-Length", str(len(rest)))
        self.send_header("ETag", hub.tag)
        self.end_headers()
        self.wfile.write(rest[: hub.cuts.pop(0)] if hub.cuts else rest)
        return None

    def log_message(self, *args: Any) -> None:
        pass
