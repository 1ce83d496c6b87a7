"""The embedder alone, on a thread of its own: for who needs likeness where there is no semantic cache to share it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from hasten.cache.semantic.batcher import Batcher, Busy, Failed

if TYPE_CHECKING:
    from hasten.cache.semantic.policy import Embed
    from hasten.cache.store.base import Vector


class Embedding:
    """Texts to unit vectors. ``load`` makes the model, on the thread it will run on."""

    def __init__(self, load: Callable[[], Embed]) -> None:
        self._executor = ThreadPoolExecutor(1, "hasten-embedding")
        self._loading = asyncio.get_running_loop().run_in_executor(self._executor, load)
        self._loading.add_done_callback(self._loaded)
        self._batcher: Batcher[str, Vector] | None = None
        self._why = "loading"

    def _loaded(self, done: asyncio.Future[Embed]) -> None:
        if done.cancelled():
            self._why = "closed"
        elif (error := done.exception()) is not None:
            self._why = f"failed: {error}"
        else:
            self._batcher = Batcher(done.result(), self._executor)

    async def __call__(self, texts: Sequence[str]) -> list[Vector]:
        """Return the vectors, once the model is loaded. Raises :class:`Failed`."""
        if not self._loading.done():
            await asyncio.wait([self._loading])
        if self._batcher is None:
            raise Failed(self._why)
        try:
            return await self._batcher(texts)
        except Busy as exc:
            raise Failed("busy") from exc

    def close(self) -> None:
        """Let the thread end with what it does."""
        self._loading.cancel()
        self._executor.shutdown(wait=False, cancel_futures=True)

    def __repr__(self) -> str:
        return f"<Embedding {'ready' if self._batcher is not None else self._why}>"
