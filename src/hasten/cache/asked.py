"""A request that no kept answer serves, and the entry that its own answer becomes."""

from __future__ import annotations

from time import perf_counter

from hasten.cache.control import Control
from hasten.cache.entry import Entry
from hasten.cache.key import Fingerprint
from hasten.cache.semantic.question import Finding, Question
from hasten.settings import Cache
from hasten.types import Request


class Asked:
    """What is known of a request when its answer comes.

    ``group``: whose cache it uses. ``tags``: what its answer can be invalidated by; ``epochs``: theirs when it went to
    the engine, at ``started`` (``time.perf_counter`` seconds). ``counts``: as :class:`Entry` has them.
    """

    __slots__ = (
        "control",
        "counts",
        "epochs",
        "finding",
        "found",
        "group",
        "question",
        "request",
        "started",
        "tags",
    )

    def __init__(self, request: Request, control: Control, found: Fingerprint, group: str) -> None:
        self.request = request
        self.control = control
        self.found = found
        self.group = group
        self.question: Question | None = None
        self.finding: Finding | None = None
        self.tags = _tags(group, request.model, control)
        self.epochs: tuple[int, ...] = ()
        self.started = 0.0
        self.counts = b""

    def entry(self, body: bytes, streamed: bool, content_type: bytes, now: float, settings: Cache) -> Entry:
        """Return the answer as it is kept. ``now``: Unix seconds."""
        request, trace, question = self.request, self.request.trace, self.question
        ttl = settings.ttl if self.control.ttl is None else min(self.control.ttl, settings.ttl)
        return Entry(
            key=self.found.key,
            tenant=self.group,
            model=trace.served_model or request.model,
            engine=trace.engine,
            provider=trace.provider,
            streamed=streamed,
            body=body,
            content_type=content_type,
            created=now,
            expires=now + ttl,
            stale_until=now + ttl + settings.stale,
            tags=self.tags,
            epochs=self.epochs,
            took=perf_counter() - self.started,
            input_tokens=trace.input_tokens,
            output_tokens=trace.output_tokens,
            finish_reason=trace.finish_reason or "stop",
            scope=question.scope if question else None,
            canonical=question.form if question else None,
            text=question.text if question else None,
            usage=request.include_usage,
            estimated=trace.estimated,
            counts=self.counts,
        )


def _tags(group: str, model: str, control: Control) -> tuple[str, ...]:
    """Return what the entry can be invalidated by: a client's own tags within its group, and by an admin everywhere."""
    tags: tuple[str, ...] = ("all", f"tenant:{group}", f"model:{model}")
    for tag in control.tags:
        tags += (f"tag:{group}:{tag}", f"tag:{tag}")
    return tags
