"""One measured request, and the field's metrics of it."""

from __future__ import annotations

import msgspec


class Record(msgspec.Struct):
    """What was seen of one request; times are seconds on the run's clock.

    ====== ================================================================================================
    due    in the open loop the scheduled arrival, in the closed loop the moment of sending: latency counts
           from here, so that a slow target cannot hide its own queue by holding the load generator back
           (coordinated omission: Gil Tene, "How NOT to Measure Latency")
    sent   the request was begun; a new connection, where one is needed, is part of the time after it
    first  the first event with a non-empty token came (``None``: not streamed, or no token)
    end    the reply was complete, or failed
    gaps   seconds between events with a token; an event may carry several tokens
    tokens output tokens, from the reply's usage if ``counted`` is false, else the number of token events
    error  why it failed (``None``: it did not)
    ====== ================================================================================================

    ::

        TTFT = first - due          E2E  = end - due
        TPOT = (E2E - TTFT) / (tokens - 1)          OTPS = tokens / E2E
    """

    due: float
    sent: float
    end: float
    first: float | None = None
    gaps: list[float] = []
    tokens: int | None = None
    counted: bool = False
    error: str | None = None

    @property
    def ttft(self) -> float | None:
        """Time to first token, seconds."""
        return None if self.first is None else self.first - self.due

    @property
    def e2e(self) -> float:
        """End-to-end latency, seconds."""
        return self.end - self.due

    @property
    def tpot(self) -> float | None:
        """Time per output token after the first, seconds; needs a stream of two tokens or more."""
        if self.first is None or self.tokens is None or self.tokens < 2:
            return None
        return (self.end - self.first) / (self.tokens - 1)

    @property
    def otps(self) -> float | None:
        """Output tokens per second of this request."""
        return self.tokens / self.e2e if self.tokens and self.e2e > 0 else None
