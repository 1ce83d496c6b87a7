"""What only shows between the sections of the settings: names that are not defined, keys that exclude each other."""

from __future__ import annotations

import importlib.util
import ipaddress
import re
from base64 import b64decode
from collections.abc import Callable
from importlib.util import find_spec
from itertools import pairwise
from os.path import exists, isdir, isfile  # which raise nothing, unlike those of Path
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from hasten import patterns
from hasten import settings as s
from hasten.hooks import hook

#: Fields without which a key would say nothing of the answer.
_DECISIVE = ("messages", "prompt", "input", "model", "tools", "system")
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
#: Where names of another table stand: the table, a key of its entries, and the table that defines them.
_NAMES = (
    ("models", "engines", "engines"),
    ("models", "fallback", "models"),
    ("models", "tiers", "models"),
    ("routes", "models", "models"),
    ("routes", "tenants", "tenants"),
    ("routes", "to", "models"),
)
_OURS = ("host", "content-length", "content-type", "transfer-encoding", "connection")

#: Takes a problem: the key's path, and what is wrong.
Problem = Callable[[tuple[str, ...], str], None]


class Checks:
    """``tree``: what was given, as plain values: a name whose entry has problems still counts as defined."""

    def __init__(self, settings: s.Settings, tree: dict[str, Any], problem: Problem) -> None:
        self._settings = settings
        self._tree = tree
        self._problem = problem

    def _names(self, table: str) -> dict[str, Any]:
        given = self._tree.get(table)
        return given if isinstance(given, dict) else {}

    def run(self) -> None:
        """Report all that is wrong."""
        settings = self._settings
        self._check_names()
        self._check_models()
        for name, engine in settings.engines.items():
            if isinstance(engine, s.OpenAIEngine):
                self._check_openai(("engines", name), engine)
        self._check_log(settings.log)
        self._check_cache(settings.cache)
        self._check_tenants(settings)
        for name, route in settings.routes.items():
            self._check_route(("routes", name), route)
        self._check_slo(settings.slo)
        if settings.otel is not None:
            self._check_otel(settings.otel)
        given = self._tree.get("server")
        keys = isinstance(given, dict) and (given.get("keys") or given.get("admin_keys"))
        if not keys and not self._names("tenants") and not _is_loopback(settings.server.host):
            self._problem(
                ("server", "keys"),
                f"needed when server.host ({settings.server.host}) is not a loopback address",
            )

    def _check_names(self) -> None:
        """Names that are not defined, wherever they stand: an entry with another problem is no reason to wait."""
        for table, key, of in _NAMES:
            for owner, entry in self._names(table).items():
                given = entry.get(key) if isinstance(entry, dict) else None
                known = [name for name in self._names(of) if (table, name) != (of, owner)]
                for i, name in enumerate(given if isinstance(given, list | tuple) else ()):
                    if isinstance(name, str) and name not in known:
                        self._unknown_name((table, owner, key, str(i)), name, known)
                if isinstance(given, str) and key == "to" and given not in known:
                    self._unknown_name((table, owner, key), given, known)
        slo = self._names("slo")
        for table in ("models", "tenants"):
            named = slo.get(table)
            for name in named if isinstance(named, dict) else ():
                if name not in self._names(table):
                    self._unknown_name(("slo", table, name), name, self._names(table))

    def _check_models(self) -> None:
        models = self._names("models")
        if not models and not isinstance(self._tree.get("models"), str | list | int):
            self._problem(("models",), "at least one model is needed: a name and the engines that serve it")
        for name, model in self._settings.models.items():
            path = ("models", name)
            if bool(model.engines) == bool(model.tiers):
                self._problem(
                    (*path, "engines"), "needs engines that serve it, or tiers to choose from: one of the two"
                )
            for key, others in (("fallback", model.fallback), ("tiers", model.tiers)):
                for i, other in enumerate(others):
                    known = self._settings.models.get(other) if other != name else None
                    if known is not None and known.tiers:
                        self._problem(
                            (*path, key, str(i)), f"{other!r} has tiers itself; name a model with engines"
                        )
            self._check_routing(path, model)
            price = model.price
            if price is not None and price.cached_input is not None and price.cached_input > price.input:
                self._problem(
                    (*path, "price", "cached_input"),
                    f"expected from 0 to at most price.input ({price.input:g}), not {price.cached_input:g}:"
                    " tokens from the engine's cache cost no more than others",
                )

    def _check_routing(self, path: tuple[str, ...], model: s.Model) -> None:
        if not model.tiers:
            if model.route != s.Routing():
                self._problem((*path, "route"), "needs tiers to choose from")
            return
        if len(model.tiers) < 2 or len(set(model.tiers)) < len(model.tiers):
            self._problem((*path, "tiers"), "expected two or more different models, the weakest first")
        if model.fallback:
            self._problem((*path, "fallback"), "the tiers are each other's; give a tier its own instead")
        self._check_files((*path, "route"), model.route)
        hold = model.route.hold
        held = [f.name for f in msgspec.structs.fields(hold) if getattr(hold, f.name) is not None]
        if len(held) != 1:
            allowed = ", ".join(f.name for f in msgspec.structs.fields(hold))
            self._problem((*path, "route", "hold"), f"expected exactly one of {allowed}")
        elif held == ["cost"]:
            for tier in model.tiers:
                known = self._settings.models.get(tier)
                if known is not None and known.price is None:
                    self._problem((*path, "route", "hold", "cost"), f"needs the price of {tier!r}")

    def _check_files(self, path: tuple[str, ...], routing: s.Routing) -> None:
        if routing.router is not None and not isfile(Path(routing.router).expanduser() / "router.json"):
            self._problem((*path, "router"), f"there is no router in a folder {routing.router}")
        kept = routing.learn.path
        if kept is None:
            return
        if not isdir(Path(kept).expanduser().parent):
            self._problem((*path, "learn", "path"), f"there is no folder {Path(kept).parent}")
        if sum(model.route.learn.path == kept for model in self._settings.models.values()) > 1:
            self._problem((*path, "learn", "path"), "each model needs a file of its own")

    def _check_log(self, log: s.Log) -> None:
        folder = Path(log.path).parent if log.path is not None else None
        if folder is not None and not isdir(folder):
            self._problem(("log", "path"), f"there is no folder {folder}")
        if log.path is not None and log.format == "jsonl" and isdir(log.path):
            self._problem(("log", "path"), f"{log.path} is a folder: format: jsonl writes one file")
        if log.format == "parquet":
            if log.path is None:
                self._problem(("log", "path"), "needed with format: parquet: the folder for its files")
            elif exists(log.path) and not isdir(log.path):
                self._problem(
                    ("log", "path"), f"{log.path} is no folder: format: parquet writes several files"
                )
            if find_spec("pyarrow") is None:
                self._problem(("log", "format"), "pyarrow is not installed: pip install 'hasten[parquet]'")
        if log.redact is not None:
            try:
                hook(log.redact)
            except ValueError as exc:
                self._problem(("log", "redact"), str(exc))

    def _check_cache(self, cache: s.Cache) -> None:
        if cache.store == "disk" and cache.path is None:
            self._problem(("cache", "path"), "needed with store: disk: the file to keep answers in")
        if cache.encryption_key is not None and cache.store == "memory":
            self._problem(("cache", "encryption_key"), "needs store: disk or redis; memory is not encrypted")
        if cache.path is not None and not isdir(Path(cache.path).expanduser().parent):
            self._problem(("cache", "path"), f"there is no folder {Path(cache.path).parent}")
        for i, name in enumerate(cache.ignore):
            if name in _DECISIVE:
                self._problem(("cache", "ignore", str(i)), f"{name} decides the answer and cannot be ignored")
        if cache.encryption_key is not None:
            try:
                good = len(b64decode(cache.encryption_key.reveal(), validate=True)) == 32
            except ValueError:
                good = False
            if not good:
                self._problem(
                    ("cache", "encryption_key"), "expected 32 bytes in base64 (openssl rand -base64 32)"
                )
        url = urlsplit(cache.redis.url.reveal())
        if url.scheme not in ("redis", "rediss", "unix"):
            self._problem(("cache", "redis", "url"), "expected redis://, rediss:// or unix://")

    def _check_tenants(self, settings: s.Settings) -> None:
        """A key must say of one tenant alone who is asking."""
        seen = {key.digest: "server.keys" for key in settings.server.keys}
        seen.update({key.digest: "server.admin_keys" for key in settings.server.admin_keys})
        if "admin" in settings.tenants:
            self._problem(("tenants", "admin"), "this name is that of server.admin_keys")
        for name, tenant in settings.tenants.items():
            for i, key in enumerate(tenant.keys):
                other = seen.setdefault(key.digest, f"tenants.{name}")
                if other != f"tenants.{name}":
                    self._problem(("tenants", name, "keys", str(i)), f"the same key is in {other}")

    def _check_route(self, path: tuple[str, ...], route: s.Route) -> None:
        if not route.patterns and not route.examples:
            self._problem((*path, "patterns"), "needs patterns, examples or both: what is it for?")
        for i, pattern in enumerate(route.patterns):
            if (wrong := patterns.problem_of(pattern)) is not None:
                self._problem((*path, "patterns", str(i)), wrong)
        if route.system is None and route.system_mode != s.Route().system_mode:
            self._problem((*path, "system_mode"), "needs system: the text to put before the messages")

    def _check_slo(self, slo: s.Slo) -> None:
        if slo.webhook is not None and not _is_address(slo.webhook.reveal()):
            self._problem(("slo", "webhook"), "expected http://host[:port]/path or https://, without a user")

    def _check_otel(self, otel: s.Otel) -> None:
        if otel.endpoint is not None:
            self._check_url(("otel", "endpoint"), otel.endpoint, "http://host[:port]", "headers")
            if otel.endpoint.rstrip("/").endswith("/v1/traces"):
                self._problem(("otel", "endpoint"), "leave out /v1/traces, which is appended")
        for header, value in otel.headers.items():
            self._check_header(("otel", "headers", header), header, value.reveal())
        if "service.name" in otel.attributes:
            self._problem(("otel", "attributes", "service.name"), "use service_name")
        if not _installed("opentelemetry.exporter.otlp.proto.http"):
            self._problem(("otel",), "OpenTelemetry is not installed: pip install 'hasten[otel]'")

    def _check_url(self, path: tuple[str, ...], given: str, form: str, instead: str) -> None:
        try:
            url = urlsplit(given)
            good = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
        except ValueError:
            good = False
        if not good or not given.isascii() or any(c <= " " for c in given):
            self._problem(path, f"expected {form} or {form.replace('http', 'https', 1)}")
        elif url.username or url.query or url.fragment:
            self._problem(path, f"must have no user, query or fragment; use {instead}")

    def _check_header(self, path: tuple[str, ...], header: str, plain: str) -> None:
        if any(c in plain for c in "\r\n\0") or not plain.isascii() or not _HEADER.fullmatch(header):
            self._problem(path, "header names and values must be one line of ASCII")
        elif header.lower() in _OURS:
            self._problem(path, f"not allowed: {', '.join(_OURS)} are the gateway's own")

    def _unknown_name(self, path: tuple[str, ...], name: str, known: Any) -> None:
        self._problem(path, f"{name!r} is not defined; there are: {', '.join(known) or 'none'}")

    def _check_openai(self, path: tuple[str, ...], engine: s.OpenAIEngine) -> None:
        self._check_url((*path, "base_url"), engine.base_url, "http://host[:port]/v1", "api_key or headers")
        if engine.client == "hasten" and (engine.proxy or engine.http2):
            key = "proxy" if engine.proxy else "http2"
            self._problem((*path, key), "needs client: httpx")
        if isinstance(engine.metrics, str) and not _is_address(engine.metrics):
            self._problem(
                (*path, "metrics"), "expected true, false or a URL such as http://host:port/metrics"
            )
        if engine.tls.ca and not isfile(engine.tls.ca):
            self._problem((*path, "tls", "ca"), f"no such file: {engine.tls.ca}")
        for header, value in {**engine.headers, "api_key": engine.api_key}.items():
            self._check_header((*path, "headers", header), header, value.reveal() if value else "")


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # not even what it is in
        return False


def warnings(settings: s.Settings) -> list[str]:
    """Return what is valid but hardly meant."""
    found = []
    for name, model in settings.models.items():
        for weak, strong in pairwise(model.tiers):
            lower, upper = settings.models[weak].price, settings.models[strong].price
            if lower is None or upper is None or lower == upper:
                continue
            if upper.input <= lower.input and upper.output <= lower.output:
                found.append(
                    f"models.{name}.tiers: {strong} costs less than {weak}, but the weakest stands first"
                )
    for name, route in settings.routes.items():
        ttl = route.cache.ttl
        if ttl is not None and ttl > settings.cache.ttl:
            found.append(
                f"routes.{name}.cache.ttl: {ttl} has no effect above cache.ttl ({settings.cache.ttl:g})"
            )
    return found


def _is_address(text: str) -> bool:
    """Whether ``text`` is the URL of a page, without a user."""
    try:
        url = urlsplit(text)
        good = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        return False
    return good and not url.username and all(" " < c <= "~" for c in text)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
