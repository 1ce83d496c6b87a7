"""What the processes say of themselves, on standard error."""

from __future__ import annotations

import logging
import os


def set_up_logging() -> None:
    """Log to standard error; ``HASTEN_LOG_LEVEL`` sets the level (``info`` without it)."""
    level = os.environ.get("HASTEN_LOG_LEVEL", "info").upper()
    known = logging.getLevelNamesMapping()
    logging.basicConfig(
        format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=known.get(level, logging.INFO)
    )
