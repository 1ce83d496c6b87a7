"""The managed engines of a configuration: started once for all workers, followed through reloads.

An engine whose settings changed goes on serving until its successor is ready, and ends ``server.drain_timeout`` later.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine

from hasten.engines import weights
from hasten.engines.llama import LlamaRecipe
from hasten.engines.managed import ManagedProcess
from hasten.errors import HastenError
from hasten.settings import LlamaEngine, Settings

log = logging.getLogger("hasten.process")

#: ``precision`` as the recipe wants it; ``None``: as the catalogue says.
_EXACT = {"auto": None, "stored": False, "half": True}

#: A managed engine's name and its base URL; ``None`` while it is not ready.
Addresses = dict[str, str | None]


class ManagedEngines:
    """Keeps one process running for each managed engine. ``on_move`` is told whenever an address changes."""

    def __init__(self, on_move: Callable[[Addresses], None]) -> None:
        self._on_move = on_move
        self._wanted: dict[str, LlamaEngine] = {}
        self._running: dict[str, ManagedProcess] = {}
        self._former: dict[str, ManagedProcess] = {}  # serve until their successors are ready
        self._linger = 0.0
        self._ending: set[ManagedProcess] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def update(self, settings: Settings) -> None:
        """Start what is new or changed, stop what is gone, leave the rest alone."""
        wanted = {name: e for name, e in settings.engines.items() if isinstance(e, LlamaEngine)}
        before, self._wanted = self._wanted, wanted
        self._linger = settings.server.drain_timeout
        for name in before:
            if name not in wanted:
                self._retire(name)
            if wanted.get(name) != before[name] and name in self._running:
                former = self._running.pop(name)
                if name in wanted and former.base_url is not None:
                    self._retire(name)
                    self._former[name] = former
                else:
                    self._spawn(self._end(former))
        for name, given in wanted.items():
            if before.get(name) != given:
                self._spawn(self._start(name, given))

    def addresses(self) -> Addresses:
        """Return where each engine listens now."""
        found = {}
        for name in self._wanted:
            now, former = self._running.get(name), self._former.get(name)
            found[name] = (now.base_url if now else None) or (former.base_url if former else None)
        return found

    async def stop(self) -> None:
        """Stop all of them, at the same time."""
        self._wanted = {}
        for task in self._tasks:
            task.cancel()
        processes = [*self._running.values(), *self._former.values(), *self._ending]
        await asyncio.gather(*(p.stop() for p in processes), *self._tasks, return_exceptions=True)
        self._running.clear()
        self._former.clear()

    def _retire(self, name: str) -> None:
        """End the former process of ``name``, if there is one, when its requests had time to end."""
        former = self._former.pop(name, None)
        if former is not None:
            self._spawn(self._end(former))

    async def _end(self, process: ManagedProcess) -> None:
        self._ending.add(process)
        await asyncio.sleep(self._linger)
        await process.stop()
        self._ending.discard(process)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _start(self, name: str, given: LlamaEngine) -> None:
        """Start one engine; its weights, if they are not here yet, are pulled without holding up the loop."""
        try:
            path = weights.resolve(given.model)
            if path is None:
                path = await asyncio.to_thread(weights.pull, given.model)
            recipe = LlamaRecipe(given, path, name, _EXACT[given.precision])
        except HastenError as exc:
            log.error("the engine %s cannot be started: %s", name, exc.message)
            return
        if self._wanted.get(name) == given:  # not changed again meanwhile
            process = ManagedProcess(recipe, self._changed, start_timeout=given.start_timeout)
            self._running[name] = process
            process.start()

    def _changed(self, process: ManagedProcess) -> None:
        if process.state == "ready":
            log.info("the engine %s is ready", process.recipe.name)
        elif process.state == "failed":
            log.error("%s", process.describe())
        self._on_move(self.addresses())
        if process.state == "ready" and self._running.get(process.recipe.name) is process:
            self._retire(process.recipe.name)

    def __repr__(self) -> str:
        return f"<ManagedEngines {list(self._running.values())!r}>"
