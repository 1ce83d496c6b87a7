"""Tells a URL of alerts, from a thread of its own: nothing else waits for it, whatever the sink does."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime
from http.client import HTTPException
from typing import Any

import msgspec

from hasten.measure.slo import Change
from hasten.settings import Secret

log = logging.getLogger("hasten.measure")

PENDING = 100  # changes that may wait; more are dropped and counted
ATTEMPTS = 3
TIMEOUT = 5.0  # seconds, of each step of an attempt
PAUSE = 1.0  # seconds before a second attempt; twice that before the third

#: Takes what became of a change: ``sent``, ``failed`` (an attempt), ``dropped``.
Count = Callable[[str], None]


class _Straight(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: a POST would arrive as a GET without its body."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


class Webhook:
    """POSTs a JSON object a change, in order. The URL may hold a secret and is never shown."""

    def __init__(self, url: Secret, count: Count, timeout: float = TIMEOUT, pause: float = PAUSE) -> None:
        self.url = url
        self._count = count
        self._timeout = timeout
        self._pause = pause
        self._closed = threading.Event()
        self._queue: queue.Queue[bytes] = queue.Queue(PENDING)
        self._thread: threading.Thread | None = None
        self._opener = urllib.request.build_opener(_Straight)

    def tell(self, change: Change) -> None:
        """Queue one change; returns at once."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="hasten-webhook", daemon=True)
            self._thread.start()
        try:
            self._queue.put_nowait(message(change))
        except queue.Full:
            self._count("dropped")

    def close(self) -> None:
        """Stop when the attempt under way is over; does not wait for it. What was not sent yet is not sent."""
        self._closed.set()
        with contextlib.suppress(queue.Full):
            self._queue.put_nowait(b"")

    def _run(self) -> None:
        while True:
            body = self._queue.get()
            for attempt in range(ATTEMPTS):
                if self._closed.is_set() or (attempt and self._closed.wait(self._pause * attempt)):
                    return
                if self._post(body):
                    self._count("sent")
                    break
                self._count("failed")

    def _post(self, body: bytes) -> bool:
        headers = {"content-type": "application/json", "user-agent": "hasten"}
        request = urllib.request.Request(self.url.reveal(), body, headers, method="POST")
        try:
            with self._opener.open(request, timeout=self._timeout):
                return True
        except (OSError, HTTPException, ValueError) as exc:
            log.warning("slo.webhook: an alert could not be told (%s)", type(exc).__name__)
            return False

    def __repr__(self) -> str:
        return f"<Webhook {self._queue.qsize()} pending>"


def message(change: Change) -> bytes:
    """Return the body that tells of ``change``."""
    told = change._asdict()
    state = "firing" if told.pop("firing") else "resolved"
    return msgspec.json.encode(
        {"state": state, **told, "time": datetime.now(UTC).isoformat(timespec="seconds")}
    )
