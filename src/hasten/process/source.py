"""Where the settings come from, so that they can be read again."""

from __future__ import annotations

import os
from collections.abc import Mapping

from hasten import config
from hasten.settings import Settings


class Source:
    """A file (or none: the default settings) and an environment with the command line's overrides in it."""

    def __init__(self, path: str | None, overrides: Mapping[str, str] | None = None) -> None:
        self.path = path
        self.environ = {**os.environ, **(overrides or {})}
        self.text = ""

    def load(self) -> Settings:
        """Read and check; :attr:`text` is what was read last. Raises :class:`~hasten.errors.SettingsError`."""
        text = config.read(self.path)
        settings = config.parse(text, str(self), self.environ)
        self.text = text
        return settings

    def __str__(self) -> str:
        return self.path or "default settings"
