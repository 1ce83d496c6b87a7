"""The terminal's view of ``/admin/overview``: is it fast, where does the time go, is it worth it, is it healthy.

Nothing is said by colour alone. Names may come from strangers, so what a terminal would obey is taken out of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

_BLOCKS, _ASCII = "▁▂▃▄▅▆▇█", "_.-:=+*#"
_MEASURES = (("E2E", "e2e"), ("TTFT", "ttft"), ("TPOT", "tpot"))
_RECENT = 120  # points of a sparkline: ten minutes
_STYLES = {"good": "green", "bad": "bold red", "dim": "dim", "warn": "yellow"}


class Room(NamedTuple):
    """What there is to draw on. ``ascii``: nothing else can be shown."""

    width: int
    height: int
    ascii: bool = False


def screen(told: dict[str, Any], slowest: list[dict[str, Any]], where: str, room: Room) -> Group:
    """Return the whole screen. ``slowest``: requests, as ``/admin/requests`` shows them."""
    more = max(0, room.height - 24)
    stages, facts = 5 + min(more // 3, 7), 4 + min(more // 3, 6)
    left = 10 + len(_MEASURES) + stages + facts  # lines of all else
    return Group(
        _head(told, where),
        Text(),
        _fast(told, room),
        Text(),
        _beside(room, _time(told, stages, room), _worth(told, stages)),
        Text(),
        _beside(room, _healthy(told, facts, _half(room)), _engines(told, facts)),
        Text(),
        _slowest(slowest, max(3, room.height - left), room),
    )


def plain(text: object, most: int = 40) -> str:
    """Return a stranger's text as far as it is safe and short."""
    shown = "".join(c if c.isprintable() else "?" for c in str(text)[: most + 1])
    return shown if len(shown) <= most else shown[: most - 1] + "~"


def ms(value: float | None) -> str:
    """Return milliseconds with three digits."""
    if value is None:
        return "-"
    if value >= 7.2e6:
        return f"{value / 3.6e6:.1f} h"
    if value >= 1e4:
        return f"{value / 1e3:.1f} s"
    if value >= 1e3:
        return f"{value / 1e3:.2f} s"
    return f"{value:.0f} ms" if value >= 100 else f"{value:.1f} ms" if value >= 10 else f"{value:.2f} ms"


def share(some: float | None, of: float = 1.0) -> str:
    """Return a share as a percentage."""
    return "-" if some is None or not of else f"{some / of:.1%}"


