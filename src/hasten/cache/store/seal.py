"""Encryption of what a store keeps: AES-256-GCM."""

from __future__ import annotations

import os

from hasten.cache.store.trouble import UNSEALED, trouble
from hasten.errors import SettingsError

KEY = 32  # bytes
NONCE = (
    12  # bytes; random, so one key is good for some 2**32 entries before two nonces are likely to be the same
)
SETTING = "cache.encryption_key"


class Seal:
    """Encrypts entries, and tells when one was changed or moved.

    Each sealed text is tied to a ``place``, the entry's key: under another key it cannot be opened.

    What stays readable to someone who has the file or the server: how many entries there are, their sizes and times,
    the digests that are their keys, and the names of invalidated tags. With the digests he can find out whether a
    request that he guesses in full was made. The disk store seals vectors too. Redis has to read vectors to search
    them, so there they are plain: a vector tells what a text is about, and much of its wording can be recovered
    from it. Where that is too much, use the disk store.
    """

    def __init__(self, key: bytes) -> None:
        """``key``: 32 bytes. Raises :class:`SettingsError` for another length, or without ``cryptography``."""
        try:
            from cryptography.exceptions import InvalidTag
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        except ImportError as exc:
            raise SettingsError([f"{SETTING}: encryption needs pip install 'hasten[encryption]'"]) from exc
        if len(key) != KEY:
            raise SettingsError([f"{SETTING}: {KEY} bytes are needed, these are {len(key)}"])
        self._cipher = AESGCM(key)
        self._refusals = (InvalidTag, ValueError)

    def seal(self, data: bytes, place: bytes) -> bytes:
        """Return ``data`` encrypted: nonce (12 bytes), ciphertext, tag (16 bytes)."""
        nonce = os.urandom(NONCE)
        return nonce + self._cipher.encrypt(nonce, data, place)

    def unseal(self, data: bytes, place: bytes) -> bytes:
        """Return what was sealed. Raises :class:`StoreError` (``unsealed``): another key, another place, changed."""
        try:
            return self._cipher.decrypt(data[:NONCE], data[NONCE:], place)
        except self._refusals as exc:
            raise trouble("an entry was sealed with another key, or was changed", UNSEALED) from exc
