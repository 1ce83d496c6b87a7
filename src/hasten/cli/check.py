"""``hasten check``: say what is wrong with a configuration."""

from __future__ import annotations

import argparse
from pathlib import Path

import msgspec

from hasten import config
from hasten.engines import weights
from hasten.errors import HastenError, SettingsError
from hasten.route.complexity import Complexity
from hasten.settings import LlamaEngine


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
                elif not Path(engine.model).expanduser().is_file():
                    wrong.append(f"engines.{name}.model: there is no file {engine.model}")
            except HastenError as exc:
                wrong.append(f"engines.{name}.model: {exc.message}")
    for name, model in settings.models.items():
        if model.route.router is not None:
            try:
                Complexity(Path(model.route.router).expanduser())
            except HastenError as exc:
                wrong.append(f"models.{name}.route.router: {exc}")
    if wrong:
        raise SettingsError(wrong, args.config)
    server = settings.server
    print(f"{args.config}: good")
    count = len(server.keys) + len(server.admin_keys) + sum(len(t.keys) for t in settings.tenants.values())
    keys = f"{count} keys" if count else "open"
    print(f"  server: {server.host}:{server.port}, {keys}, {server.workers} worker(s)")
    for name, engine in settings.engines.items():
        where = f"llama.cpp, {engine.model}" if isinstance(engine, LlamaEngine) else engine.base_url
        print(f"  engine {name}: {where}")
    for name, model in settings.models.items():
        if model.tiers:
            hold = msgspec.to_builtins(model.route.hold)
            held = ", ".join(f"{key} {value:g}" for key, value in hold.items() if value is not None)
            print(f"  model {name}: one of {', '.join(model.tiers)} (holds {held})")
            continue
        after = f", else {', '.join(model.fallback)}" if model.fallback else ""
        print(f"  model {name}: {', '.join(model.engines)} ({model.balance}){after}")
    for name, route in settings.routes.items():
        to = f" to {route.to}" if route.to is not None else ""
        print(f"  route {name}: {len(route.patterns)} pattern(s), {len(route.examples)} example(s){to}")
    return 0
