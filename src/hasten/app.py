"""The composition root: which stages a request passes, in one list, and what they are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from time import time
from typing import Any
from urllib.parse import unquote

import msgspec

from hasten.accept import pages
from hasten.accept.anthropic import AnthropicWire, counting
from hasten.accept.openai import OpenAIWire
from hasten.accept.routes import Head, Route, Router
from hasten.board import Board
from hasten.cache.admin import Admin
from hasten.cache.make import EMBEDDER, make_embedding, make_semantic, make_store
from hasten.cache.orders import Orders
from hasten.cache.report import Report
from hasten.cache.semantic.embedding import Embedding
from hasten.cache.stage import CacheStage
from hasten.dashboard import page as dashboard
from hasten.engines import weights
from hasten.engines.base import Engine
from hasten.engines.dispatch import Dispatch
from hasten.engines.load import Load
from hasten.engines.openai import OpenAIEngine
from hasten.engines.poll import Poller, from_gauges
from hasten.errors import SettingsError, UnknownModel
from hasten.measure import cost, effect, prometheus, totals
from hasten.measure.metrics import Metrics
from hasten.measure.overview import EngineSeen, Overview
from hasten.measure.transcript import Keep
from hasten.route.admin import Admin as RouteAdmin
from hasten.route.book import Book
from hasten.route.complexity import Complexity
from hasten.route.named import NamedStage
from hasten.route.stage import RouteStage
from hasten.settings import LlamaEngine, Settings
from hasten.settings import OpenAIEngine as OpenAISettings
from hasten.types import Handler, Reply, Stage

#: Counts ``amount`` of a metric with labels: (name, labels, amount).
Count = Callable[[str, tuple[str, ...], float], None]


def stages(
    settings: Settings, named: NamedStage | None, cache: CacheStage | None, route: RouteStage | None
) -> list[Stage]:
    """Return the stages between accept and the engines, in the order in which a request meets them."""
    stack: list[Stage] = []
    if settings.log.access and (settings.log.prompts or settings.log.hash_key is not None):
        stack.append(Keep(settings.log))
    stack += [stage for stage in (named, cache, route) if stage is not None]
    # compress and schedule take their places here.
    return stack


def compose(stack: list[Stage], last: Handler) -> Handler:
    """Return one handler: each stage with the next as its ``next``."""
    handler = last
    for stage in reversed(stack):
        handler = partial(stage, next=handler)
    return handler


class App:
    """What one configuration makes: engines, the cache, the handler, the routes. A reload makes a new one.

    ``former``: the one it takes the place of; its cache goes on if its settings are the same, and what it has learnt.
    """

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        is_ready: Callable[[], str | None],
        former: App | None = None,
    ) -> None:
        self.settings = settings
        self.metrics = metrics
        self.engines: dict[str, OpenAIEngine] = make_engines(settings)
        self.dispatch = Dispatch(
            settings.models,
            dict[str, Engine](self.engines),
            settings.circuit,
            on_fallback=lambda engine, reason: metrics.gauge("hasten_fallbacks_total", engine, reason).add(),
        )
        for name, engine in self.engines.items():
            engine.on_refused = metrics.gauge("hasten_stream_usage_refused_total", name).add
        count = counter(metrics)
        self.route = make_route(settings, metrics, self.dispatch, former)  # first: it may refuse its settings
        self.cache = make_cache(settings, metrics, former)
        self.embedding = take_embedding(settings, self.cache, former)
        self.named = make_named(settings, self.cache, self.embedding, count, former)
        self.handler = compose(stages(settings, self.named, self.cache, self.route), self.dispatch)
        self.poller: Poller | None = None
        if metrics.worker == "0":  # one is enough; last, as it takes from the former one
            self.poller = Poller(self.engines, metrics.gauge, former.poller if former is not None else None)
        self.router = make_router(self, is_ready)

    @property
    def loads(self) -> dict[str, Load]:
        """What engines tell of themselves now, by their names; whichever worker asked them."""
        return (
            self.poller.loads
            if self.poller is not None
            else from_gauges(self.metrics.registry.collect(("hasten_engine_",)))
        )

    def move(self, addresses: Mapping[str, str | None]) -> None:
        """Tell managed engines where their processes listen; ``None``: nowhere for now."""
        for name, base_url in addresses.items():
            engine = self.engines.get(name)
            if engine is not None and engine.base_url != base_url:
                engine.move(base_url)

    def addresses(self) -> dict[str, tuple[str | None, str | None]]:
        """Return where each engine is, and its own name of the model, if it has one."""
        return {name: (engine.base_url, engine.model) for name, engine in self.engines.items()}

    def update_gauges(self) -> None:
        """Write what is only known by looking."""
        for name, member in self.dispatch.members.items():
            self.metrics.gauge("hasten_engine_in_flight", name).set(member.engine.inflight)
            self.metrics.gauge("hasten_engine_ready", name).set(float(member.available()))
        if self.poller is not None:
            self.poller.show()
        if self.route is not None:
            for name, tiers in self.route.routed.items():
                self.metrics.gauge("hasten_route_dial", name).set(tiers.dial.level)
                self.metrics.gauge("hasten_route_threshold", name).set(tiers.keepers[-1].threshold)
            self.route.book.listen()
            for name, kept in self.route.book.learners.items():
                self.metrics.gauge("hasten_route_learning", name).set(float(kept.learner.active))
        if self.cache is not None:
            self.cache.listen()
            held = self.cache.store.stats()
            self.metrics.gauge("hasten_cache_entries").set(held.entries or 0)
            self.metrics.gauge("hasten_cache_bytes").set(held.bytes or 0)
            self.metrics.gauge("hasten_cache_evictions_total").set(held.evictions)
            semantic = self.cache.semantic
            self.metrics.gauge("hasten_cache_semantic_share").set(semantic.dial.level if semantic else 0)

    def not_ready(self) -> str | None:
        """Return why no request should come here yet, or ``None``."""
        waiting = [name for name, engine in self.engines.items() if not engine.ready]
        if waiting:
            return f"engines that are not ready: {', '.join(waiting)}"
        if (
            self.cache is not None
            and self.cache.semantic is not None
            and self.cache.semantic.state == "loading"
        ):
            return "the semantic cache's models are being loaded"
        if self.named is not None and self.named.state == "loading":
            return "the routes' examples are being learnt"
        return None

    async def open(self) -> None:
        """Make the cache's store ready; one that fails is passed by until it answers."""
        if self.cache is not None:
            await self.cache.open()

    async def close_cache(self) -> None:
        """Write what the cache's store has not written yet, and release it."""
        if self.cache is not None:
            await self.cache.close()

    def close(self) -> None:
        """Let the engines' connections end with the requests on them; stop learning."""
        if self.route is not None:
            self.route.book.close()
        if self.named is not None:
            self.named.close()
        if self.embedding is not None:
            self.embedding.close()
        if self.poller is not None:
            self.poller.close()
        for engine in self.engines.values():
            engine.close()


