"""What the benchmarks have in common as commands: what they say, and how they end."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from types import FrameType

from processes import Failed


def say(text: str) -> None:
    """Print a line for the reader, not for the result."""
    print(text, file=sys.stderr, flush=True)


def attempt(work: Callable[[], None]) -> int:
    """Do ``work`` and return the exit code; SIGTERM ends it by an exception, so that what it started is stopped."""
    signal.signal(signal.SIGTERM, _terminated)
    try:
        work()
    except KeyboardInterrupt:
        say("interrupted: nothing is written")
        return 130
    except Failed as exc:
        say(f"bench: {exc}")
        return 1
    return 0


def _terminated(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
