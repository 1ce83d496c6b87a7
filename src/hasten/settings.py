"""The settings: frozen structs, one a section, with their defaults and bounds.

``config.py`` fills them from a file and the environment. Unknown keys are refused.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from hasten.anatomy import Stage
from hasten.secrets import KeyHash as KeyHash
from hasten.secrets import Secret as Secret

Positive = Annotated[float, msgspec.Meta(gt=0)]
Amount = Annotated[float, msgspec.Meta(ge=0)]
Count = Annotated[int, msgspec.Meta(ge=1)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]*$", max_length=128)]
Tag = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$", max_length=64)]

PATTERN_CHARS = 1000  # of a text that a route looks at: what a pattern's time is bounded for


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of all parts of the settings."""


class Server(Section, frozen=True):
    """Where and how to listen. Sizes in bytes, times in seconds."""

    host: str = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 8400
    workers: Annotated[int, msgspec.Meta(ge=1, le=256)] = 1
    keys: tuple[KeyHash, ...] = ()
    admin_keys: tuple[KeyHash, ...] = ()
    max_body_bytes: Count = 32 * 1024 * 1024
    max_header_bytes: Count = 64 * 1024
    max_depth: Annotated[int, msgspec.Meta(ge=4, le=512)] = 64
    request_timeout: Positive = 30.0
    keep_alive: Positive = 75.0
    write_timeout: Positive = 60.0
    drain_delay: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    drain_timeout: Positive = 30.0


class Timeouts(Section, frozen=True):
    """Limits of a call to an engine, seconds."""

    connect: Positive = 5.0
    first_byte: Positive = 300.0
    idle: Positive = 60.0


class Tls(Section, frozen=True):
    """How an engine's certificate is checked."""

    verify: bool = True
    ca: str | None = None


class OpenAIEngine(Section, frozen=True, tag_field="kind", tag="openai"):
    """Any server that speaks OpenAI's API. ``base_url`` ends where ``/chat/completions`` begins.

    ``metrics``: the address of its page for Prometheus; true: ``/metrics`` beside ``base_url``; false: none is asked.
    ``stream_usage``: whether it is to count the tokens of all streams, or where the client asks.
    """

    base_url: str
    model: str | None = None
    api_key: Secret | None = None
    headers: dict[str, Secret] = {}
    timeouts: Timeouts = Timeouts()
    tls: Tls = Tls()
    max_connections: Count = 4096
    client: Literal["hasten", "httpx"] = "hasten"
    proxy: str | None = None
    http2: bool = False
    metrics: bool | str = False
    stream_usage: Literal["always", "as_asked"] = "always"


class LlamaEngine(Section, frozen=True, tag_field="kind", tag="llama"):
    """llama.cpp's server as a child process. ``model``: a catalogue name, a path, or ``hf:owner/repo/file``."""

    model: str = "smollm2-135m"
    slots: Annotated[int, msgspec.Meta(ge=1, le=256)] = 4
    context: Annotated[int, msgspec.Meta(ge=256)] = 2048
    threads: Annotated[int, msgspec.Meta(ge=0)] = 0
    gpu_layers: int = -1
    embeddings: bool = False
    precision: Literal["auto", "stored", "half"] = "auto"
    timeouts: Timeouts = Timeouts()
    start_timeout: Positive = 120.0


EngineSettings = OpenAIEngine | LlamaEngine


class Price(Section, frozen=True):
    """What a million tokens cost, in one currency for all models.

    ``cached_input``: those of the prompt that the engine took from its cache; ``None``: as others.
    """

    input: Amount = 0.0
    output: Amount = 0.0
    cached_input: Amount | None = None


class Hold(Section, frozen=True):
    """What routing holds, exactly one of these.

    ``strong_share``: the share of requests for the strongest tier. ``quality``: the expected share of answers that
    are as good as the strongest tier's. ``cost``: the mean of a request, in the prices' currency. ``ttft_ms``,
    ``e2e_ms``: the mean time to first token, and to the end.
    """

    strong_share: Share | None = None
    quality: Share | None = None
    cost: Positive | None = None
    ttft_ms: Positive | None = None
    e2e_ms: Positive | None = None


class Learn(Section, frozen=True):
    """Whether judgements of the weakest tier's answers correct the router's score.

    ``share``: how much of the correction is applied; 0: nothing is learnt. ``path``: the file that keeps what was
    learnt; without one it is forgotten when the gateway ends.
    """

    share: Share = 0.0
    path: str | None = None


