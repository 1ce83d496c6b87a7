"""A semantic cache with models of a few lines: a bag of words embeds, a table verifies."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any
from zlib import crc32

import msgspec
import numpy as np
from numpy.typing import NDArray

from hasten.cache.entry import Entry
from hasten.cache.key import Fingerprint, canonical_key
from hasten.cache.report import Report
from hasten.cache.semantic.backlog import PAUSE
from hasten.cache.semantic.budget import Budget
from hasten.cache.semantic.calibration import Calibration
from hasten.cache.semantic.policy import Models, SemanticCache
from hasten.cache.semantic.question import Finding, Question
from hasten.cache.store.memory import MemoryStore
from hasten.settings import Semantic
from hasten.testing import FakeClock
from tests.cache.parts import Counts, entry
from tests.cache.stores import START, Clock, digest

LIMIT = 2.0
WIDTH = 64
SCOPE = digest("scope")


def embed(texts: Sequence[str]) -> list[NDArray[np.float32]]:
    """Return a unit vector for each text: how often it has which words."""
    made = []
    for text in texts:
        vector = np.zeros(WIDTH, np.float32)
        for word in text.lower().split():
            vector[crc32(word.encode()) % WIDTH] += 1
        made.append(vector / max(float(np.linalg.norm(vector)), 1e-9))
    return made


def answer(text: str) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return msgspec.json.encode({"choices": [choice]})


class Rig:
    """The cache, its store, and what it tells. ``pairs``: the verifier's scores, ``otherwise`` for all others.

    ``ticks``: the budget's clock, which stands. ``go``: whether the models run or wait; ``error``: what they raise.
    """

    def __init__(self, load_error: Exception | None = None, otherwise: float = -5.0, **given: Any) -> None:
        self.clock = Clock()
        self.store = MemoryStore(2**24, self.clock)
        self.counts = Counts()
        self.report = Report(self.clock)
        self.pairs: dict[tuple[str, str], float] = {}
        self.otherwise = otherwise
        self.error: Exception | None = None
        self.load_error = load_error
        self.go = threading.Event()
        self.go.set()
        self.ticks = FakeClock()
        self.budget = Budget(1.0, self.ticks)
        semantic = Semantic(**{"holdback": 0.0, "timeout": 5.0, **given})
        self.cache = SemanticCache(semantic, self.store, self._load, self.counts, self.report, self.budget)

    def _load(self) -> Models:
        assert self.go.wait(10)
        if self.load_error is not None:
            raise self.load_error
        return Models(self._embed, self._verify, Calibration(((0.01, LIMIT),), 0.0, 1.0, 1000), frozenset())

    def _embed(self, texts: Sequence[str]) -> list[NDArray[np.float32]]:
        assert self.go.wait(10)
        if self.error is not None:
            raise self.error
        return embed(texts)

    def _verify(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        return [self.pairs.get(pair, self.otherwise) for pair in pairs]

    async def __aenter__(self) -> Rig:
        while self.go.is_set() and self.cache.state == "loading":
            await asyncio.sleep(0.001)
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.go.set()
        self.cache.close()

    def question(self, text: str, scope: bytes = SCOPE) -> Question:
        made = self.cache.question(Fingerprint(digest(text) + scope, scope, text))
        assert made is not None
        return made

    def fresh(self, question: Question, said: str, tenant: str = "acme") -> Entry:
        """Return the entry of an answer that has just come."""
        return entry(
            answer(said),
            key=question.key,
            tenant=tenant,
            created=self.clock.now,
            expires=START + 1e6,
            stale_until=START + 1e6,
            scope=question.scope,
            canonical=canonical_key(question.scope, question.canonical),
            text=question.text,
            tags=(f"tenant:{tenant}",),
            epochs=self.store.epochs([f"tenant:{tenant}"]),
        )

    async def learn(self, text: str, said: str = "a very fine answer") -> Question:
        """Answer ``text`` without a look-up."""
        question = self.question(text)
        await self.cache.settle(question, None, self.fresh(question, said))
        return question

    async def look(self, text: str, tenant: str = "acme") -> Finding:
        return await self.cache.look(self.question(text), tenant)

    async def ask(self, text: str, said: str) -> Finding:
        """Look ``text`` up and, unless it is served, answer it with ``said``."""
        question = self.question(text)
        finding = await self.cache.look(question, "acme")
        if not finding.serve:
            self.clock.now += 1
            await self.keep(question, finding, self.fresh(question, said))
        return finding

    async def keep(self, question: Question, finding: Finding, fresh: Entry) -> None:
        """Do with a fresh answer what the stage does."""
        if question.new and finding.entry is None:
            self.cache.keep(question, fresh)
        else:
            await self.cache.settle(question, finding, fresh)

    async def stored(self, text: str) -> Entry:
        found = await self.store.get(self.question(text).key)
        assert found is not None
        return found

    def overload(self) -> None:
        """Want more look-ups than the models can do, and use up what may be made of them."""
        while self.budget.admit(SCOPE):
            pass

    async def bare(self) -> list[str]:
        """Return the stored questions without a vector, once the models have nothing to do."""
        await asyncio.sleep(4 * PAUSE)
        return [text for _, text in await self.store.bare(SCOPE, 9)]

    def bypassed(self, reason: str) -> int:
        return self.counts.seen["hasten_cache_bypassed_total", reason]
