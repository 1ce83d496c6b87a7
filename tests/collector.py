"""An OpenTelemetry collector that keeps what it is sent, and can fail in the ways that collectors do."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span


class Collector(ThreadingHTTPServer):
    """OTLP over HTTP on a free port. ``status``: what it answers; ``frozen``: it takes requests and says nothing."""

    daemon_threads = True

    def __init__(self, status: int = 200, frozen: bool = False) -> None:
        self.status = status
        self.frozen = frozen
        self.headers: list[dict[str, str]] = []
        self.resources: list[dict[str, Any]] = []
        self.spans: list[Span] = []
        self.ended = threading.Event()
        super().__init__(("127.0.0.1", 0), _Handler)
        self.endpoint = f"http://127.0.0.1:{self.server_port}"
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def __enter__(self) -> Collector:
        return self

    def __exit__(self, *exc: object) -> None:
        self.ended.set()
        self.shutdown()
        self._thread.join()
        self.server_close()

    def requests(self) -> list[Span]:
        """Return the spans of requests, not those below them."""
        return [span for span in list(self.spans) if span.kind == Span.SPAN_KIND_SERVER]

    def take(self, path: str, headers: dict[str, str], body: bytes) -> None:
        """Keep what a ``POST`` brought."""
        assert path == "/v1/traces"
        request = ExportTraceServiceRequest()
        request.ParseFromString(body)
        self.headers.append(headers)
        for of_one in request.resource_spans:
            self.resources.append(plain(of_one.resource.attributes))
            for scope in of_one.scope_spans:
                self.spans += scope.spans


class _Handler(BaseHTTPRequestHandler):
    server: Collector
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.server.frozen:
            self.server.ended.wait()
            return
        if self.server.status == 200:
            self.server.take(self.path, {k.lower(): v for k, v in self.headers.items()}, body)
        self.send_response(self.server.status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def plain(attributes: Iterable[KeyValue]) -> dict[str, Any]:
    """Return attributes as plain values."""
    return {entry.key: _plain(entry.value) for entry in attributes}


def _plain(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_plain(one) for one in value.array_value.values]
    return getattr(value, kind) if kind is not None else None