def counter(metrics: Metrics) -> Count:
    """Return what stages count by."""
    return lambda name, labels, amount: metrics.gauge(name, *labels).add(amount)


def make_cache(settings: Settings, metrics: Metrics, former: App | None) -> CacheStage | None:
    """Return the cache stage, ``None`` if all of it is off; with the store and models of ``former`` where they fit."""
    given = settings.cache
    if not given.exact and given.semantic is False and not given.coalesce:
        return None
    count, folder, paid = counter(metrics), metrics.folder, metrics.cost.record
    old = former.cache if former is not None else None
    if old is not None and old.settings == given:
        return CacheStage(settings, old.store, old.semantic, count, old.report, old.orders, paid=paid)
    store, report = make_store(given, count), Report()
    find = partial(weights.resolve, EMBEDDER)
    semantic = make_semantic(given, store, report, find, count)
    orders = Orders(store, semantic, report, Board(folder / "orders") if folder is not None else None)
    return CacheStage(settings, store, semantic, count, report, orders, paid=paid)


def take_embedding(settings: Settings, cache: CacheStage | None, former: App | None) -> Embedding | None:
    """Return an embedder of the routes' own, where they have examples and no semantic cache shares its own.

    That of ``former`` if there is one: it is taken away from it.
    """
    if cache is not None and cache.semantic is not None:
        return None
    if not any(route.examples for route in settings.routes.values()):
        return None
    if former is not None and former.embedding is not None:
        taken, former.embedding = former.embedding, None
        return taken
    return make_embedding(partial(weights.resolve, EMBEDDER))


def make_named(
    settings: Settings,
    cache: CacheStage | None,
    embedding: Embedding | None,
    count: Count,
    former: App | None,
) -> NamedStage | None:
    """Return the stage of the named routes, ``None`` if there are none."""
    if not settings.routes:
        return None
    semantic = cache.semantic if cache is not None else None
    embed = semantic.embed if semantic is not None else embedding
    known = former.named.known if former is not None and former.named is not None else None
    return NamedStage(settings, embed, count, known)


def make_route(
    settings: Settings, metrics: Metrics, dispatch: Dispatch, former: App | None
) -> RouteStage | None:
    """Return the route stage, ``None`` if no name has tiers; it goes on with what that of ``former`` has seen."""
    if not any(model.tiers for model in settings.models.values()):
        return None
    old = former.route if former is not None else None
    book = Book(settings, metrics.gauge, metrics.folder, former=old.book if old is not None else None)
    stage = RouteStage(
        settings, Complexity(), dispatch.available, counter(metrics), metrics.folder, book=book
    )
    if old is not None:
        stage.inherit(old)
    return stage


def make_engines(settings: Settings) -> dict[str, OpenAIEngine]:
    """Return an engine for each one configured; managed ones have no address yet."""
    made = {}
    for name, given in settings.engines.items():
        if isinstance(given, LlamaEngine):
            # It counts unasked, in ``timings``, which clients may look for: asked, it moves them to the hidden event.
            http = OpenAISettings(base_url="", timeouts=given.timeouts, metrics=True, stream_usage="as_asked")
            made[name] = OpenAIEngine(name, http, provider="llama.cpp", managed=True)
        elif given.client == "httpx":
            made[name] = httpx_engine(name, given)
        else:
            made[name] = OpenAIEngine(name, given)
    return made


