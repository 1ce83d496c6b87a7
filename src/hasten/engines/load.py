"""What an engine tells of itself on its page for Prometheus, under one set of names for all kinds of engine.

Synchronous, without I/O: a page's text in, a :class:`Load` out. Counters are compared with those of an earlier page, up
to :data:`WINDOW` seconds old; one that fell begins anew, as the engine did. Names: the engines' own documentation and
sources, both generations of each.
"""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Callable, Iterator
from time import time

import msgspec

WINDOW = 10.0  # seconds that shares and means are of, and after which a load is of no use
MAX_LINE = 16 * 1024  # characters: matching one that is much longer holds up every thread

_SAMPLE = re.compile(
    r"([a-zA-Z_:][a-zA-Z0-9_:]*)"
    r'(?:[ \t]*\{((?:[^"}]|"(?:[^"\\]|\\.)*")*)\}[ \t]*|[ \t]+)'
    r"([^ \t\r]+)(?:[ \t]+-?[0-9.]+)?[ \t]*\r?"
)
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)[ \t]*=[ \t]*"((?:[^"\\]|\\.)*)"')
_ESCAPE = re.compile(r"\\(.)")
#: These only say which process wrote: processes that work at the same requests all count them.
_COPIES = ("tp_rank", "pp_rank", "moe_ep_rank")


class Load(msgspec.Struct, frozen=True):
    """What an engine said last; ``None``: it does not tell, or nothing happened that it could tell of.

    ``at``: when, Unix seconds. ``running``, ``waiting``: requests. ``kv_usage``: the share of its memory for keys and
    values that is taken, a mean where there are several. ``cached_share``: of the prompts' tokens, how many it had in
    its prefix cache. ``queue``, ``prefill``, ``decode``: mean seconds a request.
    """

    at: float
    running: float | None = None
    waiting: float | None = None
    kv_usage: float | None = None
    cached_share: float | None = None
    queue: float | None = None
    prefill: float | None = None
    decode: float | None = None


class Names(msgspec.Struct, frozen=True):
    """One kind of engine's names; of several for the same, the first that is there holds.

    ``kv_usage`` and ``cached_share`` are gauges from 0 to 1; ``hits`` and ``asked`` are counters, each a sum of names.
    ``queue``, ``prefill`` and ``decode`` are histograms: a name, and the value of its label ``stage`` if it has one.
    """

    running: tuple[str, ...]
    waiting: tuple[str, ...]
    kv_usage: tuple[str, ...] = ()
    cached_share: tuple[str, ...] = ()
    hits: tuple[str, ...] = ()
    asked: tuple[tuple[str, ...], ...] = ()
    queue: tuple[str, str] | None = None
    prefill: tuple[str, str] | None = None
    decode: tuple[str, str] | None = None


KINDS = {
    "vllm": Names(
        running=("vllm:num_requests_running",),
        waiting=("vllm:num_requests_waiting",),
        kv_usage=("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"),
        cached_share=("vllm:gpu_prefix_cache_hit_rate",),
        hits=("vllm:prefix_cache_hits", "vllm:gpu_prefix_cache_hits"),
        asked=(("vllm:prefix_cache_queries",), ("vllm:gpu_prefix_cache_queries",)),
        queue=("vllm:request_queue_time_seconds", ""),
        prefill=("vllm:request_prefill_time_seconds", ""),
        decode=("vllm:request_decode_time_seconds", ""),
    ),
    "sglang": Names(
        running=("sglang:num_running_reqs",),
        waiting=("sglang:num_queue_reqs",),
        kv_usage=("sglang:token_usage",),
        cached_share=("sglang:cache_hit_rate",),
        hits=("sglang:cached_tokens",),
        asked=(("sglang:prompt_tokens",),),
        queue=("sglang:queue_time_seconds", ""),
        prefill=("sglang:per_stage_req_latency_seconds", "prefill_forward"),
    ),
    "llama.cpp": Names(
        running=("llamacpp:requests_processing",),
        waiting=("llamacpp:requests_deferred",),
        kv_usage=("llamacpp:kv_cache_usage_ratio",),
        hits=("llamacpp:prompt_tokens_cached",),
        asked=(("llamacpp:prompt_tokens", "llamacpp:prompt_tokens_cached"),),
    ),
    "tgi": Names(
        running=("tgi_batch_current_size",),
        waiting=("tgi_queue_size",),
        queue=("tgi_request_queue_duration", ""),
    ),
}
_PREFIXES = ("vllm:", "sglang:", "llamacpp:", "tgi_")
PHASES = ("queue", "prefill", "decode")


def samples(page: str, wanted: Callable[[str], bool] = bool) -> Iterator[tuple[str, dict[str, str], float]]:
    """Yield name, labels and value of what ``page`` holds in Prometheus's text format (version 0.0.4).

    Lines that are not of this format, or longer than :data:`MAX_LINE`, are left out, and without a look at their
    labels names that are not ``wanted``.
    """
    for line in page.split("\n"):
        if line[:1] in ("", "#") or len(line) > MAX_LINE or not wanted(line):
            continue
        found = _SAMPLE.fullmatch(line)
        if found is None:
            continue
        name, labels, text = found.groups()
        try:
            value = float(text)
        except ValueError:
            continue
        pairs = _LABEL.findall(labels) if labels else ()
        yield name, {key: _plain(said) for key, said in pairs}, value


