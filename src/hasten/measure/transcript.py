"""Keeps a request's text with its trace: for the access log, and only where the settings ask for it."""

from __future__ import annotations

from hasten.errors import HastenError
from hasten.types import Chunk, Handler, Reply, Request

MAX_BYTES = 64 * 1024  # of each side


class Transcript:
    """What was asked and what was answered, cut at :data:`MAX_BYTES`."""

    __slots__ = ("_answer", "_request", "_size")

    def __init__(self, request: bytes) -> None:
        self._request = request[:MAX_BYTES]
        self._answer: list[bytes] = []
        self._size = 0

    def add(self, data: bytes) -> None:
        """Keep a piece of the answer."""
        if self._size < MAX_BYTES:
            self._answer.append(data[: MAX_BYTES - self._size])
            self._size += len(data)

    def on_chunk(self, chunk: Chunk) -> None:
        self.add(chunk.raw)

    def on_end(self, error: HastenError | None) -> None:
        pass

    def texts(self) -> tuple[str, str]:
        """Return both sides as text."""
        return self._request.decode(errors="replace"), b"".join(self._answer).decode(errors="replace")


async def keep_transcript(request: Request, next: Handler) -> Reply:
    """The stage: hang a :class:`Transcript` on the trace."""
    transcript = request.trace.transcript = Transcript(request.body)
    reply = await next(request)
    if reply.stream is not None:
        reply.stream.taps.append(transcript)
    else:
        transcript.add(reply.body)
    return reply
