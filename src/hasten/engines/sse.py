"""Server-sent events from bytes, whatever the cuts between reads (WHATWG HTML, section 9.2.6)."""

from __future__ import annotations

import re

from hasten.errors import EngineProtocol

MAX_EVENT_BYTES = 16 * 1024 * 1024

# Two line ends in a row, each LF, CRLF or CR. The first is atomic: a CRLF must not match as CR and then LF.
_BLANK_LINE = re.compile(rb"(?>\r\n|\n|\r)(?:\r\n|\n|\r)")
_LINE_END = re.compile(rb"\r\n|\n|\r")
_BOM = b"\xef\xbb\xbf"


class EventSplitter:
    """Cuts a byte stream into whole events.

    Raises :class:`EngineProtocol` when an event grows over ``limit`` bytes.
    """

    __slots__ = ("_buffer", "_fresh", "_scanned", "limit", "pending")

    def __init__(self, limit: int = MAX_EVENT_BYTES) -> None:
        self.limit = limit
        self.pending = False  # part of an event is waiting for its rest
        self._buffer = bytearray()
        self._scanned = 0
        self._fresh = True

    def feed(self, data: bytes) -> list[bytes]:
        """Return the events that ``data`` completes, each with its blank line, line ends made LF."""
        buffer = self._buffer
        buffer += data
        if self._fresh:
            if len(buffer) < 3 and _BOM.startswith(buffer):
                self.pending = True
                return []
            if buffer.startswith(_BOM):
                del buffer[:3]
            self._fresh = False
        events = []
        start = 0
        scan = self._scanned
        while True:
            # Blank lines before an event are nothing; so is the LF of a CRLF whose CR ended the last event.
            while start < len(buffer) and buffer[start] in b"\r\n":
                start += 1
            found = _BLANK_LINE.search(buffer, max(start, scan))
            if found is None:
                break
            events.append(_normal(bytes(buffer[start : found.end()])))
            start = scan = found.end()
        del buffer[:start]
        self.pending = len(buffer) > 0
        self._scanned = max(0, len(buffer) - 3)
        if len(buffer) > self.limit:
            raise EngineProtocol(f"an event of the stream is larger than {self.limit} bytes")
        return events

    def rest(self) -> bytes:
        """Return what is left of an event that was never ended, line ends made LF."""
        return _normal(bytes(self._buffer))


def _normal(event: bytes) -> bytes:
    if b"\r" not in event:
        return event
    return _LINE_END.sub(b"\n", event)


def data_of(event: bytes) -> bytes | None:
    """Return the data of an event from :class:`EventSplitter`; ``None`` if it has none (a comment, say)."""
    if event[:6] == b"data: " and event.find(b"\n") == len(event) - 2:
        return event[6:-2]
    parts = []
    for line in event.split(b"\n"):
        if line.startswith(b"data:"):
            parts.append(line[6:] if line.startswith(b"data: ") else line[5:])
        elif line == b"data":
            parts.append(b"")
    return b"\n".join(parts) if parts else None
