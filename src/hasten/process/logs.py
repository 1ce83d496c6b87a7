"""What every process of ours does first: logging to standard error, and a calmer garbage collector."""

from __future__ import annotations

import gc
import logging
import os


def set_up_logging() -> None:
    """Log to standard error; ``HASTEN_LOG_LEVEL`` sets the level (``info`` without it)."""
    level = os.environ.get("HASTEN_LOG_LEVEL", "info").upper()
    known = logging.getLevelNamesMapping()
    logging.basicConfig(
        format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=known.get(level, logging.INFO)
    )


def calm_gc() -> None:
    """Collect less often, and never again what is there now.

    A request makes few objects that refer to each other in circles: almost all are freed at once by their counts. With
    the default thresholds a busy worker spends about 5% of its time looking for circles.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
