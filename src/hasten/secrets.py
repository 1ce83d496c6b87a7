"""What must not be shown: texts of the settings, and the keys of clients."""

from __future__ import annotations

import hashlib
import hmac


class Secret:
    """A string that shows itself only when asked by :meth:`reveal`."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the plain text."""
        return self._value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return "<secret>"


class KeyHash:
    """An API key of a client, held as SHA-256 only. Config: the key, ``env:NAME``, or ``sha256:<hex>``."""

    __slots__ = ("digest",)

    def __init__(self, value: str) -> None:
        if value.startswith("sha256:"):
            digest = bytes.fromhex(value[7:])
            if len(digest) != 32:
                raise ValueError("sha256: needs 64 hexadecimal digits")
            self.digest = digest
        else:
            if not value:
                raise ValueError("a key must not be empty")
            self.digest = hashlib.sha256(value.encode()).digest()

    def matches(self, digest: bytes) -> bool:
        """Compare with the SHA-256 of what a client sent, in constant time."""
        return hmac.compare_digest(self.digest, digest)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, KeyHash) and self.matches(other.digest)

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return "<key>"
