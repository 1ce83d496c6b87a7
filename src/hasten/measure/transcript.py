"""Keeps what the request log needs of a request's texts with its trace, only where the settings ask for it."""

from __future__ import annotations

from hashlib import blake2b
from itertools import chain

import msgspec

from hasten.errors import HastenError
from hasten.fields import ChatFields, Fields
from hasten.settings import Log
from hasten.types import Chunk, Handler, Reply, Request

MAX_BYTES = 64 * 1024  # of each side
BLOCK = 2048  # bytes that one hash of a prompt stands for: some 512 tokens
MAX_BLOCKS = 512
MAX_HASHED = 4 * BLOCK * MAX_BLOCKS  # bytes: a longer body, as with images in it, is not held to be hashed
_PIECE = 64  # bytes, about, that Python needs for a piece beside what is in it


class Transcript:
    """What was asked and what was answered, cut at :data:`MAX_BYTES`; what the hashes are made of.

    ``texts``: both sides may be told. ``key``: the hashes may be, made with it.
    """

    __slots__ = ("_answer", "_cut", "_fields", "_key", "_request", "_tenant", "_texts", "_told", "size")

    def __init__(self, request: Request, texts: bool, key: bytes | None) -> None:
        body = request.body
        hashed = key is not None and len(body) <= MAX_HASHED
        self._texts = texts
        self._request = body[:MAX_BYTES] if texts else b""
        self._cut = texts and len(body) > MAX_BYTES
        self._answer: list[bytes] = []
        self._told = 0  # bytes of the answer
        self._key = key if hashed else None
        self._fields = request.fields if hashed else None
        self._tenant = request.trace.tenant
        self.size = len(self._request) + (len(body) if hashed else 0)

    def add(self, data: bytes) -> None:
        """Keep a piece of the answer."""
        room = MAX_BYTES - self._told
        if room > 0:
            self._answer.append(data[:room])
            self.size += min(room, len(data)) + _PIECE
        self._told += len(data)

    def on_chunk(self, chunk: Chunk) -> None:
        self.add(chunk.raw)

    def on_end(self, error: HastenError | None) -> None:
        pass

    def texts(self) -> tuple[str, str, bool] | None:
        """Return both sides as text, and whether one of them is cut."""
        if not self._texts:
            return None
        answer = b"".join(self._answer)
        cut = self._cut or self._told > MAX_BYTES
        return self._request.decode(errors="replace"), answer.decode(errors="replace"), cut

    def prefix(self) -> tuple[str, list[int]] | None:
        """Return the hash of the conversation's beginning, and those of the prompt's blocks."""
        if self._key is None or self._fields is None:
            return None
        return conversation(self._fields, self._tenant, self._key), blocks(self._fields, self._key)


def blocks(fields: Fields, key: bytes) -> list[int]:
    """Return a number for each :data:`BLOCK` of the prompt, which stands for all up to its end.

    Two prompts begin alike for as long as their numbers are equal (as in the traces of Mooncake, FAST 2025, whose
    blocks are 512 tokens). Chained and keyed BLAKE2b, of 48 bits, which every reader of JSON keeps exact::

        h[i] = blake2b(h[i-1] + block[i], key)
    """
    found: list[int] = []
    last = fields.model.encode(errors="replace")
    prompt = _prompt(fields)
    for at in range(0, min(len(prompt), MAX_BLOCKS * BLOCK), BLOCK):
        last = blake2b(last + prompt[at : at + BLOCK], digest_size=6, key=key).digest()
        found.append(int.from_bytes(last, "little"))
    return found


def conversation(fields: Fields, tenant: str, key: bytes) -> str:
    """Return 16 hexadecimal digits for the tenant, the model and all up to the first message by the user."""
    digest = blake2b(f"{tenant}\0{fields.model}\0".encode(errors="replace"), digest_size=8, key=key)
    if isinstance(fields, ChatFields):
        for message in fields.messages:
            digest.update(msgspec.json.encode(message))
            if message.role == "user":
                break
    else:
        digest.update(_prompt(fields))
    return digest.hexdigest()


def _prompt(fields: Fields) -> bytes:
    """Return what a model's template would put together: tools first, then the messages; cut where hashing ends."""
    if not isinstance(fields, ChatFields):
        return msgspec.json.encode(getattr(fields, "prompt", None) or getattr(fields, "input", None))
    made = bytearray()
    for part in chain(fields.tools or (), fields.messages):
        made += msgspec.json.encode(part)
        if len(made) >= MAX_BLOCKS * BLOCK:
            break
    return bytes(made)


class Keep:
    """The stage: hang a :class:`Transcript` on the trace."""

    def __init__(self, settings: Log) -> None:
        self._texts = settings.prompts
        secret = settings.hash_key
        self._key = None if secret is None else blake2b(secret.reveal().encode(), digest_size=32).digest()

    async def __call__(self, request: Request, next: Handler) -> Reply:
        """See :class:`hasten.types.Stage`."""
        transcript = Transcript(request, self._texts, self._key)
        request.trace.transcript = transcript
        reply = await next(request)
        if not self._texts:
            return reply
        if reply.stream is not None:
            reply.stream.taps.append(transcript)
        else:
            transcript.add(reply.body)
        return reply
