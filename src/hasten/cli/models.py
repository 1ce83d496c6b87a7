"""``hasten models``: which weights there are, fetch them, delete them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any

from hasten.engines import weights
from hasten.errors import HastenError


def add(subparsers: Any) -> None:
    """Add the ``models`` subcommand to ``subparsers`` (of :mod:`argparse`)."""
    parser = subparsers.add_parser(
        "models", help="list, fetch and delete model weights", description=weights.__doc__
    )
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    actions.add_parser("list", help="the catalogue, and what is installed").set_defaults(run=_list)
    pull = actions.add_parser("pull", help="fetch a model's weights")
    pull.add_argument("name", metavar="NAME")
    pull.set_defaults(run=_pull)
    remove = actions.add_parser("rm", help="delete a model's weights")
    remove.add_argument("name", metavar="NAME")
    remove.set_defaults(run=_remove)


def pull_with_bar(name: str) -> str:
    """Return the path of ``name``, pulled with a progress bar on standard error if it is not here yet."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    if (path := weights.resolve(name)) is not None:
        return str(path)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        # Without a total the bar only shows that something moves.
        task = bar.add_task(f"pulling {name}", total=None)
        return str(weights.pull(name, lambda done, total: bar.update(task, completed=done, total=total)))


def _list(args: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.table import Table

    here = {note.name: (note, path) for note, path in weights.installed()}
    table = Table("name", "size", "installed", "about", box=None, pad_edge=False)
    for name, entry in weights.CATALOGUE.items():
        path = str(here[name][1]) if name in here else "no"
        table.add_row(name, _size(entry.size), path, f"{entry.about} ({entry.license})")
    for name, (note, file) in here.items():
        if name not in weights.CATALOGUE:
            table.add_row(name, _size(note.size), str(file), "")
    Console().print(table)
    return 0


def _pull(args: argparse.Namespace) -> int:
    return _say(lambda: pull_with_bar(args.name))


def _remove(args: argparse.Namespace) -> int:
    def remove() -> str:
        weights.remove(args.name)
        return f"{args.name} is deleted"

    return _say(remove)


def _say(action: Callable[[], str]) -> int:
    try:
        print(action())
    except HastenError as exc:
        print(f"hasten models: {exc.message}", file=sys.stderr)
        return 1
    return 0


def _size(size: int) -> str:
    return f"{size / 1e6:.0f} MB"
