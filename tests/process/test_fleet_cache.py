"""Two workers with a cache each: what one is told to forget, neither serves."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx

from hasten.testing import Script, ScriptedUpstream
from tests.process.test_serve import config_text, served

BODY = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
ORDERS = (
    ("invalidate", {"all": True}),
    ("invalidate", {"models": ["m"]}),
    ("invalidate", {"tenant": ""}),
    ("purge", {"tenant": ""}),
)


def config(up: ScriptedUpstream) -> str:
    settings = config_text(up)
    for part in ("exact", "coalesce"):
        settings = settings.replace(f"{part}: false", f"{part}: true")
    return settings


async def ask(http: httpx.AsyncClient) -> httpx.Response:
    """Ask on a connection of its own: any worker may answer."""
    return await http.post("/v1/chat/completions", json=BODY, headers={"connection": "close"})


async def fill(http: httpx.AsyncClient, up: ScriptedUpstream, calls: int) -> None:
    """Ask until both workers answer from their caches, after ``calls`` calls of the engine in all."""
    async with asyncio.timeout(20):
        while len(up.requests) < calls:
            await asyncio.gather(*(ask(http) for _ in range(4)))
    answers = [await ask(http) for _ in range(10)]
    assert {a.headers["x-hasten-cache"] for a in answers} == {"exact"}
    assert len(up.requests) == calls


async def test_what_one_worker_is_told_all_do(tmp_path: Path) -> None:
    async with (
        ScriptedUpstream() as up,
        served(tmp_path, config(up), "--workers", "2") as gw,
        gw.client() as http,
    ):
        for turn, (action, body) in enumerate(ORDERS):
            await fill(http, up, 2 * turn + 2)
            up.script = Script(tokens=(f"turn {turn}",))
            answer = await http.post(f"/admin/cache/{action}", json=body)
            assert answer.status_code == 200, answer.text
            answers = await asyncio.gather(*(ask(http) for _ in range(20)))
            assert all(f"turn {turn}" in answer.text for answer in answers), (action, body)


async def test_an_idle_worker_purges_too(tmp_path: Path) -> None:
    async with (
        ScriptedUpstream() as up,
        served(tmp_path, config(up), "--workers", "2") as gw,
        gw.client() as http,
    ):
        await fill(http, up, 2)
        page = (await http.get("/admin/cache")).json()
        assert page["totals"]["workers"] == 2
        await http.post("/admin/cache/purge", json={"tenant": ""})
        async with asyncio.timeout(3):
            while (await http.get("/admin/cache")).json()["entries"]:
                await asyncio.sleep(0.1)