def count(value: float) -> str:
    """Return a number, long ones in thousands and millions."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if value >= size:
            return f"{value / (1e3 if letter == 'k' else size):.1f}{letter}"
    return f"{value:g}" if value < 100 else f"{value:.0f}"


def spark(values: Sequence[float | None], width: int, ascii: bool = False) -> str:
    """Return a line of ``width`` bars at most, from 0 to the largest; a bar is the largest of its values."""
    marks = _ASCII if ascii else _BLOCKS
    each = -(-len(values) // width) if width > 0 else 0
    if not each:
        return ""
    groups = [values[at : at + each] for at in range(0, len(values), each)]
    tops = [max((v for v in group if v is not None), default=None) for group in groups]
    most = max((top for top in tops if top is not None), default=0) or 1.0
    return "".join(
        " " if top is None else marks[min(len(marks) - 1, int(top / most * len(marks)))] for top in tops
    )


def _styled(text: str, style: str = "") -> Text:
    return Text(text, style=_STYLES.get(style, style), no_wrap=True, overflow="ellipsis")


def _grid(*justify: str, padding: int = 2) -> Table:
    table = Table.grid(padding=(0, padding, 0, 0))
    for side in justify:
        table.add_column(justify=side, no_wrap=True, overflow="ellipsis")  # type: ignore[arg-type]
    return table


def _beside(room: Room, left: RenderableType, right: RenderableType) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    half = _half(room)
    table.add_column(width=half, no_wrap=True)
    table.add_column(width=room.width - half - 2, no_wrap=True)
    table.add_row(left, right)
    return table


def _half(room: Room) -> int:
    return (room.width - 2) // 2


def _titled(title: str, lines: Sequence[Text], most: int) -> Group:
    return Group(_styled(title, "bold"), *lines[:most], *([Text()] * (most - len(lines))))


def _head(told: dict[str, Any], where: str) -> Text:
    minute = told["windows"]["1m"]
    at = datetime.fromtimestamp(told["now"]).strftime("%H:%M:%S")
    workers = f"{told['workers']} worker" + ("s" if told["workers"] != 1 else "")
    head = _styled("hasten", "bold")
    head.append(f"  {plain(where, 60)}  {at}  {workers}  ", style="dim")
    head.append(f"{minute['per_second']:.1f} requests/s")
    return head


def _fast(told: dict[str, Any], room: Room) -> Table:
    minute, limits, history = told["windows"]["1m"], told["slo"]["limits"], told["history"]
    promises = [_promises(measure, minute[measure] or {}, limits, room) for _, measure in _MEASURES]
    cells = max(8, room.width - 48 - max(len(promise) + 2 for promise in promises))
    table = _grid("left", "right", "right", "right", "left", "left")
    for column, width in zip(table.columns, (16, 8, 8, 8, None, cells), strict=True):
        column.width = width
    heads = ("p50", "p95", "p99", "", "p95, 10 min")
    table.add_row(_styled("Is it fast?  1m", "bold"), *(_styled(head, "dim") for head in heads))
    for (name, measure), promise in zip(_MEASURES, promises, strict=True):
        seen = minute[measure] or {}
        line = spark(history[measure]["p95"][-_RECENT:], cells, room.ascii)
        table.add_row(
            _styled(f"  {name}"),
            *(
                _styled(ms(seen.get(f"{at}_ms")), "bold" if at == "p95" else "")
                for at in ("p50", "p95", "p99")
            ),
            promise,
            _styled(line, "cyan"),
        )
    return table


def _promises(measure: str, seen: dict[str, Any], limits: dict[str, float], room: Room) -> Text:
    """Return what is promised of a measure; where room is short the first of what is missed, or of all."""
    found = []
    for at in ("p95", "p99"):
        limit, value = limits.get(f"{measure}_{at}_ms"), seen.get(f"{at}_ms")
        if limit is not None:
            missed = value is not None and value > limit
            found.append((not missed, f"{at} {'over' if missed else '<='} {ms(limit)}"))
    found.sort()
    shown = found if room.width >= 110 else found[:1]
    return Text("  ").join(_styled(text, "good" if met else "bad") for met, text in shown)


def _time(told: dict[str, Any], most: int, room: Room) -> Group:
    name = next((w for w in ("1m", "5m", "1h") if told["windows"][w]["parts_ms"]), "1m")
    parts = told["windows"][name]["parts_ms"]
    whole = sum(parts.values())
    stages = sorted(parts.items(), key=lambda item: -item[1])
    if len(stages) > most:
        stages = [*stages[: most - 1], ("others", sum(took for _, took in stages[most - 1 :]))]
    cells = max(4, room.width // 2 - 33)
    lines = []
    for stage, took in stages:
        of = took / whole if whole else 0.0
        bar = ("#" if room.ascii else "█") * round(of * cells)
        line = _styled(f"  {stage:<12} {ms(took):>8} {of:>6.1%} ")
        lines.append(line.append(bar, style="cyan"))
    return _titled(f"Where does the time go?  mean, {name}", lines, most)


def _worth(told: dict[str, Any], most: int) -> Group:
    hour, lines = told["windows"]["1h"], []
    outcomes = hour["outcomes"]
    seen = sum(outcomes.values()) - outcomes.get("bypass", 0)
    if seen:
        hits = ", ".join(
            f"{name} {share(n, seen)}" for name, n in outcomes.items() if name not in ("miss", "bypass")
        )
        lines.append(_styled(f"  cache     {hits or 'no hits yet'}"))
    cache = told["cache"]
    if cache is not None:
        tokens = sum(cache["saved_tokens"].values())
        lines.append(
            _styled(f"  saved     {ms(cache['saved_seconds'] * 1e3)}, {count(tokens)} tokens since the start")
        )
        wrong = cache["false_hit_rate"]
        if wrong:
            bounds = f"({share(wrong['lower'])} to {share(wrong['upper'])})"
            lines.append(_styled(f"  wrong     {share(wrong['estimate'])} {bounds} of semantic hits"))
    models = sorted(hour["models"].items(), key=lambda item: -item[1])
    if models:
        served = ", ".join(
            f"{plain(name, 20)} {share(n, sum(hour['models'].values()))}" for name, n in models[:4]
        )
        lines.append(_styled(f"  answered  {served}"))
    cost = told["cost"]
    if cost is not None:
        unit, saved = plain(cost.get("currency", ""), 8), cost["saved"]
        lines.append(_styled(f"  cost      {cost['spent']:.4g} {unit}, saved {saved['total']:.4g}", "good"))
        lines.append(_styled(f"            by cache {saved['cache']:.4g}, by routing {saved['routing']:.4g}"))
    tokens = hour["tokens"]
    if tokens["input"]:
        cached = f" ({share(tokens['cached'], tokens['input'])} cached)" if tokens["cached"] else ""
        lines.append(
            _styled(f"  tokens    {count(tokens['input'])} in{cached}, {count(tokens['output'])} out")
        )
    return _titled("Is it worth it?  1h", lines, most)


def _healthy(told: dict[str, Any], most: int, width: int) -> Group:
    five, scopes = told["windows"]["5m"], told["slo"]["scopes"]
    failed = f"{five['errors']} failed {share(five['errors'], five['requests'])}"
    lines = [
        _styled(f"  5m        {count(five['requests'])} asked, {failed}", "bad" if five["errors"] else "")
    ]
    lines += _alerts(scopes, max(1, most - 2), width - 12)
    burns = [
        (rate, window, _scoped(objective, row, width - 19))
        for row in scopes
        for objective, state in row["objectives"].items()
        for window, rate in state["burn"].items()
        if window in ("5m", "1h")
    ]
    if burns:
        rate, window, whose = max(burns)
        lines.append(_styled(f"  burn {window:<5}{rate:.1f}x {whose}", "warn" if rate > 1 else ""))
    codes = sorted(five["error_codes"].items(), key=lambda item: -item[1])
    if codes:
        lines.append(_styled("  codes     " + ", ".join(f"{plain(code, 24)} {n}" for code, n in codes[:3])))
    for row in scopes:
        good = row["goodput"].get("5m")
        if row["dimension"] == "all" and good is not None:
            lines.append(_styled(f"  goodput   {share(good['share'])} in 5m, {good['per_second']:.1f}/s"))
    dropped = ", ".join(f"{what} {n}" for what, n in told["dropped"].items() if n)
    if dropped:
        lines.append(_styled(f"  dropped   {dropped}", "warn"))
    return _titled("Is it healthy?", lines, most)


def _alerts(scopes: list[dict[str, Any]], most: int, width: int) -> list[Text]:
    """Return what fires, pages first, in ``most`` lines; of an objective for which a page fires the page alone."""
    firing: dict[str, list[str]] = {"page": [], "ticket": []}
    for row in scopes:
        for objective, state in row["objectives"].items():
            severity = next((name for name in firing if state["alerts"].get(name)), None)
            if severity is not None:
                firing[severity].append(_scoped(objective, row, width))
    found: list[tuple[str, list[str]]] = []
    for severity, alerts in firing.items():
        for alert in alerts:
            if found and found[-1][0] == severity and len("; ".join([*found[-1][1], alert])) <= width:
                found[-1][1].append(alert)
            else:
                found.append((severity, [alert]))
    more = sum(len(alerts) for _, alerts in found[most:])
    lines: list[Text] = []
    for severity, alerts in found[:most]:
        last = f" +{more} more" if more and len(lines) == most - 1 else ""
        text = plain("; ".join(alerts), width - len(last)) + last
        lines.append(_styled(f"  {severity.upper():<10}{text}", "bad" if severity == "page" else "warn"))
    return lines


def _scoped(objective: str, row: dict[str, Any], most: int) -> str:
    """Return an objective with whose it is: of all requests, of a model or of a tenant."""
    return plain(f"{objective} {row['dimension']} {row['value']}".rstrip(), most)


def _engines(told: dict[str, Any], most: int) -> Group:
    table = _grid("left", "left", "right", "right", "right", "right", padding=1)
    heads = ("state", "sent", "run", "wait", "KV")
    table.add_row(_styled("Engines", "bold"), *(_styled(head, "dim") for head in heads))
    engines = sorted(told["engines"], key=lambda e: (e["state"] == "ok", -e["in_flight"]))
    for engine in engines[:most]:
        load = engine["load"] or {}
        kv = load.get("kv_usage")
        table.add_row(
            _styled(f"  {plain(engine['name'], 14)}"),
            _styled(plain(engine["state"], 12), "good" if engine["state"] == "ok" else "bad"),
            _styled(count(engine["in_flight"])),
            *(_styled("-" if load.get(key) is None else count(load[key])) for key in ("running", "waiting")),
            _styled("-" if kv is None else f"{kv:.0%}", "bad" if kv is not None and kv > 0.9 else ""),
        )
    return Group(table, *([Text()] * (most - len(engines))))


def _slowest(requests: list[dict[str, Any]], most: int, room: Room) -> Table:
    wide = room.width >= 110
    table = _grid("left", "right", "right", "left", "left", "left", *(("left",) if wide else ()))
    heads = ("E2E", "TTFT", "model", "engine", "most of it", *(("id",) if wide else ()))
    table.add_row(_styled("Slowest  5m", "bold"), *(_styled(head, "dim") for head in heads))
    for request in requests[:most]:
        stage, _, took = max(request["segments"], key=lambda s: s[2], default=("", 0.0, 0.0))
        at = datetime.fromisoformat(request["time"]).astimezone()
        model = plain(request["model"], 16)
        if request["served_model"] not in ("", request["model"]):
            model += f" > {plain(request['served_model'], 16)}"
        table.add_row(
            _styled(f"  {at:%H:%M:%S}"),
            _styled(ms(request["e2e_ms"]), "bold"),
            _styled(ms(request["ttft_ms"])),
            _styled(model),
            _styled(plain(request["engine"], 14)),
            _styled(f"{stage} {ms(took)}"),
            *((_styled(plain(request["id"], 36), "dim"),) if wide else ()),
        )
    return table
