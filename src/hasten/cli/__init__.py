"""The command line: one module a command."""

from __future__ import annotations

import argparse
import sys

from hasten import __version__
from hasten.cli import bench, chat, check, models, route, serve, top, train_router
from hasten.errors import HastenError, SettingsError


def main(argv: list[str] | None = None) -> int:
    """Run ``hasten`` with ``argv``; return the exit status: 0, 1 (it failed) or 2 (it was asked wrongly)."""
    parser = argparse.ArgumentParser(prog="hasten", description="A latency-first LLM gateway.")
    parser.add_argument("--version", action="version", version=f"hasten {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for module in (serve, check, chat, top, bench, models, route, train_router):
        module.add(commands)
    args = parser.parse_args(argv)
    try:
        return int(args.run(args))
    except SettingsError as exc:
        print(
            f"hasten: {exc.source}:", *(f"  {problem}" for problem in exc.problems), sep="\n", file=sys.stderr
        )
        return 2
    except HastenError as exc:
        print(f"hasten: {exc.message}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 1
