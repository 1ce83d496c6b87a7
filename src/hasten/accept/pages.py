"""Pages of JSON from plain functions: what the admin's paths lead to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import unquote

import msgspec

from hasten.accept.routes import Head, Page
from hasten.types import Reply


def _tenant(head: Head) -> str | None:
    """Return whose affairs the caller may see to: its own tenant's, or (``None``) everybody's."""
    return None if head.caller.admin else head.caller.tenant


def fixed(reply: Reply) -> Page:
    """Return a page that always is ``reply``; one with an ``etag`` is not sent again to who has it."""
    tag = dict(reply.headers).get(b"etag")
    same = Reply(304, reply.body, reply.content_type)  # its length is told, as of HEAD
    same.headers += reply.headers

    async def page(head: Head) -> Reply:
        return same if tag is not None and tag in head.headers.get(b"if-none-match", b"") else reply

    return page


def own(action: Callable[[bytes, str], Awaitable[dict[str, Any]]]) -> Page:
    """Return a page on which every caller, an admin too, acts for its own tenant: ``action(body, tenant)``."""

    async def page(head: Head) -> Reply:
        return Reply(body=msgspec.json.encode(await action(head.body, head.caller.tenant)))

    return page


def view(look: Callable[[str | None], dict[str, Any]]) -> Page:
    """Return a page that shows what ``look(tenant)`` returns."""

    async def page(head: Head) -> Reply:
        return Reply(body=msgspec.json.encode(look(_tenant(head))))

    return page


def search(look: Callable[[bytes, str | None], dict[str, Any]]) -> Page:
    """Return a page that shows what ``look(query, tenant)`` returns."""

    async def page(head: Head) -> Reply:
        return Reply(body=msgspec.json.encode(look(head.query, _tenant(head))))

    return page


def item(look: Callable[[str, str | None], dict[str, Any]]) -> Page:
    """Return a page that shows what ``look(name, tenant)`` returns of what the path's end names."""

    async def page(head: Head) -> Reply:
        name = unquote(head.path.rpartition(b"/")[2].decode("latin-1"), errors="replace")
        return Reply(body=msgspec.json.encode(look(name, _tenant(head))))

    return page


def act(action: Callable[[bytes, str | None], Awaitable[dict[str, Any]]]) -> Page:
    """Return a page that does ``action(body, tenant)`` and shows what it returns."""

    async def page(head: Head) -> Reply:
        return Reply(body=msgspec.json.encode(await action(head.body, _tenant(head))))

    return page
