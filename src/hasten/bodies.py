"""Bodies of requests that are no calls for an engine: small JSON objects, refused with what is wrong with them."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from hasten.errors import InvalidField

T = TypeVar("T")


def read(body: bytes, wanted: type[T]) -> T:
    """Return ``body`` as ``wanted``; raise :class:`InvalidField` with what is wrong."""
    try:
        return msgspec.json.decode(body or b"{}", type=wanted)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise InvalidField(f"the body: {str(exc).replace('`', '')}") from None
