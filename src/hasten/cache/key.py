"""What makes two requests the same: the exact key, and the scope within which wordings are compared.

The key is a digest over the tenant's cache group, the endpoint, what the model's name can resolve to under this
configuration, and the whole body in a canonical form (keys sorted, no white space), unknown fields included. Left out
is only how the answer travels: ``stream`` and ``stream_options.include_usage``, and what ``cache.ignore`` names. The
scope is the same digest with the last user text taken out.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b
from typing import Any

import msgspec

from hasten.settings import LlamaEngine, Settings
from hasten.types import Request

DIGEST = 20  # bytes: 160 bits, so that nobody finds two requests with one key
_TRANSPORT = ("stream",)
_DEMANDS = (b"x-hasten-route", b"x-hasten-require")

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder(order="sorted").encode


class Fingerprint:
    """The keys of one request.

    ``scope`` and ``text`` are ``None`` until :meth:`locate` has found them, and where the last message is no plain user
    text: an exact hit needs neither. ``rest``: what they are made of, the key's head and the decoded body.
    """

    __slots__ = ("_rest", "key", "scope", "text")

    def __init__(
        self,
        key: bytes,
        scope: bytes | None = None,
        text: str | None = None,
        rest: tuple[bytes, dict[str, Any]] | None = None,
    ) -> None:
        self.key = key
        self.scope = scope
        self.text = text
        self._rest = rest

    def locate(self, semantic: bool = True) -> None:
        """Work out the scope and the text if ``semantic``; let go of the body."""
        rest, self._rest = self._rest, None
        if not semantic or rest is None:
            return
        head, fields = rest
        text = _take_text(fields)
        if text is not None:
            self.text = text
            self.scope = blake2b(head + b"scope\0" + _encode(fields), digest_size=DIGEST).digest()

    def __repr__(self) -> str:
        return f"<Fingerprint {self.key.hex()[:12]}{' in ' + self.scope.hex()[:12] if self.scope else ''}>"


class Keys:
    """Makes fingerprints under one configuration."""

    def __init__(self, settings: Settings) -> None:
        self._resolution = {name: _resolution(settings, name) for name in settings.models}
        self._ignore = frozenset(settings.cache.ignore) | frozenset(_TRANSPORT)
        self._head = lru_cache(1024)(self._make_head)
        self._routed = {name for name, model in settings.models.items() if model.tiers}
        self._require = {name: tenant.require for name, tenant in settings.tenants.items()}
        self._groups = {name: tenant.cache_group or name for name, tenant in settings.tenants.items()}

    def group(self, tenant: str) -> str:
        """Return the tenants' group that shares a cache; a tenant of its own unless the settings say otherwise."""
        return self._groups.get(tenant, tenant)

    def of(self, request: Request, semantic: bool = False) -> Fingerprint:
        """Return the fingerprint of ``request``; with its scope and text at once if ``semantic``.

        Raises :class:`ValueError` for a body that cannot be read, or in which an object has a key twice.
        """
        fields: dict[str, Any] = _decode(request.body)
        colons = 0
        for name in self._ignore:
            if name in fields:
                colons += _encode({name: fields.pop(name)}).count(b":")
        options = fields.get("stream_options")
        if isinstance(options, dict):
            if "include_usage" in options:
                colons += _encode({"include_usage": options.pop("include_usage")}).count(b":")
            if not options:
                del fields["stream_options"]
                colons += 1
        encoded = _encode(fields)
        if colons + encoded.count(b":") != _colons(request.body):
            raise ValueError("a key is there twice")
        model, tenant = request.model if request.model in self._resolution else "", request.trace.tenant
        demands: tuple[str, ...] = ()
        if model in self._routed or request.models is not None:
            # What the client and its tenant demand of the model, which a stage chooses.
            asked = (request.headers.get(name, b"").decode("latin-1") for name in _DEMANDS)
            demands = (*asked, *self._require.get(tenant, ()))
        head = self._head(request.endpoint, tenant, model, demands)
        key = blake2b(head + encoded, digest_size=DIGEST).digest()
        found = Fingerprint(key, rest=(head, fields) if request.endpoint == "chat" else None)
        if semantic:
            found.locate()
        return found

    def _make_head(self, endpoint: str, tenant: str, model: str, demands: tuple[str, ...]) -> bytes:
        # Length-prefixed by JSON: no tenant's name can run into the next part.
        return _encode((endpoint, self.group(tenant), self._resolution.get(model, ""), *demands))


def canonical_key(scope: bytes, canonical: str) -> bytes:
    """Return the key of a question's canonical form within its scope."""
    return blake2b(scope + canonical.encode(), digest_size=DIGEST).digest()


def _colons(body: bytes) -> int:
    """Return how many colons there are in a JSON text and its strings; more if in doubt.

    Decoded, of a key that is there twice the last one is left, while an engine may take the first: the answer to one
    question would be kept under the key of another. What was dropped had one colon at least, so one is missing after
    encoding. A colon in a string may be written as an escape, which an encoder does not do.
    """
    found = body.count(b":")
    if b"\\" in body and b"\\u003" in body:  # the first is found out in no time
        found += body.count(b"\\u003a") + body.count(b"\\u003A")
    return found


def _take_text(fields: dict[str, Any]) -> str | None:
    """Blank the last message's text in ``fields`` and return it; ``None`` if it is not all a user said."""
    messages = fields.get("messages")
    last = messages[-1] if isinstance(messages, list) and messages else None
    if not isinstance(last, dict) or last.get("role") != "user":
        return None
    content = last.get("content")
    if isinstance(content, str):
        last["content"] = None
        return content
    if isinstance(content, list) and len(content) == 1:
        part = content[0]
        if isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str):
            text: str = part["text"]
            part["text"] = None
            return text
    return None


def _resolution(settings: Settings, name: str, seen: tuple[str, ...] = ()) -> Any:
    """Return all that ``name`` can resolve to, as plain values: its settings, its engines', its fallbacks'."""
    model = settings.models.get(name)
    if model is None or name in seen:
        return name
    made: dict[str, Any] = {"settings": msgspec.to_builtins(model)}
    made["engines"] = {engine: _identity(settings, engine) for engine in model.engines}
    made["tiers"] = {other: _resolution(settings, other, (*seen, name)) for other in model.tiers}
    made["fallback"] = {other: _resolution(settings, other, (*seen, name)) for other in model.fallback}
    return blake2b(_encode(made), digest_size=DIGEST).hexdigest()


def _identity(settings: Settings, name: str) -> dict[str, Any]:
    """Return what decides an engine's answers: where it is, which weights, which headers; no limits, no timeouts."""
    engine = settings.engines[name]
    if isinstance(engine, LlamaEngine):
        return {
            "kind": "llama",
            "model": engine.model,
            "context": engine.context,
            "precision": engine.precision,
        }
    return {
        "kind": "openai",
        "base_url": engine.base_url,
        "model": engine.model,
        "headers": {k: blake2b(v.reveal().encode()).hexdigest() for k, v in engine.headers.items()},
    }
