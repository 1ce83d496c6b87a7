"""Encryption at rest."""

from __future__ import annotations

import sys

import pytest

from hasten.cache.store.seal import Seal
from hasten.errors import SettingsError, StoreError
from tests.cache.stores import SECRET


def test_round_trip() -> None:
    seal = Seal(SECRET)
    sealed = seal.seal(b"plain", b"place")
    assert b"plain" not in sealed
    assert len(sealed) == len(b"plain") + 28
    assert seal.seal(b"plain", b"place") != sealed  # a nonce of its own
    assert Seal(SECRET).unseal(sealed, b"place") == b"plain"


def test_another_key_or_place() -> None:
    sealed = Seal(SECRET).seal(b"plain", b"place")
    for seal, place in ((Seal(bytes(32)), b"place"), (Seal(SECRET), b"elsewhere")):
        with pytest.raises(StoreError) as caught:
            seal.unseal(sealed, place)
        assert caught.value.code == "unsealed"


def test_every_changed_byte_is_noticed() -> None:
    seal = Seal(SECRET)
    sealed = seal.seal(b"plain", b"place")
    for at in range(len(sealed)):
        changed = bytearray(sealed)
        changed[at] ^= 1
        with pytest.raises(StoreError):
            seal.unseal(bytes(changed), b"place")
    for length in range(len(sealed)):
        with pytest.raises(StoreError):
            seal.unseal(sealed[:length], b"place")


def test_a_key_of_another_length() -> None:
    with pytest.raises(SettingsError, match="32 bytes"):
        Seal(b"short")


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.exceptions", None)
    with pytest.raises(SettingsError, match=r"hasten\[encryption\]"):
        Seal(SECRET)
