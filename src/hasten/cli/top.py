"""``hasten top``: a running gateway's figures in the terminal, a screen every two seconds."""

from __future__ import annotations

import argparse
import http.client
import io
import os
import ssl
import sys
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from hasten.errors import HastenError

if TYPE_CHECKING:
    from rich.console import Console

TIMEOUT = 5.0  # seconds
REFUSED = (
    "give one of server.admin_keys, or of server.keys where there are none, with --key or in $HASTEN_KEY"
)


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser("top", help="watch a running gateway in the terminal", description=__doc__)
    parser.add_argument("url", nargs="?", default="http://127.0.0.1:8400", help="default: %(default)s")
    parser.add_argument(
        "--key", default=os.environ.get("HASTEN_KEY"), help="of an admin; default: $HASTEN_KEY"
    )
    parser.add_argument(
        "--every", type=float, default=2.0, metavar="S", help="seconds between screens (default: %(default)g)"
    )
    parser.add_argument("--once", action="store_true", help="print one screen and end")
    parser.set_defaults(run=run)


class Source:
    """Asks the gateway."""

    def __init__(self, url: str, key: str | None) -> None:
        self._url = urlsplit(url if "//" in url else f"http://{url}")
        self.where = self._url.netloc.rpartition("@")[2]
        self._headers = {"accept": "application/json"}
        if key:
            self._headers["authorization"] = f"Bearer {key}"

    def get(self, path: str) -> dict[str, Any]:
        """Return a page's JSON object. Raises :class:`HastenError` that says what to do."""
        url = self._url
        kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
        base = url.path.rstrip("/").removesuffix("/v1")
        try:
            connection = kind(url.hostname or "", url.port, timeout=TIMEOUT)
            try:
                connection.request("GET", base + path, headers=self._headers)
                answer = connection.getresponse()
                body = answer.read()
            finally:
                connection.close()
        except (OSError, ssl.SSLError, http.client.HTTPException, ValueError) as exc:
            raise HastenError(f"no gateway at {url.geturl()}: {exc or type(exc).__name__}") from None
        if answer.status in (401, 403):
            raise HastenError(f"{url.geturl()} refuses the key: {REFUSED}")
        if answer.status == 404:
            raise HastenError(f"{url.geturl()} has no {path}: is it a Hasten of this version?")
        if answer.status != 200:
            raise HastenError(f"{url.geturl()} answers {path} with status {answer.status}")
        try:
            return msgspec.json.decode(body, type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise HastenError(
                f"{url.geturl()} does not answer {path} with a JSON object: is it a Hasten?"
            ) from None

    def draw(self, console: Console, height: int) -> Any:
        """Return the screen as it is now."""
        from hasten.cli.panels import Room, screen

        told = self.get("/admin/overview")
        limit = max(3, min(50, height))
        kept = self.get(f"/admin/requests?window=5m&near=slowest&limit={limit}")
        if "windows" not in told or "requests" not in kept:
            raise HastenError(f"{self._url.geturl()} answers, but not as a Hasten of this version")
        room = Room(console.width, height, console.options.ascii_only)
        return screen(told, kept["requests"], self.where, room)


def run(args: argparse.Namespace) -> int:
    """Show the gateway until it is interrupted; raises :class:`HastenError` if the first screen cannot be drawn."""
    from rich.console import Console

    if not 0.2 <= args.every <= 3600:
        raise HastenError("--every: from 0.2 to 3600 seconds")
    source = Source(args.url, args.key)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # of a terminal that cannot show a name's letters
    console = Console(highlight=False)
    if args.once or not console.is_terminal:
        console.print(source.draw(console, 40))
        return 0
    watch(source, console, args.every)
    return 0


def watch(source: Source, console: Console, every: float) -> None:
    """Draw until Ctrl-C; a gateway that is gone for a while is told of, over the last screen there was."""
    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    shown = source.draw(console, console.height)
    try:
        with Live(shown, console=console, screen=True, auto_refresh=False) as live:
            while True:
                live.refresh()
                time.sleep(every)
                try:
                    shown = source.draw(console, console.height)
                    live.update(shown)
                except HastenError as exc:
                    live.update(Group(Text(f"{exc.message}; trying again", style="bold red"), shown))
    except KeyboardInterrupt:
        pass
