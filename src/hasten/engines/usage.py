"""Token counts of streams: engines are asked for them here, whoever wants to know.

An OpenAI-compatible engine counts a stream's tokens where the request says ``stream_options.include_usage``, and most
clients do not. What it counts then comes in one more event, which they are spared (:class:`hasten.types.Aside`).
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Final

import msgspec

from hasten.errors import EngineStatus
from hasten.types import Request

REST: Final = 600.0  # seconds that an engine is not asked after it refused; it may be a newer one then

_ASKED: Final = b'"stream_options":{"include_usage":true},'
_NAMES: Final = (b"stream_options", b"include_usage")
_decode_top = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_options = msgspec.json.Decoder(dict[str, msgspec.Raw] | None).decode


def asking(body: bytes, given: bool) -> bytes:
    """Return a request's JSON with the counts asked for, all else as it came.

    ``given``: whether there are ``stream_options`` in it.
    """
    if not given:
        at = body.index(b"{") + 1
        return b"".join((body[:at], _ASKED, memoryview(body)[at:]))  # one copy of what may be long
    top = _decode_top(body)
    options = _decode_options(top.get("stream_options", b"null")) or {}
    options["include_usage"] = msgspec.Raw(b"true")
    top["stream_options"] = msgspec.Raw(msgspec.json.encode(options))
    return msgspec.json.encode(top)


class Asking:
    """Which streams one engine is asked to count for.

    ``always``: all; else those whose client is told. Some engines refuse the field: one that answers without it what it
    refused with it is left alone for a while, for this endpoint and model.
    """

    __slots__ = ("_always", "_clock", "_known", "_until")

    def __init__(self, always: bool, clock: Callable[[], float] = monotonic) -> None:
        self._always = always
        self._clock = clock
        self._known: set[tuple[str, str]] = set()  # to answer such requests
        self._until: dict[tuple[str, str], float] = {}

    def wanted(self, request: Request) -> bool:
        """Whether the gateway asks; it need not where the client's own body does."""
        if not request.stream or request.endpoint == "embeddings" or request.fields.include_usage:
            return False
        if not self._always and not request.include_usage:
            return False
        return not self._until or self._clock() >= self._until.get((request.endpoint, request.model), 0.0)

    def answered(self, request: Request) -> None:
        """Note that the engine takes the field."""
        self._known.add((request.endpoint, request.model))

    def suspected(self, request: Request, error: EngineStatus) -> bool:
        """Whether it may be the field that the engine refuses: it says so, or it never took one yet."""
        if error.status not in (400, 422):
            return False
        named = any(name in error.body for name in _NAMES)
        return named or (request.endpoint, request.model) not in self._known

    def refused(self, request: Request) -> None:
        """Note that it was the field."""
        self._until[request.endpoint, request.model] = self._clock() + REST

    def __repr__(self) -> str:
        return f"<Asking {'always' if self._always else 'as asked'}, {len(self._until)} refused>"
