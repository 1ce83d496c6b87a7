"""Who may ask, and for whom: API keys, compared by their SHA-256 in constant time."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from hasten.errors import Forbidden, Unauthorized
from hasten.settings import Settings


class Caller(NamedTuple):
    """Whose key was sent. ``admin``: it may look at and purge what is all tenants'."""

    tenant: str
    admin: bool


_ANYBODY = Caller("", True)
_NOBODY = Caller("", False)


class Keys:
    """The configured keys; none configured means open.

    A tenant's keys stand for the tenant. Each of ``server.keys`` is a tenant of its own, named after its digest: whose
    they are is not said, so nothing is shared. Without ``server.admin_keys`` every key may use the admin pages, for
    what is its own tenant's.
    """

    __slots__ = ("_admin_keys", "_keys")

    def __init__(self, settings: Settings) -> None:
        keys = [(key, Caller(f"key-{key.digest.hex()[:12]}", False)) for key in settings.server.keys]
        for name, tenant in settings.tenants.items():
            keys += [(key, Caller(name, False)) for key in tenant.keys]
        keys += [(key, Caller("admin", True)) for key in settings.server.admin_keys]
        self._keys = tuple(keys)
        self._admin_keys = bool(settings.server.admin_keys)

    def check(self, headers: dict[bytes, bytes], admin: bool = False) -> Caller:
        """Accept ``authorization: Bearer KEY`` or ``x-api-key: KEY``.

        Raises :class:`Unauthorized`; for an admin page :class:`Forbidden` if there are admin keys and this is none.
        """
        if not self._keys:
            return _ANYBODY
        sent = headers.get(b"authorization", b"")
        if sent[:7].lower() == b"bearer ":
            key = sent[7:].strip()
        else:
            key = headers.get(b"x-api-key", b"")
        if not key:
            raise Unauthorized("no API key: send 'authorization: Bearer KEY' or 'x-api-key: KEY'")
        digest = hashlib.sha256(key).digest()
        found: Caller | None = None
        for entry, caller in self._keys:  # all of them, so that the time does not tell which one came close
            if entry.matches(digest):
                found = caller
        if found is None:
            raise Unauthorized("this API key is not known here")
        if admin and self._admin_keys and not found.admin:
            raise Forbidden("this page needs one of server.admin_keys")
        return found

    def recognise(self, headers: dict[bytes, bytes]) -> Caller:
        """Return whose key was sent to a page that needs none; without a known one nobody's."""
        try:
            return self.check(headers)
        except Unauthorized:
            return _NOBODY

    def __repr__(self) -> str:
        return f"<Keys {len(self._keys)}>" if self._keys else "<Keys open>"
