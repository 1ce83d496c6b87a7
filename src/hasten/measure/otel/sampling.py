"""Whether a request's spans are exported, and its place in the trace (W3C, Trace Context, level 1)."""

from __future__ import annotations

import random

from hasten.trace import Context, Trace

_SAMPLED, _RANDOM = 0x01, 0x02  # of the flags; the second one is level 2's
_NO_TRACE, _NO_SPAN = "0" * 32, "0" * 16


class Sampler:
    """Follows the client's decision; without one records ``share`` of the traces.

    These are chosen by the lowest 64 bits of their id, as OpenTelemetry's own sampler of ratios does, so that all who
    have to decide about a trace decide alike.
    """

    def __init__(self, share: float) -> None:
        self._bound = round(share * 2**64)
        self._bits = random.Random().getrandbits  # ids need be unique, not secret
        # The upper half of new ids, one for all: the lower one, of which all decide, is random enough.
        self._upper = f"{self._bits(64):016x}"

    def begin(self, trace: Trace) -> None:
        """Give ``trace`` a :class:`~hasten.trace.Context` if it is to be recorded.

        Else its engines hear of that: they are sent the client's context, or a new one that is not sampled.
        """
        parent = trace.parent
        lower = self._bits(64)
        span = (lower >> 1) + 1  # a bit less: there is room for those that follow
        if parent and _is_valid(parent):
            flags = int(parent[53:55], 16) & (_SAMPLED | _RANDOM)
            if flags & _SAMPLED:
                trace.context = Context(parent[3:35], parent[36:52], f"{flags:02x}", span)
            return
        trace.state = ""
        trace_id = f"{self._upper}{lower:016x}"
        if lower < self._bound:
            trace.context = Context(trace_id, "", "01", span)
        else:
            trace.parent = f"00-{trace_id}-{span:016x}-00"


def _is_valid(parent: str) -> bool:
    """Whether a well-formed ``traceparent`` means anything: else the trace begins here."""
    version = parent[:2]
    return (
        version != "ff"
        and (version != "00" or len(parent) == 55)
        and parent[3:35] != _NO_TRACE
        and parent[36:52] != _NO_SPAN
    )