class Cascade(Section, frozen=True):
    """The weak tier answers first and the strong one only where that falls short.

    ``hold_tokens``: of a stream, how many are judged before the client sees any; 0: all of it. ``limit``: the learned
    check raises answers whose probability to be wrong is above it; 1: none. ``logprobs``: ask the weak tier for the
    log-probabilities of its tokens. ``perplexity``: answers above it are raised; ``min_logprob``: those with a token
    below it (natural logarithm); both where log-probabilities are known. ``speculative``: both tiers start at once.
    """

    hold_tokens: Annotated[int, msgspec.Meta(ge=0, le=100_000)] = 24
    limit: Share = 0.5
    logprobs: bool = False
    perplexity: Annotated[float, msgspec.Meta(ge=1)] = 3.0
    min_logprob: Annotated[float, msgspec.Meta(le=0)] | None = None
    speculative: bool = False


class Routing(Section, frozen=True):
    """How a name with tiers chooses among them.

    ``share``: of the traffic, how much is routed (a dial). ``holdback``: how much always goes to the strongest tier,
    to compare. ``sticky``: seconds that a conversation's tier is remembered; 0: it is not. ``router``: the folder of a
    router of one's own, in place of the shipped one. ``cascade``: whether a weak tier's answer is judged, and how.
    """

    hold: Hold = Hold(strong_share=0.5)
    share: Share = 1.0
    holdback: Share = 0.01
    sticky: Annotated[float, msgspec.Meta(ge=0)] = 3600.0
    router: str | None = None
    learn: Learn = Learn()
    cascade: Cascade | bool = False


class Model(Section, frozen=True):
    """A name that clients may ask for: served by ``engines``, or routed to one of ``tiers``.

    ``tiers``: names of other models, the weakest first. What a model cannot do keeps requests that need it away when
    they are routed: ``context`` (tokens, prompt and answer), ``tools``, ``images``, ``json_mode``. ``tags``: what a
    request may demand of it, such as where it runs.
    """

    engines: tuple[str, ...] = ()
    balance: Literal["least_loaded", "round_robin"] = "least_loaded"
    fallback: tuple[str, ...] = ()
    tiers: tuple[str, ...] = ()
    route: Routing = Routing()
    context: Count | None = None
    tools: bool = True
    images: bool = True
    json_mode: bool = True
    tags: tuple[Name, ...] = ()
    price: Price | None = None


class Circuit(Section, frozen=True):
    """When a failing engine is left alone, and for how long (seconds)."""

    failures: Count = 5
    open: Positive = 1.0
    open_max: Positive = 30.0


class Log(Section, frozen=True):
    """The request log.

    ``path``: a file or, of ``parquet``, a folder; by default standard output. ``prompts``: also log both texts.
    ``redact``: ``package.module:function`` that sees each record first. ``hash_key``: makes the hashes that tell which
    prompts begin alike. ``file_seconds``: how long a Parquet file stays open.
    """

    access: bool = True
    format: Literal["jsonl", "parquet"] = "jsonl"
    path: str | None = None
    prompts: bool = False
    redact: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_][\w.]*$")] | None = None
    hash_key: Secret | None = None
    file_seconds: Positive = 300.0
    max_pending: Count = 10_000
    max_pending_bytes: Annotated[int, msgspec.Meta(ge=65536)] = 64 * 1024 * 1024


class Semantic(Section, frozen=True):
    """Answers to other wordings of a question.

    ``false_hit_bound``: the share of wrong answers among those served that may not be passed. ``share``: of the
    eligible traffic, how much may be served so (a dial). ``holdback``: how much always goes to the model, to
    compare. ``max_chars``: longer texts are not looked up. ``timeout``: seconds that a look-up may take.
    ``thread_share``: of the models' thread's
    time, how much look-ups may take when not all can be made.
    """

    false_hit_bound: Annotated[float, msgspec.Meta(gt=0, le=0.5)] = 0.01
    share: Share = 1.0
    holdback: Share = 0.01
    max_chars: Count = 400
    timeout: Positive = 0.25
    thread_share: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1.0


class Redis(Section, frozen=True):
    """A Redis server with vector sets (8.0 or newer). ``url``: ``redis://[user:password@]host[:port][/db]``."""

    url: Secret = Secret("redis://127.0.0.1:6379/0")
    prefix: Name = "hasten"


