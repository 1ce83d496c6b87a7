"""What a client says about caching with one request.

====================================  ==================================================================
``x-hasten-cache: bypass``            neither look up nor store
``x-hasten-cache: refresh``           do not look up, store the new answer
``x-hasten-cache: exact``             no other wording's answer
``x-hasten-cache-max-age: SECONDS``   nothing older
``x-hasten-cache-ttl: SECONDS``       keep the answer for this long, at most ``cache.ttl``
``x-hasten-cache-tags: a, b``         what the stored answer can be invalidated by
``cache-control``                     ``no-store`` as bypass, ``no-cache`` as refresh, ``max-age=SECONDS``
====================================  ==================================================================
"""

from __future__ import annotations

import re

from hasten.errors import InvalidField
from hasten.settings import Cache
from hasten.types import Request

TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,63}")
MAXTAGS = 16
_NAMES = (
    b"x-hasten-cache",
    b"x-hasten-cache-max-age",
    b"x-hasten-cache-ttl",
    b"x-hasten-cache-tags",
    b"cache-control",
)


class Control:
    """The wishes of one request. ``max_age`` and ``ttl`` in seconds."""

    __slots__ = ("bypass", "exact_only", "max_age", "refresh", "tags", "ttl")

    def __init__(self) -> None:
        self.bypass = False
        self.refresh = False
        self.exact_only = False
        self.max_age: float | None = None
        self.ttl: float | None = None
        self.tags: tuple[str, ...] = ()


DEFAULT = Control()


def read(headers: dict[bytes, bytes]) -> Control:
    """Return what ``headers`` ask for; raise :class:`InvalidField` with the header's name and what is allowed."""
    if headers.keys().isdisjoint(_NAMES):
        return DEFAULT
    control = Control()
    directives = headers.get(b"cache-control", b"").decode("latin-1").lower()
    for directive in directives.split(","):
        name, _, value = directive.strip().partition("=")
        if name == "no-store":
            control.bypass = True
        elif name == "no-cache":
            control.refresh = True
        elif name == "max-age" and value.isascii() and value.isdigit():
            control.max_age = float(value)
    wish = headers.get(b"x-hasten-cache")
    match (wish or b"").decode("latin-1").strip().lower():
        case "":
            pass
        case "bypass":
            control.bypass = True
        case "refresh":
            control.refresh = True
        case "exact":
            control.exact_only = True
        case _:
            raise InvalidField("x-hasten-cache: allowed are bypass, refresh and exact", "x-hasten-cache")
    max_age = _seconds(headers, "x-hasten-cache-max-age")
    control.max_age = control.max_age if max_age is None else max_age
    control.ttl = _seconds(headers, "x-hasten-cache-ttl")
    control.tags = _tags(headers.get(b"x-hasten-cache-tags"))
    return control


def _seconds(headers: dict[bytes, bytes], name: str) -> float | None:
    sent = headers.get(name.encode())
    if sent is None:
        return None
    if not sent.isdigit():
        raise InvalidField(f"{name}: expected a whole number of seconds", name)
    return float(sent[:12])


def _tags(sent: bytes | None) -> tuple[str, ...]:
    if sent is None:
        return ()
    tags = tuple(dict.fromkeys(tag.strip() for tag in sent.decode("latin-1").split(",") if tag.strip()))
    if len(tags) > MAXTAGS or not all(TAG.fullmatch(tag) for tag in tags):
        raise InvalidField(
            f"x-hasten-cache-tags: expected at most {MAXTAGS} names of letters, digits and . _ / -, by commas",
            "x-hasten-cache-tags",
        )
    return tags


def unwanted(request: Request, control: Control, settings: Cache) -> str | None:
    """Return why ``request`` is neither looked up nor stored, whatever is on, or ``None``."""
    if control.bypass:
        return "asked"
    sampled = request.endpoint != "embeddings" and getattr(request.fields, "temperature", None) != 0
    return "sampled" if sampled and not settings.sampled else None