def httpx_engine(name: str, settings: OpenAISettings) -> OpenAIEngine:
    """Return an engine behind the httpx library, which is an extra; raise :class:`SettingsError` without it."""
    try:
        from hasten.engines.httpx_client import HttpxEngine
    except ImportError:
        raise SettingsError(
            [f"engines.{name}.client: httpx is not installed: pip install 'hasten[httpx]'"]
        ) from None
    return HttpxEngine(name, settings)


def add_watch(router: Router, app: App) -> None:
    """Add the pages that show what was measured."""

    def engines() -> list[EngineSeen]:
        loads, now = app.loads, time()
        told = {name: {**msgspec.structs.asdict(load), "age": now - load.at} for name, load in loads.items()}
        members = app.dispatch.members.items()
        return [EngineSeen(name, m.engine.provider, m.state, told.get(name)) for name, m in members]

    def costs(tenant: str | None) -> dict[str, Any]:
        return cost.view(app.metrics.series(*cost.PREFIXES), tenant)

    watch, cached = app.metrics.watch, app.cache is not None
    overview = Overview(watch, app.metrics.series, engines, cached, costs)
    looks = {"latency": watch.latency.view, "slo": watch.slo.view, "cost": costs, "overview": overview.view}
    for path, look in looks.items():
        router.get(f"/admin/{path}", Route("view", page=pages.view(look), admin=True))
    router.get("/admin/requests", Route("view", page=pages.search(watch.exemplars.search), admin=True))
    router.get("/admin/requests/", Route("view", page=pages.item(watch.exemplars.one), admin=True))


def make_router(app: App, is_ready: Callable[[], str | None]) -> Router:
    """Return the routes: hot paths to wire formats, others to pages."""
    router = Router()
    for path, endpoint in (
        ("chat/completions", "chat"),
        ("completions", "completions"),
        ("embeddings", "embeddings"),
    ):
        route = Route(endpoint, wire=OpenAIWire(endpoint))
        router.post(f"/v1/{path}", route)
        router.post(f"/{path}", route)
    messages = AnthropicWire()
    router.post("/v1/messages", Route("messages", wire=messages))
    count = counting(app.settings.models, app.settings.server.max_depth)
    router.post("/v1/messages/count_tokens", Route("count_tokens", wire=messages, page=count))

    if app.cache is not None:
        admin = Admin(app.cache, app.cache.report, lambda: totals.cache(app.metrics.series(*totals.CACHE)))
        router.get("/admin/cache", Route("view", page=pages.view(admin.view), admin=True))
        for action in (admin.invalidate, admin.purge, admin.feedback):
            router.post(f"/admin/cache/{action.__name__}", Route("admin", page=pages.act(action), admin=True))

    if app.route is not None:
        routing = RouteAdmin(app.route, lambda: effect.route(app.metrics.series(effect.PREFIX)))
        router.get("/admin/route", Route("view", page=pages.view(routing.view), admin=True))
        router.post("/admin/route/reset", Route("admin", page=pages.act(routing.reset), admin=True))
        router.post("/v1/feedback", Route("feedback", page=pages.own(routing.feedback)))
    add_watch(router, app)
    names = list(app.settings.models)

    def card(name: str) -> dict[str, object]:
        return {"id": name, "object": "model", "created": 0, "owned_by": "hasten"}

    async def models(head: Head) -> Reply:
        name = unquote(head.path.removeprefix(b"/v1/models").strip(b"/").decode("utf-8", "replace"))
        if name and name not in names:
            raise UnknownModel(f"there is no model {name[:100]!r}; there are: {', '.join(names)}")
        found = card(name) if name else {"object": "list", "data": [card(n) for n in names]}
        return Reply(body=msgspec.json.encode(found))

    async def health(head: Head) -> Reply:
        return Reply(body=b'{"status":"ok"}')

    async def ready(head: Head) -> Reply:
        why = is_ready()
        if why is None:
            return Reply(body=b'{"status":"ready"}')
        return Reply(503, msgspec.json.encode({"status": "not ready", "why": why}))

    async def metrics(head: Head) -> Reply:
        return Reply(body=app.metrics.page(head.caller.admin), content_type=prometheus.CONTENT_TYPE)

    for path in ("/v1/models", "/v1/models/", "/models"):
        router.get(path, Route("models", page=models))
    router.get("/health", Route("health", page=health, protected=False))
    router.get("/ready", Route("ready", page=ready, protected=False))
    router.get("/metrics", Route("metrics", page=metrics, protected=False))
    for path, reply in dashboard.all_pages().items():  # without a key: what they show is behind one
        router.get(path, Route("dashboard", page=pages.fixed(reply), protected=False))
    return router
