"""Two workers: whichever is asked for percentiles tells those of both."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from hasten.testing import ScriptedUpstream
from tests.process.test_serve import ASK, config_text, served


async def counted(http: httpx.AsyncClient) -> int:
    """Ask on a connection of its own, so any worker may answer, how many requests the last minute had."""
    answer = await http.get("/admin/latency", headers={"connection": "close"})
    rows = answer.json()["windows"]["1m"]
    return sum(row["e2e"]["n"] for row in rows if row["dimension"] == "all")


async def test_percentiles_are_of_all_workers(tmp_path: Path) -> None:
    async with (
        ScriptedUpstream() as up,
        served(tmp_path, config_text(up), "--workers", "2") as gw,
        gw.client() as http,
    ):
        for _ in range(20):
            answer = await http.post("/v1/chat/completions", json=ASK, headers={"connection": "close"})
            assert answer.status_code == 200
        async with asyncio.timeout(20):
            while [await counted(http) for _ in range(8)] != [20] * 8:
                await asyncio.sleep(0.5)
        page = (await http.get("/metrics")).text
        assert 'hasten_latency_values{measure="e2e",dimension="all",value="",window="1m"} 20' in page
        assert float(page.split('quantile="0.5"} ')[1].split()[0]) == pytest.approx(0.02, rel=10)
