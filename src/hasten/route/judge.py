"""Whether a weak tier's answer will do. Synchronous; the cascade does the awaiting.

FrugalGPT (Chen et al. 2023) scores an answer with a learned model and asks the next one where the score is low;
AutoMix (Aggarwal et al. 2023) lets the model check itself. Here the cheap signs come first: how it ended, what it looks
like, how sure its tokens were (Gupta et al. 2024, "Language model cascades: token-level uncertainty"), then the check.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Any, NamedTuple

import msgspec

from hasten.fields import ChatFields, CompletionFields
from hasten.route.check import Check
from hasten.route.conversation import text_of
from hasten.route.hearing import Heard
from hasten.route.language import mismatch
from hasten.settings import Cascade
from hasten.types import Request

SHORT = 128  # tokens: a client that allows fewer wants the beginning of an answer, cut or not
SEEN = 4000  # characters of the end in which loops are looked for
PERIOD = 240  # characters: longest piece that a loop repeats
TIMES = 5  # repetitions that make a loop
LEAST = 60  # characters: shorter loops may be laughter

_REFUSAL = re.compile(
    r"\s*(?:[*_#>\"']\s*)*(?:(?:i['’]?m|i am) (?:really |very |so |truly )?sorry[,.]? (?:but )?(?:i|as)\b|"
    r"(?:sorry|apologies|unfortunately)[,.]? (?:but )?i (?:can['’]?t|cannot|can not|am (?:not able|unable)|don['’]?t)|"
    r"i (?:can['’]?t|cannot|can not|won['’]?t|will not|am (?:unable|not able) to) "
    r"(?:help|assist|provide|answer|fulfil|comply|do that|discuss|generate|create|access|determine|solve|complete)|"
    r"i['’]?m (?:unable|not able) to|as an ai\b|i don['’]?t (?:know|have (?:enough|access|the ability|information))|"
    r"es tut mir leid, (?:aber )?ich kann|als ki\b|je suis désolée?,? (?:mais )?je ne (?:peux|suis)|"
    r"lo siento,? (?:pero )?no puedo|抱歉|对不起|申し訳)",
    re.I,
)


class Asked(NamedTuple):
    """What an answer is judged against."""

    question: str
    limit: int | None = None  # tokens that the client allows
    json: bool = False
    schema: dict[str, Any] | None = None
    tools: frozenset[str] = frozenset()


def asked_of(request: Request) -> Asked:
    """Return what ``request`` asks for."""
    fields = request.fields
    if isinstance(fields, CompletionFields):
        given = fields.prompt if isinstance(fields.prompt, list) else [fields.prompt]
        return Asked(" ".join(part for part in given if isinstance(part, str)), fields.max_tokens)
    if not isinstance(fields, ChatFields):
        return Asked("")
    texts = [text_of(message) for message in fields.messages if message.role == "user"]
    form = fields.response_format or {}
    inner = form.get("json_schema")
    schema = inner.get("schema") if isinstance(inner, dict) else None
    functions = [tool.get("function") for tool in fields.tools or ()]
    names = [f.get("name") for f in functions if isinstance(f, dict)]
    return Asked(
        texts[-1] if texts else "",
        fields.max_completion_tokens or fields.max_tokens,
        form.get("type") in ("json_object", "json_schema"),
        schema if isinstance(schema, dict) else None,
        frozenset(name for name in names if isinstance(name, str)),
    )


class Judge:
    """Says why an answer falls short, in a word, or ``None`` if it passes."""

    def __init__(self, settings: Cascade, check: Check) -> None:
        self.settings = settings
        self.check = check

    def early(self, asked: Asked, heard: Heard) -> str | None:
        """Judge the beginning of an answer that goes on."""
        text = heard.text
        if heard.refused or _REFUSAL.match(text):
            return "refusal"
        if asked.json and text.strip() and not heard.calls and text.lstrip()[0] not in "{[":
            return "json"
        return (
            self._sureness(heard) or ("repetition" if loops(text) else None) or mismatch(asked.question, text)
        )

    def whole(self, asked: Asked, heard: Heard) -> str | None:
        """Judge a complete answer."""
        text = heard.text
        calls = list(heard.calls.values())
        if not text.strip() and not calls:
            return "refusal" if heard.refused else "empty"
        if heard.finish == "content_filter":
            return "refusal"
        if heard.finish == "length" and (asked.limit is None or asked.limit >= SHORT):
            return "truncated"
        for name, arguments in calls:
            if name not in asked.tools or not isinstance(_decoded(arguments), dict):
                return "tool call"
        if calls:
            return self._sureness(heard)
        if asked.json and heard.finish != "length":
            if not _as_asked(text, asked):
                return "json"
            return self._sureness(heard)
        return self.early(asked, heard) or self.check.verdict(asked.question, text, self.settings.limit)

    def _sureness(self, heard: Heard) -> str | None:
        perplexity = heard.perplexity
        if perplexity is None:
            return None
        least = self.settings.min_logprob
        unsure = perplexity > self.settings.perplexity or (least is not None and min(heard.logprobs) < least)
        return "unsure" if unsure else None

    def __repr__(self) -> str:
        return f"<Judge {self.settings!r}>"


def loops(text: str) -> bool:
    """Whether the end of ``text`` says the same over and over."""
    tail = text[-SEEN:].rstrip()
    for period in range(1, min(PERIOD, len(tail) // TIMES) + 1):
        size = max(LEAST, period * TIMES)
        if tail[-size:-period] == tail[-size + period :] and len(tail) >= size:
            return any(map(str.isalpha, tail[-period:]))  # a table's rule is no loop
    lines = [line.strip() for line in tail.split("\n") if len(line.strip()) > 15]
    return len(lines) >= 8 and Counter(lines).most_common(1)[0][1] * 2 > len(lines)


# -- JSON


def _decoded(text: str) -> object:
    """Return the value, or the class :class:`ValueError` where it is no JSON."""
    try:
        return msgspec.json.decode(text.encode("utf-8", "replace"))
    except (msgspec.DecodeError, RecursionError):
        return ValueError


def _as_asked(text: str, asked: Asked) -> bool:
    value = _decoded(text)
    if asked.schema is not None:
        return value is not ValueError and fits(value, asked.schema)
    return isinstance(value, dict | list)


_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "null": (type(None),),
}


def fits(value: Any, schema: Any, depth: int = 32) -> bool:
    """Whether ``value`` fits the common part of JSON Schema: type, enum, const, properties, required, items.

    What is not known here (references, patterns, bounds) is taken as met.
    """
    if not isinstance(schema, dict) or depth == 0:
        return True
    wanted = schema.get("type")
    names = wanted if isinstance(wanted, list) else [wanted]
    known = [name for name in names if isinstance(name, str) and name in _TYPES]
    if known and not any(_is(value, name) for name in known):
        return False
    if "const" in schema and value != schema["const"]:
        return False
    if isinstance(schema.get("enum"), list) and value not in schema["enum"]:
        return False
    if isinstance(value, dict):
        required = schema.get("required")
        if isinstance(required, list) and any(isinstance(r, str) and r not in value for r in required):
            return False
        inner = schema.get("properties")
        inner = inner if isinstance(inner, dict) else {}
        if schema.get("additionalProperties") is False and not value.keys() <= inner.keys():
            return False
        return all(fits(v, inner.get(k), depth - 1) for k, v in value.items())
    if isinstance(value, list):
        return all(fits(v, schema.get("items"), depth - 1) for v in value)
    return True


def _is(value: Any, name: str) -> bool:
    if isinstance(value, bool):
        return name == "boolean"
    if name == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _TYPES[name])
