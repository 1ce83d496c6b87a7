"""Gives traces to a recorder as the gateway does."""

from __future__ import annotations

from typing import Protocol

from hasten.measure.alike import Alike, alike
from hasten.trace import Trace


class Recorder(Protocol):
    """What counts finished requests."""

    def take(self, requests: Alike) -> None:
        """Count them."""


def take(recorder: Recorder, *traces: Trace) -> None:
    """Let ``recorder`` count ``traces``."""
    for requests in alike(traces):
        recorder.take(requests)
