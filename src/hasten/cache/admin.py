"""What those who run the gateway may ask of the cache: look, invalidate, purge, and say that an answer was wrong.

A caller that is no admin sees and touches its own tenant's entries only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from hasten.bodies import read
from hasten.cache import orders
from hasten.cache.control import TAG
from hasten.cache.report import Report
from hasten.cache.stage import CacheStage
from hasten.cache.store.base import Stats
from hasten.errors import Forbidden, InvalidField, NotFound

MAX_NAMES = 100  # tags and models a call


class Invalidate(msgspec.Struct, forbid_unknown_fields=True):
    """Body of ``/admin/cache/invalidate``: what no longer holds."""

    tags: list[str] = []
    models: list[str] = []
    tenant: str | None = None
    all: bool = False


class Purge(msgspec.Struct, forbid_unknown_fields=True):
    """Body of ``/admin/cache/purge``: whose entries are to be deleted."""

    tenant: str


class Feedback(msgspec.Struct, forbid_unknown_fields=True):
    """Body of ``/admin/cache/feedback``: ``entry`` from the header ``x-hasten-cache-entry``."""

    entry: str
    right: bool


class Admin:
    """The cache's admin pages, from decoded bodies to plain values. ``tenant`` is the caller's, ``None`` an admin's.

    ``totals`` returns what the caches of all workers have counted.
    """

    def __init__(self, stage: CacheStage, report: Report, totals: Callable[[], dict[str, Any]]) -> None:
        self._stage = stage
        self._report = report
        self._totals = totals

    def view(self, tenant: str | None) -> dict[str, Any]:
        """Return the state and counts of all workers, and the last looks of this one."""
        stage = self._stage
        group = None if tenant is None else stage.keys.group(tenant)
        semantic = stage.semantic
        totals = self._totals()
        held = {name: totals.pop(name) for name in Stats._fields}
        made: dict[str, Any] = {"store": stage.store.name, "totals": totals, **self._report.view(group)}
        if group is None:
            limit = stage.settings.max_bytes if stage.store.name != "redis" else None
            if stage.orders.scattered and limit is not None:  # each worker has a store of its own
                made.update(held, max_bytes=limit * totals["workers"])
            else:
                made.update(stage.store.stats()._asdict(), max_bytes=limit)
        made["semantic"] = None if semantic is None else semantic.view()
        return made

    async def invalidate(self, body: bytes, tenant: str | None) -> dict[str, Any]:
        """Begin new epochs; return the tags they are of. Raises :class:`InvalidField`, :class:`StoreError`."""
        asked = read(body, Invalidate)
        group = self._group(asked.tenant, tenant)
        if len(asked.tags) > MAX_NAMES or not all(TAG.fullmatch(tag) for tag in asked.tags):
            raise InvalidField(
                f"tags: expected at most {MAX_NAMES} names of letters, digits and . _ / -, as in x-hasten-cache-tags",
                "tags",
            )
        everywhere = tenant is None and asked.tenant is None
        # A client's tag has no colon, so none can name a group.
        tags = [f"tag:{tag}" if everywhere else f"tag:{group}:{tag}" for tag in asked.tags]
        if tenant is not None and asked.models:
            raise Forbidden("models: only an admin may invalidate a model's answers")
        if len(asked.models) > MAX_NAMES:
            raise InvalidField(f"models: expected at most {MAX_NAMES}", "models")
        tags += [f"model:{model}" for model in asked.models]
        if asked.all:
            tags.append("all" if everywhere else f"tenant:{group}")
        elif asked.tenant is not None and not asked.tags:
            tags.append(f"tenant:{group}")
        if not tags:
            raise InvalidField('expected at least one of "tags", "models", "tenant", "all"')
        await self._stage.orders.give(orders.Invalidate(tags))
        return {"invalidated": tags}

    async def purge(self, body: bytes, tenant: str | None) -> dict[str, Any]:
        """Delete all that is kept of a tenant; return how many entries, here. Raises :class:`StoreError`."""
        group = self._group(read(body, Purge).tenant, tenant)
        return {"tenant": group, "purged": await self._stage.orders.give(orders.Purge(group))}

    async def feedback(self, body: bytes, tenant: str | None) -> dict[str, Any]:
        """Let an entry learn from a client's judgement. Raises :class:`InvalidField`, :class:`NotFound`."""
        asked = read(body, Feedback)
        try:
            key = bytes.fromhex(asked.entry)
        except ValueError:
            raise InvalidField(
                "entry: expected the hexadecimal digits of x-hasten-cache-entry", "entry"
            ) from None
        stage = self._stage
        if stage.semantic is None:
            raise NotFound("the semantic cache is off")
        group = None if tenant is None else stage.keys.group(tenant)
        # An entry that is not here may be in another worker's memory; nobody waits for word from there.
        if not await stage.orders.give(orders.Learn(key, asked.right, group)) and not stage.orders.scattered:
            raise NotFound("there is no such entry (any more)")
        return {"entry": asked.entry, "right": asked.right}

    def _group(self, asked: str | None, tenant: str | None) -> str:
        """Return the group that is meant; a caller's own if it may name no other."""
        keys = self._stage.keys
        own = keys.group(tenant or "")
        group = own if asked is None else keys.group(asked)
        if tenant is not None and group != own:
            raise Forbidden("tenant: only an admin may name another tenant")
        return group
