"""From entries, texts and vectors to the bytes that a store keeps, and back."""

from __future__ import annotations

import logging

import msgspec

from hasten.cache.entry import Entry, pack, unpack
from hasten.cache.store.seal import Seal
from hasten.errors import StoreError

PLAIN, SEALED = b"\0", b"\1"  # the first byte: one who has no key must not take what is sealed for something

log = logging.getLogger("hasten.cache")


class Codec:
    """Packs, and seals where there is a seal. What cannot be read is no error but as if it were not there."""

    def __init__(self, seal: Seal | None) -> None:
        self._seal = seal
        self._told = False

    def encode(self, entry: Entry) -> bytes:
        """Return an entry as bytes."""
        return self.close(entry.key, pack(entry))

    def decode(self, key: bytes, data: bytes | None) -> Entry | None:
        """Return the entry kept under ``key``; ``None`` if it is sealed otherwise, of another version, or none."""
        plain = self.open(key, data)
        if plain is None:
            return None
        try:
            return unpack(plain)
        except msgspec.DecodeError:
            self._pass_over("it is of another version")
            return None

    def close(self, key: bytes, data: bytes) -> bytes:
        """Return ``data`` as it is kept beside the entry of ``key``."""
        return PLAIN + data if self._seal is None else SEALED + self._seal.seal(data, key)

    def open(self, key: bytes, data: bytes | None) -> bytes | None:
        """Return what :meth:`close` was given, or ``None``."""
        if data is None:
            return None
        if data[:1] != (PLAIN if self._seal is None else SEALED):
            self._pass_over("it is sealed and there is no key, or the other way round")
            return None
        if self._seal is None:
            return data[1:]
        try:
            return self._seal.unseal(data[1:], key)
        except StoreError as exc:
            self._pass_over(exc.message)
            return None

    def _pass_over(self, why: str) -> None:
        if not self._told:  # a changed key makes every entry unreadable: one line is enough
            self._told = True
            log.warning("a stored entry is passed over, and others like it will be: %s", why)
