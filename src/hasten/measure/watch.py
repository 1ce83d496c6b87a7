"""What the dashboard looks at, put together of each finished request: counts, points, requests kept whole."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any

import msgspec

from hasten.measure.alike import Alike
from hasten.measure.exemplars import Exemplars
from hasten.measure.history import History
from hasten.measure.latency import MEASURES, QUANTILES, WINDOWS, Latency
from hasten.measure.shelf import Shelf
from hasten.measure.slo import Slo
from hasten.measure.traffic import Traffic
from hasten.measure.windows import Keeper, Recorder


class Watch:
    """All recorders of one worker; they outlive its settings."""

    def __init__(self, latency: Latency, slo: Slo, clock: Callable[[], float] = monotonic) -> None:
        self.latency = latency
        self.slo = slo
        self.traffic = Traffic(clock)
        self.exemplars = Exemplars(latency, clock)
        self.history = History(latency, self.traffic, slo, clock)
        self._recorders: dict[str, Recorder] = {
            "latency": latency,
            "slo": slo,
            "traffic": self.traffic,
            "exemplars": self.exemplars,
        }
        self._windows: tuple[tuple[int, int], msgspec.Raw] | None = None

    def take(self, requests: Alike) -> None:
        """Take finished requests."""
        for recorder in self._recorders.values():
            recorder.take(requests)

    def keepers(self, shelf: Shelf | None) -> list[Keeper]:
        """Return who keeps the recorders' windows, and shares them over ``shelf``."""
        return [Keeper(name, recorder, shelf) for name, recorder in self._recorders.items()]

    def windows(self) -> msgspec.Raw:
        """Return the windows as JSON, made anew when one has changed."""
        version = (self.latency.ledger.version, self.traffic.ledger.version)
        if self._windows is None or self._windows[0] != version:
            shown = {name: self._window(seconds) for name, seconds in WINDOWS.items()}
            self._windows = (version, msgspec.Raw(msgspec.json.encode(shown)))
        return self._windows[1]

    def _window(self, seconds: int) -> dict[str, Any]:
        shown: dict[str, Any] = self.traffic.view(seconds)
        for measure in MEASURES:
            shown[measure] = self.latency.summary((measure, "all", ""), seconds)
        shown["e2e"] = shown["e2e"] or {"n": 0, **{f"p{q * 100:g}_ms": None for q in QUANTILES}}
        return shown
