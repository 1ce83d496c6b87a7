"""``hasten top``: what its screen says, on small and large terminals, and what it says when it cannot."""

from __future__ import annotations

import asyncio
import io
import time
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from hasten.cli import main
from hasten.cli.panels import Room, count, ms, plain, screen, spark
from hasten.testing import Script, ScriptedUpstream
from tests.gateway import gateway
from tests.measure.test_overview import sealed

BURNS = {"budget": 0.05, "budget_left": -1.0, "burn": {"5m": 3.25, "1h": 1.0}}


def told(**changes: Any) -> dict[str, Any]:
    """Return an overview in which all there can be is."""
    times = {"n": 9, "p50_ms": 812.0, "p90_ms": 900.0, "p95_ms": 1234.0, "p99_ms": 3210.0, "p99.9_ms": 4000.0}
    window = {
        "requests": 12_345,
        "per_second": 205.75,
        "errors": 12,
        "error_codes": {"engine_timeout": 12, "client_gone": 3},
        "e2e": times,
        "ttft": times | {"p95_ms": 150.0},
        "tpot": None,
        "parts_ms": {"accept": 0.1, "prefill": 300.0, "decode": 600.0, "gateway": 0.15},
        "tokens": {"input": 4_000_000, "output": 90_000, "cached": 1_000_000},
        "outcomes": {"exact": 200, "semantic": 100, "miss": 700, "bypass": 500},
        "models": {"small": 90, "large": 10},
    }
    points = [None, *(float(i) for i in range(200))]
    return {
        "now": 1_700_000_000.5,
        "every": 5,
        "workers": 2,
        "history": {name: dict.fromkeys(("p50", "p95", "p99"), points) for name in ("e2e", "ttft", "tpot")},
        "windows": dict.fromkeys(("1m", "5m", "1h"), window),
        "slo": {
            "limits": {"e2e_p95_ms": 2000, "ttft_p95_ms": 100, "ttft_p99_ms": 9999, "errors": 0.01},
            "scopes": [
                {
                    "dimension": "all",
                    "value": "",
                    "goodput": {"5m": {"share": 0.9, "per_second": 180.0}},
                    "objectives": {"ttft_p95": BURNS | {"alerts": {"page": True, "ticket": False}}},
                }
            ],
        },
        "cache": {
            "saved_seconds": 321.0,
            "saved_tokens": {"input": 9000, "output": 3000},
            "false_hit_rate": {"lower": 0.001, "estimate": 0.004, "upper": 0.01},
        },
        "cost": {"currency": "EUR", "spent": 12.5, "saved": {"cache": 3.0, "routing": 1.0, "total": 4.0}},
        "engines": [
            {"name": "vllm-a", "provider": "vllm", "state": "ok", "in_flight": 7}
            | {"load": {"running": 6, "waiting": 1, "kv_usage": 0.42, "cached_share": 0.3, "age": 1.0}},
            {"name": "vllm-b", "provider": "vllm", "state": "circuit_open", "in_flight": 0, "load": None},
        ],
        "dropped": {"request_log": 5, "otel": 0},
        **changes,
    }


def request(**changes: Any) -> dict[str, Any]:
    return {
        "id": "0123456789abcdef",
        "time": "2026-11-21T12:34:56.789Z",
        "model": "assistant",
        "served_model": "large",
        "engine": "vllm-a",
        "e2e_ms": 4321.0,
        "ttft_ms": None,
        "segments": [["accept", 0.0, 0.3], ["generate", 0.3, 4320.7]],
        **changes,
    }


def drawn(overview: dict[str, Any], width: int = 80, height: int = 24, ascii: bool = False) -> list[str]:
    """Return the lines of the screen."""
    console = Console(record=True, width=width, height=height, file=io.StringIO())
    console.print(screen(overview, [request()] * 20, "localhost:8400", Room(width, height, ascii)))
    return console.export_text().rstrip("\n").split("\n")


