"""One stored answer, and its form as bytes."""

from __future__ import annotations

import msgspec

#: One observation of an entry served, or nearly served, to another wording: (verifier score, answer was right).
Mark = tuple[float, bool]


class Entry(msgspec.Struct, array_like=True, kw_only=True, gc=False):
    """An answer with what is needed to serve it, to age it and to explain it. Times: Unix seconds.

    ``key``: the exact key. ``body``: the engine's JSON (``streamed`` false) or its server-sent events, byte for
    byte. ``expires``: until when it is fresh; ``stale_until``: until when it may be served while it is renewed.
    ``tags``: what it can be invalidated by; ``epochs``: what was known of their invalidations when its request
    began (:mod:`hasten.cache.store.epochs`). ``took``: seconds the engine needed. ``scope``, ``canonical`` and
    ``text`` (the last user text) only where the semantic cache may use the entry. ``marks``: what was learnt of it,
    the newest last. ``usage``: whether its request asked for token counts at the end of the stream. ``estimated``:
    whether the gateway counted the tokens, as the engine did not. ``counts``: a stream's event with the token counts,
    where the gateway asked for them; it is not in ``body``.
    """

    key: bytes
    tenant: str
    model: str
    engine: str
    provider: str
    streamed: bool
    body: bytes
    content_type: bytes
    created: float
    expires: float
    stale_until: float
    tags: tuple[str, ...] = ()
    epochs: tuple[int, ...] = ()
    took: float = 0.0
    input_tokens: int | None = None
    output_tokens: int | None = None
    finish_reason: str | None = None
    scope: bytes | None = None
    canonical: bytes | None = None
    text: str | None = None
    marks: tuple[Mark, ...] = ()
    usage: bool = False
    estimated: bool = False
    counts: bytes = b""

    @property
    def size(self) -> int:
        """Bytes of the body, the counts and the text, which are nearly all of it."""
        return len(self.body) + len(self.counts) + len(self.text or "")


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Entry)


def pack(entry: Entry) -> bytes:
    """Return ``entry`` as bytes (MessagePack)."""
    return _encoder.encode(entry)


def unpack(data: bytes) -> Entry:
    """Return the entry of :func:`pack`. Raises :class:`msgspec.DecodeError` for anything else."""
    return _decoder.decode(data)
