"""Who may ask: API keys, compared by their SHA-256 in constant time."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from hasten.errors import Unauthorized
from hasten.settings import KeyHash


class Keys:
    """The configured keys; none configured means open."""

    __slots__ = ("_keys",)

    def __init__(self, keys: Sequence[KeyHash] = ()) -> None:
        self._keys = tuple(keys)

    def check(self, headers: dict[bytes, bytes]) -> None:
        """Accept ``authorization: Bearer KEY`` or ``x-api-key: KEY``; raise :class:`Unauthorized`."""
        if not self._keys:
            return
        sent = headers.get(b"authorization", b"")
        if sent[:7].lower() == b"bearer ":
            key = sent[7:].strip()
        else:
            key = headers.get(b"x-api-key", b"")
        if not key:
            raise Unauthorized("no API key: send 'authorization: Bearer KEY' or 'x-api-key: KEY'")
        digest = hashlib.sha256(key).digest()
        known = False
        for entry in self._keys:  # all of them, so that the time does not tell which one came close
            known |= entry.matches(digest)
        if not known:
            raise Unauthorized("this API key is not known here")

    def __repr__(self) -> str:
        return f"<Keys {len(self._keys)}>" if self._keys else "<Keys open>"
