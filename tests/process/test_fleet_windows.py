"""Two workers: whichever is asked for percentiles and objectives tells those of both."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx

from hasten.testing import ScriptedUpstream
from tests.process.test_serve import ASK, config_text, served

SLO = "slo: {e2e_p95_ms: 60000, errors: 0.01}\n"


async def page(http: httpx.AsyncClient, name: str) -> dict[str, Any]:
    """Ask on a connection of its own: any worker may answer."""
    answer = await http.get(f"/admin/{name}", headers={"connection": "close"})
    return dict(answer.json())


async def counted(http: httpx.AsyncClient) -> tuple[int, float]:
    """Return the requests of the last minute, and how many a second of the last five were good."""
    rows = (await page(http, "latency"))["windows"]["1m"]
    goodput = (await page(http, "slo"))["scopes"][0]["goodput"].get("5m", {"per_second": 0.0})
    return sum(row["e2e"]["n"] for row in rows if row["dimension"] == "all"), goodput["per_second"]


async def seen(http: httpx.AsyncClient) -> tuple[int, int, frozenset[str]]:
    """Return the workers, the requests of the last five minutes and those that are kept."""
    overview = await page(http, "overview")
    kept = (await page(http, "requests?window=5m&limit=100"))["requests"]
    ids = frozenset(request["id"] for request in kept)
    assert 12 <= len(ids) == len(kept) or overview["windows"]["5m"]["requests"] < 20
    return overview["workers"], overview["windows"]["5m"]["requests"], ids


async def test_windows_are_of_all_workers(tmp_path: Path) -> None:
    async with (
        ScriptedUpstream() as up,
        served(tmp_path, config_text(up) + SLO, "--workers", "2") as gw,
        gw.client() as http,
    ):
        for _ in range(20):
            answer = await http.post("/v1/chat/completions", json=ASK, headers={"connection": "close"})
            assert answer.status_code == 200
        async with asyncio.timeout(40):
            while {await counted(http) for _ in range(8)} != {(20, 20 / 300)}:
                await asyncio.sleep(0.5)
        async with asyncio.timeout(40):
            while len(told := {await seen(http) for _ in range(8)}) > 1 or next(iter(told))[:2] != (2, 20):
                await asyncio.sleep(0.5)
        text = (await http.get("/metrics")).text
        assert 'hasten_latency_values{measure="e2e",dimension="all",value="",window="1m"} 20' in text
        assert 'hasten_slo_budget_left{dimension="all",value="",objective="errors"} 1' in text
