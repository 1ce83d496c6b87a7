"""What an engine is to the rest of the house."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol

from hasten.types import Reply, Request


class Engine(Protocol):
    """Something that answers requests in OpenAI's format.

    ``name``: its key in the settings. ``provider``: OpenTelemetry's ``gen_ai.provider.name``. ``inflight``:
    requests begun and not ended, streams included. ``ready``: whether it can take requests as far as is known.
    """

    name: str
    provider: str
    inflight: int

    @property
    def ready(self) -> bool:
        """Whether it can take requests, as far as is known without asking it."""

    def send(self, request: Request) -> Awaitable[Reply]:
        """Return the answer; for a streamed one as soon as its first event is there.

        Raises :class:`~hasten.errors.EngineError` for every failure before that. Cancelling it gives the
        request up at the engine, too.
        """

    def close(self) -> None:
        """Let go of connections, the busy ones as they end."""