@pytest.mark.parametrize(("width", "height"), [(80, 24), (100, 30), (160, 45), (220, 70)])
def test_it_fits(width: int, height: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    lines = drawn(told(), width, height)
    assert len(lines) <= height
    assert max(map(len, lines)) <= width
    assert any("18:04:56" in line for line in lines)  # the local time, as in the head
    monkeypatch.undo()
    time.tzset()


def test_what_it_says() -> None:
    text = "\n".join(drawn(told(), 160, 45))
    for said in (
        "2 workers",
        "205.8 requests/s",
        "p95 <= 2.00 s",
        "p95 over 100 ms",
        "decode         600 ms  66.6% ███",
        "exact 20.0%, semantic 10.0%",
        "321.0 s, 12.0k tokens",
        "0.4% (0.1% to 1.0%) of semantic hits",
        "answered  small 90.0%, large 10.0%",
        "12.5 EUR, saved 4",
        "4.0M in (25.0% cached), 90.0k out",
        "12.3k asked, 12 failed 0.1%",
        "PAGE      ttft_p95 all",
        "burn 5m   3.2x ttft_p95 all",
        "engine_timeout 12, client_gone 3",
        "90.0% in 5m, 180.0/s",
        "request_log 5",
        "circuit_open",
        "42%",
        "assistant > large",
        "generate 4.32 s",
    ):
        assert said in text
    assert text.index("vllm-b") < text.index("vllm-a")  # what is not well comes first


def scope(dimension: str, value: str, **alerts: str) -> dict[str, Any]:
    """Return a row of the objectives. ``alerts``: of an objective what fires, and its burn rate over an hour."""
    objectives = {}
    for objective, fires in alerts.items():
        severities, _, burn = fires.partition(" ")
        on = {severity: severity in severities for severity in ("page", "ticket")}
        objectives[objective] = {"burn": {"1h": float(burn)}, "alerts": on}
    return {"dimension": dimension, "value": value, "goodput": {}, "objectives": objectives}


def healthy(*scopes: dict[str, Any], width: int = 80, height: int = 24) -> list[str]:
    """Return what stands under the failures of the last five minutes."""
    lines = drawn(told(slo={"limits": {}, "scopes": list(scopes)}), width, height)
    at = next(i for i, line in enumerate(lines) if line.startswith("Is it healthy?"))
    return [line[: (width - 2) // 2].rstrip() for line in lines[at + 2 : at + 5]]


def test_pages_come_first_with_whose_they_are_and_long_ones_are_cut() -> None:
    general = scope("all", "", e2e_p95="ticket 2.5", errors="- 0.1")
    assert healthy(general)[:2] == ["  TICKET    e2e_p95 all", "  burn 1h   2.5x e2e_p95 all"]
    small = scope("model", "small", ttft_p95="page,ticket 20")
    assert healthy(general, small) == [
        "  PAGE      ttft_p95 model small",
        "  TICKET    e2e_p95 all",
        "  burn 1h   20.0x ttft_p95 model small",
    ]
    name = "a-customer-with-a-long-name\x1b"
    tenant = scope("tenant", name, e2e_p99="page 9", errors="page 15")
    assert healthy(general, small, tenant) == [
        "  PAGE      ttft_p95 model small",
        "  PAGE      e2e_p99 tenant a-c~ +2 more",
        "  burn 1h   20.0x ttft_p95 model small",
    ]
    assert healthy(general, small, tenant, width=180)[:2] == [
        "  PAGE      ttft_p95 model small; e2e_p99 tenant a-customer-with-a-long-name?",
        "  PAGE      errors tenant a-customer-with-a-long-name? +1 more",
    ]
    assert healthy(general, small, tenant, width=100, height=60)[:3] == [
        "  PAGE      ttft_p95 model small",
        "  PAGE      e2e_p99 tenant a-customer-with-a-lon~",
        "  PAGE      errors tenant a-customer-with-a-long~",
    ]


def test_nothing_was_asked_yet() -> None:
    empty: dict[str, Any] = dict.fromkeys(("requests", "per_second", "errors"), 0)
    empty |= {name: {} for name in ("error_codes", "parts_ms", "outcomes", "models")}
    empty |= {"e2e": None, "ttft": None, "tpot": None, "tokens": {"input": 0, "output": 0, "cached": 0}}
    columns: dict[str, Any] = {
        name: {at: [] for at in ("p50", "p95", "p99")} for name in ("e2e", "ttft", "tpot")
    }
    lines = drawn(
        told(
            windows=dict.fromkeys(("1m", "5m", "1h"), empty),
            history=columns,
            slo={"scopes": [], "limits": {}},
            cache=None,
            cost=None,
            engines=[],
        )
    )
    assert len(lines) <= 24
    assert any("0 asked, 0 failed -" in line for line in lines)


def test_without_other_letters() -> None:
    assert "\n".join(drawn(told(), 160, ascii=True)).replace("…", "").isascii()


def test_strangers_command_no_terminal() -> None:
    evil = "\x1b]0;owned\x07\x1b[2J[red]x"
    overview = told(engines=[{"name": evil, "provider": "p", "state": "ok", "in_flight": 0, "load": None}])
    console = Console(record=True, width=160, height=45, file=io.StringIO())
    requests = [request(model=evil, engine=evil, id=evil)]
    console.print(screen(overview, requests, evil, Room(160, 45)))
    text = console.export_text()
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "[red]x" in text


def test_numbers() -> None:
    assert [ms(v) for v in (None, 0.123, 12.34, 123.4, 1234.5, 12345.6, 9e6)] == [
        *("-", "0.12 ms", "12.3 ms", "123 ms", "1.23 s", "12.3 s", "2.5 h")
    ]
    assert [count(v) for v in (0, 5, 1234, 12_345, 1_234_567, 2e9)] == [
        "0",
        "5",
        "1234",
        "12.3k",
        "1.2M",
        "2.0G",
    ]
    assert plain("a" * 50, 10) == "a" * 9 + "~"


def test_a_line_of_bars() -> None:
    assert spark([0, 1, 2, None, 7], 10) == "▁▂▃ █"
    assert spark([0, 5, 1, 2, 7], 3) == "▆▃█"
    assert spark([], 5) == spark([1], 0) == ""
    assert spark([0, 0], 5, ascii=True) == "__"


@given(st.lists(st.one_of(st.none(), st.floats(0, 1e6)), max_size=200), st.integers(1, 50))
def test_a_line_is_never_too_long(values: list[float | None], width: int) -> None:
    assert len(spark(values, width)) <= width


async def test_against_a_gateway(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    server = {"admin_keys": ["boss"], "keys": ["other"]}
    async with ScriptedUpstream(Script(tokens=("a", "b", "c"))) as up, gateway(up, server=server) as gw:

        async def top(*args: str) -> int:
            return await asyncio.to_thread(main, ["top", *args])

        for _ in range(3):
            await gw.chat(stream=True, headers={"x-api-key": "boss"})
        await sealed(gw)
        assert await top(gw.url, "--key", "boss", "--once") == 0
        shown = capsys.readouterr().out
        assert "\x1b" not in shown
        for said in (f"127.0.0.1:{gw.port}", "1 worker ", "3 asked", "e0", "ok", "100.0%"):
            assert said in shown
        monkeypatch.setenv("HASTEN_KEY", "boss")
        assert await top(f"127.0.0.1:{gw.port}/v1") == 0  # no terminal: one screen
        capsys.readouterr()
        for args in (("--key", "other"), ("--key", "unknown"), ("--key", "")):
            assert await top(gw.url, "--once", *args) == 1
            assert "--key or in $HASTEN_KEY" in capsys.readouterr().err
        assert await top(gw.url, "--every", "0") == 1
        assert "--every" in capsys.readouterr().err


async def test_what_is_no_gateway(capsys: pytest.CaptureFixture[str]) -> None:
    async with ScriptedUpstream() as up:
        url = up.base_url.removesuffix("/v1")
        assert await asyncio.to_thread(main, ["top", url, "--once"]) == 1
        assert "not as a Hasten" in capsys.readouterr().err
    for wrong in (url, "127.0.0.1:99999", "http://"):
        assert await asyncio.to_thread(main, ["top", wrong, "--once"]) == 1
        assert "no gateway at" in capsys.readouterr().err


async def test_the_pages_need_no_other_key_than_the_others() -> None:
    async with (
        ScriptedUpstream() as up,
        gateway(up, server={"admin_keys": ["boss"], "keys": ["other"]}) as gw,
    ):
        found: list[httpx.Response] = []
        for path in ("/admin/overview", "/admin/requests", "/admin/requests/x"):
            found.append(await gw.http.get(path, headers={"x-api-key": "other"}))
        assert [answer.status_code for answer in found] == [403] * 3