def _plain(said: str) -> str:
    return _ESCAPE.sub(_unescaped, said) if "\\" in said else said


def _unescaped(found: re.Match[str]) -> str:
    return "\n" if found[1] == "n" else found[1]


#: Values by name and stage: one for each model, engine or rank that counts requests of its own.
Page = dict[tuple[str, str], list[float]]


def read(page: str) -> Page:
    """Return what the engines' names have on ``page``. A sum of the values counts each request once."""
    found: dict[tuple[str, str], dict[tuple[tuple[str, str], ...], float]] = {}
    for name, labels, value in samples(page, _known):
        # SGLang tells each priority's share beside the whole, which has none.
        if not math.isfinite(value) or labels.pop("priority", ""):
            continue
        stage = labels.pop("stage", "")
        for rank in _COPIES:
            labels.pop(rank, None)
        groups = found.setdefault((name, stage), {})
        key = tuple(sorted(labels.items()))
        groups[key] = max(value, groups.get(key, value))
    return {name: list(groups.values()) for name, groups in found.items()}


def _known(line: str) -> bool:
    # Most of a page are the buckets of histograms.
    return line.startswith(_PREFIXES) and "_bucket{" not in line


class Reader:
    """Reads one engine's pages, one after the other. ``clock``: Unix seconds."""

    def __init__(self, clock: Callable[[], float] = time) -> None:
        self._clock = clock
        self._names: Names | None = None
        self._before: deque[tuple[float, dict[str, float]]] = deque()

    def read(self, text: str) -> Load | None:
        """Return what ``text`` says; ``None`` if it is of no engine that is known."""
        page = read(text)
        names = next((n for n in KINDS.values() if any((x, "") in page for x in n.running + n.waiting)), None)
        if names is None:
            return None
        now = self._clock()
        counters = _counters(names, page)
        first = self._earlier(names, counters, now)
        return Load(
            at=now,
            running=_of(page, names.running, sum),
            waiting=_of(page, names.waiting, sum),
            kv_usage=_share(_of(page, names.kv_usage, _mean)),
            cached_share=_cached(names, page, first, counters),
            **{phase: _ratio(first, counters, phase, f"{phase} count") for phase in PHASES},
        )

    def _earlier(self, names: Names, counters: dict[str, float], now: float) -> dict[str, float]:
        """Return the counters that these are to be compared with, and keep these."""
        before = self._before
        while before and now - before[0][0] > WINDOW:
            before.popleft()
        if names is not self._names or (before and _fell(before[-1][1], counters)):
            before.clear()
            self._names = names
        before.append((now, counters))
        return before[0][1]

    def __repr__(self) -> str:
        return f"<Reader {len(self._before)} pages>"


def _counters(names: Names, page: Page) -> dict[str, float]:
    """Return the counters that ``page`` has, by our names."""
    found: dict[str, float | None] = {"hits": _counter(page, names.hits)}
    for parts in names.asked:
        summed = [_counter(page, (part,)) for part in parts]
        if None not in summed:
            found["asked"] = math.fsum([value for value in summed if value is not None])
            break
    for phase in PHASES:
        name, stage = getattr(names, phase) or ("", "")
        for key, suffix in ((phase, "_sum"), (f"{phase} count", "_count")):
            values = page.get((name + suffix, stage))
            found[key] = sum(values) if values is not None else None
    return {key: value for key, value in found.items() if value is not None}


def _counter(page: Page, names: tuple[str, ...]) -> float | None:
    # Prometheus's Python client writes the suffix, older ones and other languages' do not.
    return _of(page, tuple(full for name in names for full in (f"{name}_total", name)), sum)


def _of(page: Page, names: tuple[str, ...], total: Callable[[list[float]], float]) -> float | None:
    """Return the total of the first of ``names`` that ``page`` has."""
    return next((total(page[name, ""]) for name in names if (name, "") in page), None)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _share(value: float | None) -> float | None:
    # vLLM says -1 of what it does not know.
    return None if value is None or value < 0 else min(1.0, value)


def _fell(before: dict[str, float], now: dict[str, float]) -> bool:
    return any(now.get(name, 0.0) < value for name, value in before.items())


def _ratio(before: dict[str, float], now: dict[str, float], part: str, whole: str) -> float | None:
    """Return by how much ``part`` grew for each one that ``whole`` did."""
    if part not in now or whole not in now:
        return None
    grown = now[whole] - before.get(whole, 0.0)
    return (now[part] - before.get(part, 0.0)) / grown if grown > 0 else None


def _cached(names: Names, page: Page, before: dict[str, float], now: dict[str, float]) -> float | None:
    if "hits" in now and "asked" in now:
        return _share(_ratio(before, now, "hits", "asked"))
    return _share(_of(page, names.cached_share, _mean))
