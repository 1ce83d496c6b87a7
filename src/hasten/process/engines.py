"""The managed engines of a configuration: started once for all workers, followed through reloads."""

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
        self._tasks: set[asyncio.Task[None]] = set()

    def update(self, settings: Settings) -> None:
        """Start what is new or changed, stop what is gone, leave the rest alone."""
        wanted = {name: e for name, e in settings.engines.items() if isinstance(e, LlamaEngine)}
        before, self._wanted = self._wanted, wanted
        for name in before:
            if wanted.get(name) != before[name] and name in self._running:
                self._spawn(self._running.pop(name).stop())
        for name, given in wanted.items():
            if before.get(name) != given:
                self._spawn(self._start(name, given))

    def addresses(self) -> Addresses:
        """Return where each engine listens now."""
        return {name: p.base_url if (p := self._running.get(name)) else None for name in self._wanted}

    async def stop(self) -> None:
        """Stop all of them, at the same time."""
        self._wanted = {}
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(
            *(p.stop() for p in self._running.values()), *self._tasks, return_exceptions=True
        )
        self._running.clear()

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
        elif process.state in ("backoff", "failed"):
            log.error("%s", process.describe())
        self._on_move(self.addresses())

    def __repr__(self) -> str:
        return f"<ManagedEngines {list(self._running.values())!r}>"
