"""Keeps the windows going: folds what was recorded, seals slices, hands them round. One task a worker."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from math import inf
from typing import Protocol

from hasten.errors import FAULTS
from hasten.measure.alike import Alike
from hasten.measure.ledger import Sealed
from hasten.measure.shelf import Shelf

log = logging.getLogger("hasten.measure")

EVERY = 0.25  # seconds: finished traces are held for as long, as the request log does
LATER = 1.0  # seconds after which the others are expected to have sealed their slices
PAUSE = 0.002  # seconds between two stretches of folding: requests come first


class Shared(Protocol):
    """What is kept by slices of time, such as a :class:`~hasten.measure.ledger.Ledger`."""

    clock: Callable[[], float]

    @property
    def reach(self) -> dict[int, int]:
        """By width, the oldest slice that is still of use."""

    def tick(self) -> list[Sealed]:
        """Seal the slices that are over and return them."""

    def hear(self, sealed: Sealed) -> None:
        """Add another worker's slice."""


class Recorder(Protocol):
    """What counts requests for a ledger."""

    @property
    def ledger(self) -> Shared:
        """Where it counts them."""

    def take(self, requests: Alike) -> None:
        """Count finished requests."""


class Keeper:
    """Keeps one ledger. ``shelf``: where the other workers' slices are found; ``None``: there are none."""

    def __init__(self, name: str, recorder: Recorder, shelf: Shelf | None) -> None:
        self._name = name
        self._recorder = recorder
        self._shelf = shelf
        self._reach: dict[int, int] = {}
        self._look_at = inf  # the clock's time when the others will have put down what they sealed
        self._failed: set[str] = set()  # what was told of already

    async def turn(self) -> None:
        """Do what is to be done every now and then. What fails is told once, and left out."""
        try:
            await self._count()
        except FAULTS as exc:
            self._tell("are not kept", exc)

    async def _count(self) -> None:
        ledger = self._recorder.ledger
        sealed = ledger.tick()
        if self._shelf is None:
            return
        if ledger.reach != self._reach:
            self._reach = ledger.reach
            self._look_at = ledger.clock() + LATER
        try:
            if sealed:
                await asyncio.to_thread(self._shelf.put, self._name, sealed)
            if ledger.clock() >= self._look_at:
                self._look_at = inf
                for other in await asyncio.to_thread(self._take):
                    ledger.hear(other)
                    await asyncio.sleep(0)
        except FAULTS as exc:
            self._tell("are not shared by the workers", exc)

    def _tell(self, what: str, exc: BaseException) -> None:
        _tell(self._failed, f"windows ({self._name}) {what}: %r", exc)

    def _take(self) -> list[Sealed]:
        assert self._shelf is not None
        return list(self._shelf.take(self._name, self._recorder.ledger.reach))


async def keep(
    keepers: list[Keeper], fold: Callable[[], Iterator[None]], after: Callable[[], None] = lambda: None
) -> None:
    """Do the work of all every :data:`EVERY`; to be cancelled.

    ``fold``: gives what was counted to the recorders' ledgers, a stretch at each step. ``after``: called at the end.
    """
    told: set[str] = set()
    while True:
        await asyncio.sleep(EVERY)
        try:
            for _ in fold():
                await asyncio.sleep(PAUSE)
        except FAULTS as exc:
            _tell(told, "some requests were not counted: %r", exc)
        for keeper in keepers:
            await keeper.turn()
        try:
            after()
        except FAULTS as exc:
            _tell(told, "what follows from the windows was left out: %r", exc)


def _tell(told: set[str], what: str, exc: BaseException) -> None:
    if what not in told:
        told.add(what)
        log.warning(what, exc)
