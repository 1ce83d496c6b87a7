"""From the rounds to a table and a file."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

from measure import Figures

#: heading, phase, figure, digits; "added" is the difference to going direct, within a round.
COLUMNS = (
    ("CPU µs a request", "whole", "cpu_us_per_request", 0),
    ("requests/s", "whole", "requests_per_s", 0),
    ("p50 ms, 1 connection", "whole", "p50_ms", 3),
    ("added p50 ms", "whole", "added_p50_ms", 3),
    ("CPU µs an event", "events", "cpu_us_per_event", 1),
    ("events/s of 10,000", "tokens", "events_per_s", 0),
    ("ITL p99 ms", "tokens", "itl_p99_ms", 2),
    ("added ITL p99 ms", "tokens", "added_itl_p99_ms", 2),
)


class Results:
    """All rounds: ``rounds[phase][name]`` is a list of figures, one a round."""

    def __init__(self) -> None:
        self.rounds: dict[str, dict[str, list[Figures]]] = {}
        self.versions: dict[str, str] = {}
        self.skipped: dict[str, str] = {}

    def add(self, phase: str, number: int, name: str, figures: Figures) -> None:
        """Keep the figures of one round. Going direct must come first in each round."""
        direct = self.rounds.setdefault(phase, {}).setdefault("direct", [])
        if name != "direct":
            base = direct[number]
            for figure in ("p50_ms", "itl_p99_ms"):
                mine, its = figures.get(figure), base.get(figure)
                if mine is not None and its is not None:
                    figures[f"added_{figure}"] = mine - its
        self.rounds[phase].setdefault(name, []).append(figures)

    def median(self, phase: str, name: str, figure: str) -> float | None:
        """Return the median over rounds, ``None`` where it was not measured."""
        found = [f.get(figure) for f in self.rounds.get(phase, {}).get(name, [])]
        values = [value for value in found if value is not None]
        return median(values) if values else None

    def names(self) -> list[str]:
        """Return who was measured, in order."""
        return list(dict.fromkeys(name for phase in self.rounds.values() for name in phase))

    def errors(self, name: str) -> int:
        """Return how many requests of ``name`` failed."""
        phases = [phase.get(name, []) for phase in self.rounds.values()]
        return sum(int(f.get("errors") or 0) for rounds in phases for f in rounds)

    def markdown(self) -> str:
        """Return the table, medians over rounds."""
        columns = [c for c in COLUMNS if c[1] in self.rounds]
        lines = ["| | " + " | ".join(c[0] for c in columns) + " |", "|---|" + "---:|" * len(columns)]
        for name in self.names():
            label = " ".join(filter(None, (name, self.versions.get(name))))
            failed = self.errors(name)
            cells = [f"{label} ({failed} errors)" if failed else label]
            for _, phase, figure, digits in columns:
                value = self.median(phase, name, figure)
                cells.append("" if value is None else f"{value:,.{digits}f}")
            lines.append("| " + " | ".join(cells) + " |")
        return "\n".join(lines)

    def as_json(self, environment: dict[str, Any], settings: dict[str, Any]) -> str:
        """Return everything, the single rounds too."""
        medians = {
            name: {f"{c[1]}.{c[2]}": self.median(c[1], name, c[2]) for c in COLUMNS} for name in self.names()
        }
        tree = {
            "schema": "hasten.overhead/1",
            "command": " ".join(["python", *sys.argv]),
            "environment": environment,
            "settings": settings,
            "versions": self.versions | tool_versions(),
            "skipped": self.skipped,
            "medians": medians,
            "rounds": self.rounds,
        }
        return json.dumps(tree, indent=2) + "\n"


def tool_versions() -> dict[str, str]:
    """Return the versions of nginx, wrk and Node.js as they tell them, in one line each."""
    found = {}
    for name, flag in (("nginx", "-v"), ("wrk", "-v"), ("node", "--version")):
        program = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
        if program is not None:
            done = subprocess.run([program, flag], capture_output=True, text=True, check=False)
            found[name] = (done.stdout + done.stderr).strip().partition("\n")[0]
    return found


def write(folder: Path, name: str, text: str) -> Path:
    """Write ``text`` into ``folder`` and return the path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(text)
    return path
