"""From the settings to a store, a semantic cache and the stage that uses them."""

from __future__ import annotations

import importlib.util
import logging
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path

from hasten.cache.report import Report
from hasten.cache.semantic import calibration
from hasten.cache.semantic.embedding import Embedding
from hasten.cache.semantic.policy import Count, Embed, Models, SemanticCache
from hasten.cache.store.base import Ready, Store
from hasten.cache.store.memory import MemoryStore
from hasten.errors import SettingsError
from hasten.settings import Cache, Semantic, Settings

log = logging.getLogger("hasten.cache")
EMBEDDER = "all-minilm-l6-v2"  #: in the catalogue of weights
_NEEDED = ("numpy", "onnxruntime", "tokenizers", "usearch")


def make_store(settings: Cache, count: Count) -> Ready:
    """Return the store; one that does I/O stands behind a guard. Raises :class:`SettingsError` for a missing extra."""
    if settings.store == "memory":
        return MemoryStore(settings.max_bytes)
    # Here, so that the default store needs none of this.
    from hasten.cache.store.guard import Guard
    from hasten.cache.store.seal import Seal

    seal = None
    if settings.encryption_key is not None:
        _need("cryptography", "cache.encryption_key", "encryption")
        seal = Seal(b64decode(settings.encryption_key.reveal()))
    inner: Store
    if settings.store == "disk":
        from hasten.cache.store.disk import DiskStore

        assert settings.path is not None
        inner = DiskStore(Path(settings.path).expanduser(), settings.max_bytes, seal)
    else:
        _need("redis", "cache.store", "redis")
        from hasten.cache.store.redis import RedisStore

        inner = RedisStore(settings.redis.url.reveal(), settings.redis.prefix, seal)
    return Guard(
        inner, settings.store_timeout, lambda reason: count("hasten_cache_bypassed_total", (reason,), 1)
    )


def make_semantic(
    settings: Cache, store: Ready, report: Report, find_model: Callable[[], Path | None], count: Count
) -> SemanticCache | None:
    """Return the semantic cache, or ``None`` where it is off or cannot work here; why is logged.

    ``find_model`` gives the embedding model's file, ``None`` if it is not on this machine.
    """
    given = settings.semantic
    if given is False:
        return None
    if missing := _missing():
        log.warning(
            "the semantic cache is off: %s not installed: pip install 'hasten[semantic]'", ", ".join(missing)
        )
        return None
    path = find_model()
    if path is None:
        log.warning("the semantic cache is off: run 'hasten models pull %s' to get its model", EMBEDDER)
        return None
    return SemanticCache(
        given if isinstance(given, Semantic) else Semantic(), store, lambda: load(path), count, report
    )


def make_embedding(find_model: Callable[[], Path | None]) -> Embedding | None:
    """Return the embedder alone, for who shares no semantic cache's; ``None`` where it cannot work, which is logged."""
    if missing := _missing():
        log.warning(
            "examples are passed by: %s not installed: pip install 'hasten[semantic]'", ", ".join(missing)
        )
        return None
    path = find_model()
    if path is None:
        log.warning("examples are passed by: run 'hasten models pull %s' to get their model", EMBEDDER)
        return None
    return Embedding(lambda: load_embedder(path))


def needs_embedder(settings: Settings) -> bool:
    """Return whether a gateway with these settings looks for its embedding model."""
    wanted = settings.cache.semantic is not False or any(r.examples for r in settings.routes.values())
    return wanted and not _missing()


def _missing() -> list[str]:
    return [name for name in _NEEDED if importlib.util.find_spec(name) is None]


def load(path: Path) -> Models:
    """Load the models; takes about half a second."""
    from hasten.cache.semantic.models import HERE, VOCABULARY, Embedder, Verifier

    words = VOCABULARY.read_text(encoding="utf-8").split("\n")
    models = Models(
        Embedder(path),
        Verifier(),
        calibration.load(HERE / "verifier.json"),
        frozenset(word for word in words if word.isalpha() and len(word) > 1),
    )
    import usearch.index  # noqa: F401  here, and not in the loop when a scope grows

    models.verify([("warm", "up")])
    models.embed(["warm up"])
    return models


def load_embedder(path: Path) -> Embed:
    """Load the embedder alone."""
    from hasten.cache.semantic.models import Embedder

    embed = Embedder(path)
    embed(["warm up"])
    return embed


def _need(module: str, key: str, extra: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise SettingsError([f"{key}: {module} is not installed: pip install 'hasten[{extra}]'"])
