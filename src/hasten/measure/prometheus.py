"""Prometheus's text exposition format, version 0.0.4."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from hasten.measure.registry import Family, Key

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"


def render(families: Iterable[Family], series: Mapping[Key, list[float]]) -> bytes:
    """Return the page for ``series``; families without a series show their head only."""
    by_name: dict[str, list[tuple[tuple[str, ...], list[float]]]] = {}
    for (name, labels), values in sorted(series.items()):
        by_name.setdefault(name, []).append((labels, values))
    lines = []
    for family in families:
        lines.append(f"# HELP {family.name} {family.help}")
        lines.append(f"# TYPE {family.name} {family.kind}")
        for labels, values in by_name.get(family.name, ()):
            if family.kind == "histogram":
                lines += _histogram(family, labels, values)
            else:
                lines.append(f"{family.name}{_labels(family, labels)} {_number(values[0])}")
    return ("\n".join(lines) + "\n").encode()


def _histogram(family: Family, labels: tuple[str, ...], values: list[float]) -> list[str]:
    lines = []
    total = 0.0
    for bound, count in zip((*map(_number, family.bounds), "+Inf"), values, strict=False):
        total += count
        lines.append(f"{family.name}_bucket{_labels(family, labels, bound)} {_number(total)}")
    lines.append(f"{family.name}_sum{_labels(family, labels)} {_number(values[-1])}")
    lines.append(f"{family.name}_count{_labels(family, labels)} {_number(total)}")
    return lines


def _labels(family: Family, values: tuple[str, ...], bound: str | None = None) -> str:
    pairs = [f'{name}="{_escape(value)}"' for name, value in zip(family.labels, values, strict=True)]
    if bound is not None:
        pairs.append(f'le="{bound}"')
    return "{" + ",".join(pairs) + "}" if pairs else ""


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(value)
