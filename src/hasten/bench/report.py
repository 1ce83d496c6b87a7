"""The result as JSON and as a table."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

import hasten
from hasten.bench.run import Options, Result, Side
from hasten.bench.stats import Stats, Summary

SCHEMA = "hasten.bench/1"

#: label, field of the summary, what it is counted in
ROWS = (
    ("TTFT", "ttft_ms", "ms"),
    ("TPOT", "tpot_ms", "ms"),
    ("ITL", "itl_ms", "ms"),
    ("E2E", "e2e_ms", "ms"),
    ("OTPS", "otps", "tokens/s"),
    ("send lag", "lag_ms", "ms"),
)


def environment() -> dict[str, Any]:
    """Return the machine and the versions a result was measured with."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "hasten": hasten.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
    }


def cpu_model() -> str:
    """Return the processor's name as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def as_json(options: Options, result: Result, raw: bool = False) -> bytes:
    """Return the result as indented JSON. Header values, keys and prompts are left out.

    ``raw`` adds each request's record, its times in seconds from its round's start.
    """
    settings = msgspec.to_builtins(options)
    settings["headers"] = sorted(options.headers)
    settings["conversations"] = len(options.conversations)
    tree = {
        "schema": SCHEMA,
        "settings": settings,
        "environment": environment(),
        "interrupted": result.interrupted,
        "targets": [_side(options, side, raw) for side in result.sides],
        "ratios": result.ratios,
    }
    return msgspec.json.format(msgspec.json.encode(tree), indent=2) + b"\n"


def _side(options: Options, side: Side, raw: bool) -> dict[str, Any]:
    tree = {"url": side.url, "model": side.model, "summary": side.summary(options.slo)}
    if raw:
        tree["rounds"] = [
            [
                msgspec.structs.replace(
                    record,
                    due=record.due - part.start,
                    sent=record.sent - part.start,
                    end=record.end - part.start,
                    first=None if record.first is None else record.first - part.start,
                )
                for record in part.records
            ]
            for part in side.rounds
        ]
    return tree


def show(console: Console, options: Options, result: Result) -> None:
    """Print the tables for people."""
    for name, side in zip("AB", result.sides, strict=False):
        label = f"{name}  " if len(result.sides) > 1 else ""
        summary = side.summary(options.slo)
        head = f"\n[bold]{label}{escape(side.url)}[/]  {escape(side.model)}  {_load(options)}"
        console.print(head, highlight=False, soft_wrap=True)
        table = _table(summary)
        if table.row_count:
            console.print(table)
        for line in _lines(summary):
            console.print(line, highlight=False, soft_wrap=True)
    if result.ratios:
        table = Table("", "ratio, 95% interval", "pairs of rounds", box=None, pad_edge=False)
        for name, ratio in result.ratios.items():
            table.add_row(f"A/B {name}", escape(str(ratio)), str(ratio.pairs))
        console.print()
        console.print(table)
    if result.interrupted:
        console.print("\ninterrupted: these are the requests that had ended by then", highlight=False)


def _load(options: Options) -> str:
    plan = options.plan
    if plan.rate is None:
        return f"closed loop, {plan.in_flight} in flight"
    return f"open loop, {plan.rate:g} requests/s ({plan.arrival}), latency from the due time"


def _table(summary: Summary) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for name in ("mean", "p50", "p90", "p95", "p99", "max", "n"):
        table.add_column(name, justify="right")
    for label, field, unit in ROWS:
        stats: Stats | None = getattr(summary, field)
        if stats is not None:
            values = (stats.mean, stats.p50, stats.p90, stats.p95, stats.p99, stats.max)
            table.add_row(f"{label} ({unit})", *map(number, values), str(stats.n))
    return table


def _lines(summary: Summary) -> list[str]:
    lines = [
        f"{summary.ok} requests ok, {summary.failed} failed in {summary.wall_s:.1f} s: "
        f"{number(summary.requests_per_s)} requests/s, "
        f"{number(summary.output_tokens_per_s)} output tokens/s (tokens from {summary.tokens_from or 'nowhere'})"
    ]
    if summary.errors:
        lines.append("errors: " + ", ".join(f"{kind} {n}" for kind, n in summary.errors.items()))
    if summary.goodput_per_s is not None and summary.goodput_share is not None:
        lines.append(
            f"goodput {number(summary.goodput_per_s)} requests/s: {summary.goodput_share:.1%} met all limits"
        )
    return lines


def number(value: float) -> str:
    """Return ``value`` with about three digits that matter."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.1f}" if value >= 100 else f"{value:.2f}"
