"""The ways a store can fail, by code."""

from __future__ import annotations

from hasten.errors import StoreError

UNSEALED = "unsealed"  #: sealed with another key, or changed
NO_VECTOR_SETS = "no_vector_sets"  #: the Redis server cannot search vectors; all else works


def trouble(message: str, code: str | None = None) -> StoreError:
    """Return a :class:`StoreError` with this code, its usual one when ``None``."""
    error = StoreError(message)
    error.code = code or error.code
    return error
