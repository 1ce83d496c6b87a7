"""Orders to the cache: invalidate, purge, learn. One that reaches one worker is carried out in all.

The worker that was asked carries it out, tells the others on the board, and answers. Each worker looks at the board
before it looks anything up, so none serves what was invalidated to whoever asks after the answer.
"""

from __future__ import annotations

import msgspec

from hasten.board import Board
from hasten.cache.report import Report
from hasten.cache.semantic.policy import SemanticCache
from hasten.cache.store.base import Ready
from hasten.cache.store.memory import MemoryStore


class Invalidate(msgspec.Struct, tag=True):
    """These tags' entries no longer hold."""

    tags: list[str]


class Purge(msgspec.Struct, tag=True):
    """Delete all that is kept of a tenant's group."""

    group: str


class Learn(msgspec.Struct, tag=True):
    """The entry's answer to another wording was right, or wrong. ``group``: only if the entry is its."""

    key: bytes
    right: bool
    group: str | None


Order = Invalidate | Purge | Learn
_read = msgspec.json.Decoder(Order).decode


class Orders:
    """Carries orders out. ``board``: where the other workers are told, ``None`` if there are none.

    ``turn`` grows with each invalidation and purge: calls in flight from before are not shared after it.
    """

    def __init__(
        self, store: Ready, semantic: SemanticCache | None, report: Report, board: Board | None = None
    ) -> None:
        self.turn = 0
        self._store = store
        self._semantic = semantic
        self._report = report
        self._board = board

    @property
    def scattered(self) -> bool:
        """Whether there are entries in other workers that cannot be seen from here."""
        return self._board is not None and isinstance(self._store, MemoryStore)

    async def give(self, order: Order) -> int:
        """Carry out ``order`` here and have all others do so; return how many entries here it met (0 of tags).

        When this returns, no worker serves what it ruled out. Raises :class:`~hasten.errors.StoreError`.
        """
        met = await self._carry_out(order)
        if self._board is not None:
            await self._follow(self._board.tell(msgspec.json.encode(order)))
        return met

    @property
    def waiting(self) -> bool:
        """Whether other workers were given orders that were not carried out here yet."""
        return self._board is not None and not self._board.quiet

    async def catch_up(self) -> None:
        """Carry out what other workers were told. With the memory store nothing else runs meanwhile."""
        if self._board is not None:
            await self._follow(self._board.read())

    async def _follow(self, news: list[bytes] | None) -> None:
        if news is None:
            await self._forget_all()
        for line in news or ():
            order = _read(line)
            if self.scattered:
                await self._carry_out(order)
            elif not isinstance(order, Learn):  # the store is shared and knows; what is beside it does not
                self._put_aside(order)

    async def _carry_out(self, order: Order) -> int:
        if isinstance(order, Learn):
            return await self._learn(order)
        self._put_aside(order)
        if isinstance(order, Invalidate):
            await self._store.invalidate(order.tags)
            return 0
        # First the epoch, so that what is still being computed is not kept either.
        await self._store.invalidate([f"tenant:{order.group}"])
        return await self._store.purge(order.group)

    def _put_aside(self, order: Invalidate | Purge) -> None:
        """Rule out what this worker has beside the store: calls in flight, the last looks."""
        self.turn += 1
        if isinstance(order, Purge):
            self._report.purge(order.group)
            if self._semantic is not None:
                self._semantic.forget()

    async def _learn(self, order: Learn) -> int:
        entry = await self._store.get(order.key)
        if entry is None or self._semantic is None or order.group not in (None, entry.tenant):
            return 0
        return int(await self._semantic.feedback(order.key, order.right))

    async def _forget_all(self) -> None:
        """Be as new: nobody knows what was missed."""
        self.turn += 1
        self._report.clear()
        if isinstance(self._store, MemoryStore):
            await self._store.invalidate(["all"])
            self._store.clear()

    def close(self) -> None:
        """Leave the board."""
        if self._board is not None:
            self._board.close()
            self._board = None
