"""``hasten check``: say what is wrong with a configuration."""

from __future__ import annotations

import argparse
from os.path import isfile
from pathlib import Path

import msgspec

from hasten import config
from hasten.checks import warnings
from hasten.engines import weights
from hasten.errors import HastenError, SettingsError
from hasten.measure.sinks import try_sink
from hasten.route.complexity import Complexity
from hasten.settings import (
    Cache,
    Cascade,
    LlamaEngine,
    Log,
    Model,
    Objectives,
    Otel,
    RouteCache,
    Section,
    Semantic,
    Settings,
    Slo,
)


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser("check", help="say what is wrong with a configuration")
    parser.add_argument("config", help="a YAML file")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print what the file configures; problems are raised as :class:`~hasten.errors.SettingsError`."""
    settings = config.load(args.config)
    wrong = []
    for name, engine in settings.engines.items():
        if isinstance(engine, LlamaEngine):
            try:
                if not weights.is_path(engine.model):
                    weights.sources(engine.model)
                elif not isfile(Path(engine.model).expanduser()):
                    wrong.append(f"engines.{name}.model: there is no file {engine.model}")
            except HastenError as exc:
                wrong.append(f"engines.{name}.model: {exc.message}")
    for name, model in settings.models.items():
        if model.route.router is not None:
            try:
                Complexity(Path(model.route.router).expanduser())
            except HastenError as exc:
                wrong.append(f"models.{name}.route.router: {exc}")
    if settings.log.access:
        try:
            try_sink(settings.log)
        except SettingsError as exc:
            wrong += exc.problems
    if wrong:
        raise SettingsError(wrong, args.config)
    print(f"{args.config}: good")
    for line in summary(settings):
        print(f"  {line}")
    for warning in warnings(settings):
        print(f"warning: {warning}")
    return 0


def summary(settings: Settings) -> list[str]:
    """Return what is configured, a line each."""
    server = settings.server
    count = len(server.keys) + len(server.admin_keys) + sum(len(t.keys) for t in settings.tenants.values())
    keys = f"{count} keys" if count else "open"
    lines = [f"server: {server.host}:{server.port}, {keys}, {server.workers} worker(s)"]
    for name, tenant in settings.tenants.items():
        group = f", cache group {tenant.cache_group}" if tenant.cache_group is not None else ""
        require = f", requires {', '.join(tenant.require)}" if tenant.require else ""
        lines.append(f"tenant {name}: {len(tenant.keys)} key(s){group}{require}")
    for name, engine in settings.engines.items():
        where = f"llama.cpp, {engine.model}" if isinstance(engine, LlamaEngine) else engine.base_url
        lines.append(f"engine {name}: {where}")
    lines += [f"model {name}: {_model(model)}" for name, model in settings.models.items()]
    for name, route in settings.routes.items():
        to = f" to {route.to}" if route.to is not None else ""
        cache = f"; cache {_given(route.cache)}" if route.cache != RouteCache() else ""
        lines.append(
            f"route {name}: {len(route.patterns)} pattern(s), {len(route.examples)} example(s){to}{cache}"
        )
    return [
        *lines,
        f"prices: {_prices(settings.models) or 'none'}",
        f"cache: {_cache(settings.cache)}",
        f"slo: {_slo(settings.slo) or 'none'}",
        f"log: {_log(settings.log)}",
        f"otel: {'off' if settings.otel is None else _otel(settings.otel)}",
    ]


def _model(model: Model) -> str:
    if not model.tiers:
        after = f", else {', '.join(model.fallback)}" if model.fallback else ""
        return f"{', '.join(model.engines)} ({model.balance}){after}"
    given = model.route.cascade
    cascade = Cascade() if given is True else given
    more = ""
    if isinstance(cascade, Cascade):
        hold = f"{cascade.hold_tokens} tokens" if cascade.hold_tokens else "the whole"
        more = f"; cascade, holds {hold}{', speculative' * cascade.speculative}"
    if model.route.learn.share:
        more += f"; learns, share {model.route.learn.share:g}"
    return f"one of {', '.join(model.tiers)} (holds {_given(model.route.hold)}){more}"


def _cache(cache: Cache) -> str:
    parts = [name for name in ("exact", "coalesce") if getattr(cache, name)]
    semantic = Semantic() if cache.semantic is True else cache.semantic
    if isinstance(semantic, Semantic):
        parts.append(f"semantic (false hits to {100 * semantic.false_hit_bound:g}%)")
    if not parts:
        return "off"
    stale = f" and {cache.stale:g} s stale" if cache.stale else ""
    return f"{cache.store}, {', '.join(parts)}, {cache.ttl:g} s{stale}"


def _slo(slo: Slo) -> str:
    general = _given(slo, Objectives)
    parts = [general] if general else []
    for table, named in (("model", slo.models), ("tenant", slo.tenants)):
        parts += [f"{table} {name}: {_given(objectives)}" for name, objectives in named.items()]
    if slo.budget_ms:
        parts.append("budget_ms " + " ".join(f"{stage} {ms:g}" for stage, ms in slo.budget_ms.items()))
    if slo.webhook is not None:
        parts.append("webhook")
    return "; ".join(parts)


def _prices(models: dict[str, Model]) -> str:
    priced = [f"{name}: {_given(model.price)}" for name, model in models.items() if model.price is not None]
    without = [name for name, model in models.items() if model.price is None and not model.tiers]
    if priced and without:
        priced.append(f"none of {', '.join(without)}")
    return "; ".join(priced)


def _log(log: Log) -> str:
    if not log.access:
        return "off"
    parts = [f"{log.format} to {log.path or 'standard output'}"]
    if log.prompts:
        parts.append("with texts")
    if log.hash_key is not None:
        parts.append("with hashes")
    if log.redact is not None:
        parts.append(f"redacted by {log.redact}")
    return ", ".join(parts)


def _otel(otel: Otel) -> str:
    to = otel.endpoint or "where OTEL_EXPORTER_OTLP_ENDPOINT says, or http://localhost:4318"
    return f"spans of {100 * otel.sample:g}% of the requests to {to}"


def _given(section: Section, keys_of: type[Section] | None = None) -> str:
    """Return what was given of a section of plain values; ``keys_of``: only the keys that this one has."""
    shown = []
    for field in msgspec.structs.fields(keys_of or section):
        value = getattr(section, field.name)
        if value is not None and value != ():
            text = f"{value:g}" if isinstance(value, float) else value
            shown.append(f"{field.name} {' '.join(text) if isinstance(text, tuple) else text}")
    return ", ".join(shown)
