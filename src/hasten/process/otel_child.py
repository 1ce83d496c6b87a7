"""The process that exports spans: ``python -m hasten.process.otel_child``, frames on standard input.

One thread reads, so that the worker can always write; another one converts and sends, and is the only one that a slow
collector holds up. How much may wait is the worker's to say: it counts what it was told of here. When standard input
ends, the worker is gone or ending: what is left is sent within :data:`LAST` seconds.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import BinaryIO

import msgspec

from hasten.measure.otel.frames import LENGTH, Setup, Told
from hasten.process.logs import set_up_logging

LAST = 2.0  # seconds
NICENESS = 15  # requests go first
COMPLAIN = 60.0  # seconds between two lines about a collector that does not take spans


class Seldom(logging.Filter):
    """Lets one line of the exporter's a minute through, of those that tell of a failure: it has one for each batch."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._next = float("-inf")

    def filter(self, record: logging.LogRecord) -> bool:
        now = self._clock()
        if not record.name.startswith("opentelemetry"):
            return record.levelno >= logging.WARNING
        if record.levelno < logging.ERROR or now < self._next:
            return False
        self._next = now + COMPLAIN
        return True


def read_frame(source: BinaryIO) -> bytes:
    """Return the next frame's content; nothing at the end."""
    head = source.read(LENGTH)
    size = int.from_bytes(head, "little")
    data = source.read(size) if len(head) == LENGTH else b""
    return data if len(data) == size else b""


def main() -> None:
    """Export until standard input ends."""
    out = os.dup(1)
    os.dup2(2, 1)  # whatever a library prints
    # Who interrupts or ends all processes of a service means the gateway, which drains first and then closes the pipe.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.nice(NICENESS)
    from hasten.measure.otel.exporting import Exporting, exporter_of  # half a second's work, at that priority

    set_up_logging()
    for handler in logging.getLogger().handlers:
        handler.addFilter(Seldom())
    first = read_frame(sys.stdin.buffer)
    if not first:
        return
    setup = msgspec.msgpack.decode(first, type=Setup)
    exporting = Exporting(setup, exporter_of(setup), lambda told: _tell(out, told))
    threading.excepthook = _give_up
    thread = threading.Thread(target=exporting.run, name="hasten-otel", daemon=True)
    thread.start()
    while data := read_frame(sys.stdin.buffer):
        exporting.queue.put(data)
    exporting.queue.put(None)
    thread.join(LAST)


def _give_up(args: threading.ExceptHookArgs) -> None:
    """End with the thread: the worker starts another process."""
    threading.__excepthook__(args)
    os._exit(1)


def _tell(out: int, told: Told) -> None:
    with contextlib.suppress(OSError):  # the worker is gone
        os.write(out, msgspec.json.encode(told) + b"\n")


if __name__ == "__main__":
    main()