class Cache(Section, frozen=True):
    """What is answered without an engine, and where answers are kept. Sizes in bytes, times in seconds.

    ``stale``: for how long after ``ttl`` an answer may be served while it is renewed. ``sampled``: whether requests
    with a temperature other than 0 are cached. ``tool_calls``: whether answers that call tools are. ``ignore``:
    top-level fields that do not change the answer, such as ``user``. ``path``: the disk store's file.
    ``encryption_key``: 32 bytes in base64; entries are encrypted at rest. ``store_timeout``: how long a request waits
    for the store.
    """

    store: Literal["memory", "disk", "redis"] = "memory"
    exact: bool = True
    semantic: Semantic | bool = True
    coalesce: bool = True
    max_bytes: Annotated[int, msgspec.Meta(ge=65536)] = 256 * 1024 * 1024
    max_entry_bytes: Count = 4 * 1024 * 1024
    ttl: Positive = 86400.0
    stale: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    sampled: bool = True
    tool_calls: bool = False
    ignore: tuple[Name, ...] = ()
    path: str | None = None
    redis: Redis = Redis()
    encryption_key: Secret | None = None
    store_timeout: Positive = 0.01


class Tenant(Section, frozen=True):
    """Who asks: clients with one of ``keys``. Tenants share cached answers only within one ``cache_group``.

    ``require``: tags that a model must have to be chosen for them when a request is routed.
    """

    keys: Annotated[tuple[KeyHash, ...], msgspec.Meta(min_length=1)]
    cache_group: Name | None = None
    require: tuple[Name, ...] = ()


class RouteCache(Section, frozen=True):
    """What a named route says of caching, in place of what the client does not say. ``ttl`` in seconds."""

    policy: Literal["bypass", "refresh", "exact"] | None = None
    ttl: Count | None = None
    tags: Annotated[tuple[Tag, ...], msgspec.Meta(max_length=16)] = ()


class Route(Section, frozen=True):
    """Which chats are led another way, and what is done with them.

    The chat must be asked of one of ``models`` by one of ``tenants`` (empty: any), and its last user text found by one
    of ``patterns`` or at least ``threshold`` near (cosine) to one of ``examples``. Then ``to`` is asked instead of the
    model, ``system`` is put before the messages, ``cache`` holds. ``timeout``: seconds that the examples may take.
    """

    models: tuple[Name, ...] = ()
    tenants: tuple[Name, ...] = ()
    patterns: tuple[Annotated[str, msgspec.Meta(min_length=1, max_length=500)], ...] = ()
    examples: tuple[Annotated[str, msgspec.Meta(min_length=1, max_length=PATTERN_CHARS)], ...] = ()
    threshold: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.65
    timeout: Positive = 0.05
    to: Name | None = None
    system: Annotated[str, msgspec.Meta(min_length=1)] | None = None
    system_mode: Literal["if_missing", "prepend", "replace"] = "if_missing"
    cache: RouteCache = RouteCache()


class Objectives(Section, frozen=True):
    """What is promised of requests. ``x_p95_ms: 200``: 95% take at most 200 milliseconds; ``errors``: the share that
    may fail."""

    ttft_p95_ms: Positive | None = None
    ttft_p99_ms: Positive | None = None
    tpot_p95_ms: Positive | None = None
    tpot_p99_ms: Positive | None = None
    e2e_p95_ms: Positive | None = None
    e2e_p99_ms: Positive | None = None
    errors: Annotated[float, msgspec.Meta(gt=0, lt=1)] | None = None


class Slo(Objectives, frozen=True):
    """The objectives of all requests, and others for a model's or a tenant's. ``webhook``: who is told of alerts.

    ``budget_ms``: what each stage may take, milliseconds.
    """

    budget_ms: dict[Stage, Positive] = {}
    models: dict[Name, Objectives] = {}
    tenants: dict[Name, Objectives] = {}
    webhook: Secret | None = None


class Otel(Section, frozen=True):
    """Spans for an OpenTelemetry collector (OTLP over HTTP). ``None``: as ``OTEL_*`` in the environment says.

    ``endpoint``: without ``/v1/traces``. ``sample``: the share recorded where the client did not decide.
    ``max_pending``: requests that may wait for the collector. ``attributes``: of the resource.
    """

    endpoint: str | None = None
    headers: dict[str, Secret] = {}
    service_name: str | None = None
    sample: Share = 1.0
    max_pending: Count = 10_000
    attributes: dict[str, str] = {}


class Settings(Section, frozen=True):
    """The whole configuration."""

    server: Server = Server()
    engines: dict[Name, EngineSettings] = {}
    models: dict[Name, Model] = {}
    circuit: Circuit = Circuit()
    tenants: dict[Name, Tenant] = {}
    routes: dict[Name, Route] = {}
    cache: Cache = Cache()
    log: Log = Log()
    slo: Slo = Slo()
    otel: Otel | None = None
