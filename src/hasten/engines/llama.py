"""The recipe for the embedded engine: llama.cpp's server from the ``xllamacpp`` package."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

from hasten.engines import weights
from hasten.errors import SettingsError
from hasten.settings import LlamaEngine


class LlamaRecipe:
    """How to run ``settings`` with the weights in the file ``model``.

    ``exact``: write quantised weights out as half floats (see :mod:`hasten.engines.expand`); by default, where the
    catalogue says that the model needs it. Raises :class:`~hasten.errors.SettingsError` without the package.
    """

    ready_path = "/health"

    def __init__(
        self, settings: LlamaEngine, model: Path, name: str = "llama", exact: bool | None = None
    ) -> None:
        if importlib.util.find_spec("xllamacpp") is None:
            raise SettingsError([f"engines.{name}: llama.cpp is not installed: pip install 'hasten[llama]'"])
        self.name = name
        self.settings = settings
        self.model = model
        entry = weights.CATALOGUE.get(settings.model)
        self.exact = exact if exact is not None else entry is not None and entry.exact

    def command(self, port: int) -> list[str]:
        """Return the command line of :mod:`hasten.engines.llama_child`."""
        settings = self.settings
        flags = {
            "--model": self.model,
            "--alias": settings.model,
            "--port": port,
            "--slots": settings.slots,
            "--context": settings.context,
            "--threads": settings.threads or physical_cores(),
            "--gpu-layers": settings.gpu_layers,
        }
        if self.exact:
            flags["--expand"] = weights.expanded(settings.model)
        command = [sys.executable, "-m", "hasten.engines.llama_child"]
        command += [f"{flag}={value}" for flag, value in flags.items()]
        return [*command, "--embeddings"] if settings.embeddings else command

    def env(self) -> dict[str, str]:
        """Return nothing: all is in the command."""
        return {}

    def base_url(self, port: int) -> str:
        """Return the server's OpenAI address."""
        return f"http://127.0.0.1:{port}/v1"


def physical_cores() -> int:
    """Return how many physical cores this process may use: hyper-threads and a container's quota taken off.

    A second thread on a core only gets in the first one's way: both want the same vector units.
    """
    affinity = (
        os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    )
    cores = {
        _read(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list") or str(cpu)
        for cpu in affinity
    }
    quota, _, period = _read("/sys/fs/cgroup/cpu.max").partition(" ")
    if quota.isdigit() and period.isdigit():
        return max(1, min(len(cores), int(quota) // int(period)))
    return len(cores)


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
