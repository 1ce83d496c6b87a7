"""Whether another wording's answer may be served: find, guard, verify, and learn from what comes of it.

1. The canonical form: equal ones ask the same by construction (:mod:`.canonical`).
2. The nearest stored questions of the same scope, by the cosine of their embeddings.
3. Guards: another number, name, direction or a negation rules a candidate out (:mod:`.guards`).
4. The verifier's score against the calibrated limit for ``false_hit_bound``, moved by what is believed of the entry.

Every answer that was computed although a candidate was there is compared with the candidate's: what the holdback shows
is the measured false-hit rate, the rest is learnt from.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from math import inf
from typing import TYPE_CHECKING, NamedTuple

from hasten.budget import NO_BUDGET
from hasten.cache.entry import Entry, Mark
from hasten.cache.key import Fingerprint
from hasten.cache.report import Look, Report
from hasten.cache.semantic.backlog import Backlog
from hasten.cache.semantic.batcher import Batcher, Busy, Failed
from hasten.cache.semantic.belief import Belief, learn
from hasten.cache.semantic.budget import Budget
from hasten.cache.semantic.calibration import Calibration
from hasten.cache.semantic.canonical import typos
from hasten.cache.semantic.compare import answer_text, by_meaning, same_answer
from hasten.cache.semantic.guards import conflict
from hasten.cache.semantic.question import Finding, Question, canonical
from hasten.cache.store.base import Ready
from hasten.dials import Alarm, Dial, wilson
from hasten.errors import StoreError
from hasten.settings import Semantic

if TYPE_CHECKING:
    from hasten.cache.store.base import Vector

log = logging.getLogger("hasten.cache")

CANDIDATES = 3  # verified at most: each one more is one more chance to be wrong
BARE = 8  # stored questions that may be embedded along with a look-up, if nobody else waits
LOOKS = 8  # look-ups at a time: what waits longer than that is better off at the engine
FLOOR = 0.5  # cosine below which no verifier needs to be asked
MAX_ANSWER = 4000  # letters of an answer that are compared

#: Texts to unit vectors; (stored, asked) pairs to scores. Synchronous, on a thread.
Embed = Callable[[Sequence[str]], Sequence["Vector"]]
Verify = Callable[[Sequence[tuple[str, str]]], Sequence[float]]
Count = Callable[[str, tuple[str, ...], float], None]


class Models(NamedTuple):
    """What judges: the embedder, the verifier, how its scores are read, and the words that are no misspellings."""

    embed: Embed
    verify: Verify
    calibration: Calibration
    words: frozenset[str]


class SemanticCache:
    """The semantic look-up of one worker. ``load`` makes the models, on the thread they will run on."""

    def __init__(
        self,
        settings: Semantic,
        store: Ready,
        load: Callable[[], Models],
        count: Count,
        report: Report,
        budget: Budget | None = None,
    ) -> None:
        self.settings = settings
        self.store = store
        self.dial = Dial("semantic", settings.share, settings.holdback)
        self._count = count
        self._report = report
        self._executor = ThreadPoolExecutor(1, "hasten-semantic")
        self._loading = asyncio.get_running_loop().run_in_executor(self._executor, load)
        self._loading.add_done_callback(self._loaded)
        self._looking = 0
        self._budget = budget or Budget(settings.thread_share)
        self._backlog: Backlog | None = None
        self._embed: Batcher[str, Vector] | None = None
        self._verify: Batcher[tuple[str, str], float] | None = None
        self._words: frozenset[str] = frozenset()
        self._limit: float | None = None
        self._belief = Belief(0.0, 1.0)
        self._alarm = Alarm(settings.false_hit_bound)
        self._compared = 0  # by the holdback
        self._wrong = 0

    def _loaded(self, done: asyncio.Future[Models]) -> None:
        if done.cancelled():
            return
        if done.exception() is not None:
            log.error("the semantic cache is off, its models cannot be loaded: %s", done.exception())
            return
        models = done.result()
        self._embed = Batcher(models.embed, self._executor)
        self._verify = Batcher(models.verify, self._executor)
        self._backlog = Backlog(self.store, self._embed, lambda: self._budget.light)
        self._words = models.words
        self._limit = models.calibration.limit(self.settings.false_hit_bound)
        self._belief = Belief(models.calibration.a, models.calibration.b)

    @property
    def state(self) -> str:
        """``ready``, ``loading``, or why it cannot work."""
        if not self._loading.done():
            return "loading"
        if self._loading.cancelled():
            return "closed"
        error = self._loading.exception()
        if error is not None:
            return f"failed: {error}"
        return "loading" if self._embed is None else "ready"

    def question(self, found: Fingerprint) -> Question | None:
        """Return the question of a request, or ``None`` if no other wording's answer is looked for."""
        if found.scope is None or found.text is None:
            return None
        text = found.text.strip()
        if not text or len(text) > self.settings.max_chars:
            return None
        return Question(found.key, found.scope, text)

    async def look(self, question: Question, tenant: str, left: float = inf) -> Finding:
        """Return what is known of ``question``; never raises, never takes longer than ``timeout``, nor than ``left``
        seconds. With none left no model is asked."""
        side = self.dial.side(question.form)
        if side == "off":
            return Finding(None, False, False, "not in the share")
        try:
            if left < self.settings.timeout:
                async with asyncio.timeout(max(0.0, left)):
                    finding = await self._find(question, left)
            else:
                finding = await self._find(question, left)
        except TimeoutError:
            if left < self.settings.timeout:
                return self._bypass("budget", NO_BUDGET)
            return self._bypass("semantic_timeout", "the look-up took too long")
        except Busy:
            return self._bypass("semantic_busy", "too many look-ups at once")
        except StoreError as exc:
            return self._bypass(exc.code or "store_error", "the store failed")
        except RuntimeError as exc:  # of the models' runtime
            return self._bypass(
                "semantic_failed", f"the models failed ({type(exc.__cause__ or exc).__name__})"
            )
        if side == "holdback" and finding.serve:
            finding = finding._replace(serve=False, held=True, why="holdback: " + finding.why)
        if finding.entry is not None:
            verdict = "hit" if finding.serve else "held" if finding.held else "refused"
            self._count("hasten_cache_semantic_verdicts_total", (verdict,), 1)
            self._report.add(
                Look(tenant, question.text, finding.entry.text or "", finding.score, verdict, finding.why)
            )
        return finding

    def _bypass(self, reason: str, why: str) -> Finding:
        self._count("hasten_cache_bypassed_total", (reason,), 1)
        return Finding(None, False, False, why)

    async def _find(self, question: Question, left: float) -> Finding:
        until = asyncio.get_running_loop().time() + self.settings.timeout
        entry = await self.store.find(question.form)
        question.new = entry is None
        if entry is not None:
            if self._distrusted(entry):
                return Finding(entry, False, False, "same canonical form, but its answer was wrong before")
            return Finding(entry, True, False, "same canonical form")
        if self._embed is None or self._verify is None:
            return Finding(None, False, False, f"models: {self.state.partition(':')[0]}")
        if self._limit is None:
            return Finding(None, False, False, "no limit keeps this false_hit_bound")
        if not await self.store.known(question.scope):
            return Finding(None, False, False, "nothing like it is stored")
        question.met = True
        if left <= 0:
            return self._bypass("budget", NO_BUDGET)
        if not self._budget.admit(question.scope):
            return self._bypass("semantic_budget", "too many look-ups for what comes of them")
        if self._looking >= LOOKS:
            return self._bypass("semantic_busy", "too many look-ups at once")
        self._looking += 1
        finding = None
        try:
            async with asyncio.timeout_at(until):
                finding = await self._nearest(question, self._embed, self._verify)
        finally:
            self._looking -= 1
            self._budget.done(question.scope, question.spent, finding is not None and finding.serve)
        return finding

    async def _nearest(
        self,
        question: Question,
        embed: Batcher[str, Vector],
        verify: Batcher[tuple[str, str], float],
    ) -> Finding:
        """Return what the models make of the question and the nearest stored ones."""
        bare = await self.store.bare(question.scope, BARE if embed.idle and self._budget.light else 1)
        question.spent += embed.cost * (1 + len(bare))
        vectors = await embed([question.text, *(text for _, text in bare)])
        question.vector = vectors[0]
        for (key, _), vector in zip(bare, vectors[1:], strict=True):
            await self.store.embed(question.scope, key, vector)
        near = await self.store.near(question.scope, vectors[0], CANDIDATES)
        candidates = [n for n in near if n.similarity >= FLOOR and n.entry.text is not None]
        if not candidates:
            return Finding(None, False, False, "nothing like it is stored")
        return await self._judge(question, [n.entry for n in candidates], verify)

    async def _judge(
        self, question: Question, entries: list[Entry], verify: Batcher[tuple[str, str], float]
    ) -> Finding:
        """Return the finding for the entry that is furthest above its limit."""
        assert self._limit is not None
        refused: Finding | None = None
        open_: list[Entry] = []
        for entry in entries:
            stored = entry.text or ""
            form = canonical(stored)
            if typos(form, question.canonical, self._words) and not self._distrusted(entry):
                return Finding(entry, True, False, "same but for a misspelling")
            against = conflict(stored, question.text)
            if against is None:
                open_.append(entry)
            elif refused is None:
                # Which rule, but not the words: the reason goes into a header.
                refused = Finding(entry, False, False, f"refused: {against.partition(':')[0]}")
        if not open_:
            assert refused is not None
            return refused
        question.spent += verify.cost * len(open_)
        scores = await verify([(entry.text or "", question.text) for entry in open_])
        limits = [self._limit + self._belief.shift(entry.marks) for entry in open_]
        margin, score, at = max(
            (s - limit, s, i) for i, (s, limit) in enumerate(zip(scores, limits, strict=True))
        )
        sign = ">=" if margin >= 0 else "<"
        why = f"verifier {score:.2f} {sign} {limits[at]:.2f}"
        return Finding(open_[at], margin >= 0, False, why, score)

    def _distrusted(self, entry: Entry) -> bool:
        """Whether the entry's answer was wrong when last it was good enough to be served to another wording."""
        served = [right for score, right in entry.marks if score >= (self._limit or 0.0)]
        return bool(served) and not served[-1]

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        """Return the vectors of texts that are another's, once the models are loaded. Raises :class:`Failed`."""
        if not self._loading.done():
            await asyncio.wait([self._loading])
        if self._embed is None:
            raise Failed(self.state)
        try:
            return await self._embed(texts)
        except Busy as exc:
            raise Failed("busy") from exc

    # -- what comes of it

    async def compare(self, finding: Finding, fresh: Entry) -> None:
        """Compare a fresh answer with what the candidate would have said; count it, and let the entry learn."""
        entry = finding.entry
        if entry is None:
            return
        alike = entry.canonical == fresh.canonical
        if finding.score is None and not finding.held and not alike:
            return
        old, new = answer_text(entry.body, entry.streamed), answer_text(fresh.body, fresh.streamed)
        if not old or not new:
            return
        same = same_answer(old, new)
        if same is None and finding.held and self._embed is not None:
            try:
                vectors = await self._embed([old[:MAX_ANSWER], new[:MAX_ANSWER]])
                same = by_meaning(float(vectors[0] @ vectors[1]))  # unit vectors: their cosine
            except (Busy, RuntimeError):
                same = None
        if finding.held:
            if same is not None:
                self._measure(same)
            verdict = {True: "same", False: "different", None: "unclear"}[same]
            self._count("hasten_cache_compared_total", (verdict,), 1)
        if same is not None:
            await self._mark(entry, finding.score, same)
            if alike and self.store.allows(fresh):  # it has taken the place of the one that was judged
                fresh.marks = self._learnt(fresh, finding.score, same)
                self.store.keep(fresh)

    def keep(self, question: Question, entry: Entry) -> None:
        """Store a fresh answer to ``question``.

        The first of a scope is stored without a vector: a later look-up makes it. That of a question whose look-up was
        not made, or not ended, is made when the models have time.
        """
        self.store.keep(entry, question.vector)
        if question.vector is None and question.met and self._backlog is not None:
            self._backlog.add(question)

    async def settle(self, question: Question, finding: Finding | None, entry: Entry) -> None:
        """Store a fresh answer to a question whose form was stored before, or that had a candidate; compare the two."""
        if not question.new:
            await self._inherit(entry)
            if not self.store.allows(entry):
                return  # invalidated or purged meanwhile
        self.keep(question, entry)
        if finding is not None:
            await self.compare(finding, entry)

    def forget(self) -> None:
        """Forget the questions that are remembered beside the store."""
        canonical.cache_clear()
        if self._backlog is not None:
            self._backlog.clear()

    async def _inherit(self, entry: Entry) -> None:
        """Give a fresh entry what was learnt of the one whose place it takes: the newest of its canonical form.

        Marks tell which other wordings a question's answer does not serve. That lies in the question, or in what its
        form makes equal, and a newer answer changes neither.
        """
        with suppress(StoreError):
            former = await self.store.find(entry.canonical or b"")
            entry.marks = former.marks if former is not None else ()

    def _measure(self, same: bool) -> None:
        """Count what the holdback showed; turn the dial to nothing when it is sure that the bound is passed."""
        self._compared += 1
        self._wrong += not same
        if self._alarm.saw(not same) and self.dial.level > 0:
            self.dial.level = 0.0
            log.error(
                "the semantic cache turned itself off: %d of %d answers it would have given were different",
                self._wrong,
                self._compared,
            )

    def view(self) -> dict[str, object]:
        """Return the state, for the admin's page."""
        low, high = wilson(self._wrong, self._compared)
        return {
            "state": self.state,
            "limit": self._limit,
            "false_hit_bound": self.settings.false_hit_bound,
            "share": self.dial.level,
            "holdback": self.dial.holdback,
            "compared": self._compared,
            "different": self._wrong,
            "false_hit_rate_95": [low, high],
        }

    async def feedback(self, key: bytes, right: bool) -> bool:
        """Take a client's word on an entry's answer to another wording; return whether the entry is still here."""
        entry = await self.store.get(key)
        if entry is None:
            return False
        await self._mark(entry, None, right)
        return True

    async def _mark(self, judged: Entry, score: float | None, right: bool) -> None:
        """Let an entry learn, if it is still the one that was judged: it may be newer by now, or purged."""
        entry = await self.store.get(judged.key)
        if entry is not None and entry.created == judged.created:
            entry.marks = self._learnt(entry, score, right)
            self.store.keep(entry)

    def _learnt(self, entry: Entry, score: float | None, right: bool) -> tuple[Mark, ...]:
        return learn(entry.marks, (score if score is not None else (self._limit or 0.0), right))

    def close(self) -> None:
        """Let the thread end with what it does."""
        self._loading.cancel()
        if self._backlog is not None:
            self._backlog.close()
        self._executor.shutdown(wait=False, cancel_futures=True)

    def __repr__(self) -> str:
        return f"<SemanticCache {self.state}, limit {self._limit}, {self.dial!r}>"
