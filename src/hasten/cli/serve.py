"""``hasten serve``: run the gateway."""

from __future__ import annotations

import argparse
import sys

import uvloop

from hasten.cache.make import EMBEDDER, needs_embedder
from hasten.cli.models import pull_with_bar
from hasten.engines.weights import WeightsError
from hasten.process.logs import calm_gc, set_up_logging
from hasten.process.main import Main
from hasten.process.source import Source
from hasten.settings import LlamaEngine, Settings


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser("serve", help="run the gateway")
    parser.add_argument(
        "config", nargs="?", help="a YAML file; without it: the embedded engine and its default model"
    )
    parser.add_argument("--host", help="address to listen on (server.host)")
    parser.add_argument("--port", type=int, help="port to listen on (server.port); 0: any")
    parser.add_argument("--workers", type=int, help="processes that serve (server.workers)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serve until a signal ends it."""
    given = {"HOST": args.host, "PORT": args.port, "WORKERS": args.workers}
    source = Source(args.config, {f"HASTEN__SERVER__{k}": str(v) for k, v in given.items() if v is not None})
    settings = source.load()
    set_up_logging()
    for engine in settings.engines.values():
        if isinstance(engine, LlamaEngine):
            pull_with_bar(engine.model)
    if needs_embedder(settings):
        try:
            pull_with_bar(EMBEDDER)
        except WeightsError as exc:  # the gateway serves without; the worker says so in its log
            print(f"hasten: {exc.message}", file=sys.stderr)
    calm_gc()
    try:
        uvloop.run(_serve(settings, source))
    except OSError as exc:
        where = f"{settings.server.host}:{settings.server.port}"
        print(f"hasten: cannot listen on {where}: {exc.strerror or exc}", file=sys.stderr)
        return 1
    return 0


async def _serve(settings: Settings, source: Source) -> None:
    await Main(settings, source).run()
