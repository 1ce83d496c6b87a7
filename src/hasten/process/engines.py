"""The managed engines of a configuration: started once for all workers, followed through reloads."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from hasten.engines.llama import LlamaRecipe
from hasten.engines.managed import ManagedProcess
from hasten.settings import LlamaEngine, Settings

log = logging.getLogger("hasten.process")

#: A managed engine's name and its base URL; ``None`` while it is not ready.
Addresses = dict[str, str | None]


class ManagedEngines:
    """Keeps one process running for each managed engine. ``on_move`` is told whenever an address changes."""

    def __init__(self, on_move: Callable[[Addresses], None]) -> None:
        self._on_move = on_move
        self._running: dict[str, tuple[LlamaEngine, ManagedProcess]] = {}
        self._stopping: set[asyncio.Task[None]] = set()

    def update(self, settings: Settings) -> None:
        """Start what is new or changed, stop what is gone, leave the rest alone."""
        wanted = {name: e for name, e in settings.engines.items() if isinstance(e, LlamaEngine)}
        for name, (given, process) in list(self._running.items()):
            if wanted.get(name) != given:
                del self._running[name]
                task = asyncio.get_running_loop().create_task(process.stop())
                self._stopping.add(task)
                task.add_done_callback(self._stopping.discard)
        for name, given in wanted.items():
            if name not in self._running:
                process = ManagedProcess(LlamaRecipe(name, given), on_change=self._changed)
                self._running[name] = (given, process)
                process.start()

    def addresses(self) -> Addresses:
        """Return where each engine listens now."""
        return {
            name: process.recipe.base_url(process.port) if process.state == "ready" else None
            for name, (_, process) in self._running.items()
        }

    async def stop(self) -> None:
        """Stop all of them, at the same time."""
        processes = [process for _, process in self._running.values()]
        self._running.clear()
        await asyncio.gather(*(process.stop() for process in processes), *self._stopping)

    def _changed(self, process: ManagedProcess) -> None:
        log.info("engine %s", process)
        self._on_move(self.addresses())

    def __repr__(self) -> str:
        return f"<ManagedEngines {[process for _, process in self._running.values()]!r}>"
