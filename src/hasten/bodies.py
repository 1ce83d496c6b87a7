"""What is sent with requests that are no calls for an engine: small JSON objects and queries, refused with what is
wrong with them."""

from __future__ import annotations

from typing import TypeVar
from urllib.parse import parse_qs

import msgspec

from hasten.errors import InvalidField

T = TypeVar("T")


def read(body: bytes, wanted: type[T]) -> T:
    """Return ``body`` as ``wanted``; raise :class:`InvalidField` with what is wrong."""
    try:
        return msgspec.json.decode(body or b"{}", type=wanted)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise InvalidField(f"the body: {str(exc).replace('`', '')}") from None


class Query:
    """What follows the ``?`` of a path. ``names``: what there may be, each once; else :class:`InvalidField`."""

    def __init__(self, text: bytes, *names: str) -> None:
        try:
            found = parse_qs(text.decode("ascii"), keep_blank_values=True, max_num_fields=32)
        except ValueError:  # UnicodeDecodeError is one
            raise InvalidField("the query: not of the form name=value&name=value") from None
        for name, values in found.items():
            if name not in names:
                raise InvalidField(f"{name[:100]}: there may be {', '.join(names)}", name[:100])
            if len(values) > 1:
                raise InvalidField(f"{name}: once only", name)
        self._values = {name: values[0] for name, values in found.items()}

    def one_of(self, name: str, allowed: tuple[str, ...]) -> str:
        """Return the value of ``name``, one of ``allowed``; without one the first of these."""
        value = self._values.get(name, allowed[0])
        if value not in allowed:
            raise InvalidField(f"{name}: one of {', '.join(allowed)}, not {value[:100]!r}", name)
        return value

    def number(self, name: str, default: int, least: int, most: int) -> int:
        """Return the value of ``name``, a whole number from ``least`` to ``most``."""
        value = self._values.get(name, str(default))
        if not (value.isascii() and value.isdigit() and len(value) < 10 and least <= int(value) <= most):
            raise InvalidField(f"{name}: a number from {least} to {most}, not {value[:100]!r}", name)
        return int(value)
