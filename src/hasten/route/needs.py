"""What a request needs of a model before its difficulty counts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from hasten.fields import ChatFields, CompletionFields
from hasten.settings import LlamaEngine, Model, Settings
from hasten.tokens import IMAGE
from hasten.types import Request

BYTES_PER_TOKEN = (
    3.0  # on the safe side for English (about 4); CJK text takes 3 bytes a character, about a token
)
DEFAULT_ANSWER = 256  # tokens to leave for an answer whose length the client does not bound


class Needs(NamedTuple):
    """``tokens``: of prompt and answer together, estimated. ``tags``: what the model must be marked with."""

    tokens: int
    tools: bool = False
    images: bool = False
    json_mode: bool = False
    tags: frozenset[str] = frozenset()

    @property
    def plain(self) -> bool:
        """Whether nothing but room for its tokens is needed."""
        return not (self.tools or self.images or self.json_mode or self.tags)

    def unmet(self, model: Model, context: int | None) -> str | None:
        """Return what ``model`` lacks, in a word or two, or ``None``. ``context``: its window in tokens, if known."""
        if not self.tags.issubset(model.tags):
            return "tags"
        if self.tools and not model.tools:
            return "tools"
        if self.images and not model.images:
            return "images"
        if self.json_mode and not model.json_mode:
            return "json mode"
        if context is not None and self.tokens > context:
            return "context"
        return None


def needs_of(request: Request, tags: frozenset[str]) -> Needs:
    """Return what ``request`` needs, with ``tags`` that it or its tenant demands."""
    fields = request.fields
    images = 0
    if isinstance(fields, ChatFields):
        hidden = 0
        for part in _parts(fields):
            if part.get("type") in ("image_url", "image", "input_image"):
                images += 1
                hidden += _size(part)
        answer = fields.max_completion_tokens or fields.max_tokens or DEFAULT_ANSWER
        form = fields.response_format or {}
        tokens = int((len(request.body) - hidden) / BYTES_PER_TOKEN) + images * IMAGE + answer
        return Needs(
            tokens, bool(fields.tools), images > 0, form.get("type") in ("json_object", "json_schema"), tags
        )
    answer = (fields.max_tokens or DEFAULT_ANSWER) if isinstance(fields, CompletionFields) else 0
    return Needs(int(len(request.body) / BYTES_PER_TOKEN) + answer, tags=tags)


def demands(request: Request, require: Mapping[str, frozenset[str]]) -> frozenset[str]:
    """Return the tags that the client demands of a model, and its tenant. ``require``: the tenants' by their names."""
    tags = require.get(request.trace.tenant, frozenset())
    asked = request.headers.get(b"x-hasten-require")
    if asked is not None:
        tags |= {tag.strip() for tag in asked.decode("latin-1").split(",") if tag.strip()}
    return tags


def required(settings: Settings) -> dict[str, frozenset[str]]:
    """Return the tags that tenants demand, by their names."""
    return {name: frozenset(t.require) for name, t in settings.tenants.items() if t.require}


def context_of(settings: Settings, name: str) -> int | None:
    """Return the tokens that the narrowest of a model's engines can hold, ``None`` if nothing is known."""
    model = settings.models[name]
    windows = [] if model.context is None else [model.context]
    for engine in model.engines:
        given = settings.engines[engine]
        if isinstance(given, LlamaEngine):
            windows.append(given.context)
    return min(windows, default=None)


def _parts(fields: ChatFields) -> Iterator[dict[str, Any]]:
    for message in fields.messages:
        if isinstance(message.content, list):
            yield from message.content


def _size(part: dict[str, Any]) -> int:
    """Return about how many bytes of the body an image takes: its URL, often the image itself."""
    inner = part.get("image_url", part.get("source", ""))
    if isinstance(inner, dict):
        inner = inner.get("url") or inner.get("data") or ""
    return len(inner) if isinstance(inner, str) else 0
