"""Stored questions that have no vector yet get one when the models have nothing else to do."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from hasten.cache.semantic.batcher import Batcher, Busy
from hasten.cache.store.base import Ready
from hasten.errors import StoreError

if TYPE_CHECKING:
    from hasten.cache.semantic.question import Question
    from hasten.cache.store.base import Vector

LENGTH = 1000  # the newest; to those before, a later look-up in their scope gives vectors
PART = 4  # embedded at once: a look-up that comes meanwhile waits for them
PAUSE = 0.05  # seconds until it is looked again whether there is time


class Backlog:
    """The questions that wait. ``spare``: whether the models have time."""

    def __init__(self, store: Ready, embed: Batcher[str, Vector], spare: Callable[[], bool]) -> None:
        self._store = store
        self._embed = embed
        self._spare = spare
        self._waiting: deque[Question] = deque(maxlen=LENGTH)
        self._task: asyncio.Task[None] | None = None

    def add(self, question: Question) -> None:
        """Let ``question`` have its vector soon; it is stored already."""
        self._waiting.append(question)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        while self._waiting:
            if not (self._embed.idle and self._spare()):
                await asyncio.sleep(PAUSE)
                continue
            some = [self._waiting.pop() for _ in range(min(PART, len(self._waiting)))]
            with suppress(Busy, RuntimeError, StoreError):
                vectors = await self._embed([question.text for question in some])
                for question, vector in zip(some, vectors, strict=True):
                    await self._store.embed(question.scope, question.key, vector)

    def clear(self) -> None:
        """Forget them."""
        self._waiting.clear()

    def close(self) -> None:
        """Stop."""
        if self._task is not None:
            self._task.cancel()

    def __repr__(self) -> str:
        return f"<Backlog {len(self._waiting)} waiting>"
