"""Two workers with a router each: a judgement finds the request, whichever of them answered it, and teaches both."""

from __future__ import annotations

import asyncio
from pathlib import Path

from hasten.testing import ScriptedUpstream
from tests.process.test_serve import config_text, served

ALONE = {"connection": "close"}  # on a connection of its own: any worker may answer


async def test_judgements_reach_every_worker(tmp_path: Path) -> None:
    async with ScriptedUpstream() as up:
        text = config_text(up).replace(
            "models: {m: {engines: [up]}}",
            "models: {small: {engines: [up]}, large: {engines: [up]}, m: {tiers: [small, large], route: "
            "{holdback: 0, sticky: 0, hold: {strong_share: 0}, learn: {share: 1}}}}",
        )
        async with served(tmp_path, text, "--workers", "2") as gw, gw.client() as http:

            async def judged(i: int) -> None:
                ask = {"model": "m", "messages": [{"role": "user", "content": f"hi {i}"}]}
                answer = await http.post("/v1/chat/completions", json=ask, headers=ALONE)
                said = {"id": answer.headers["x-request-id"], "label": "bad"}
                for counted in (True, False):
                    told = await http.post("/v1/feedback", json=said, headers=ALONE)
                    assert told.status_code == 200, told.text
                    assert told.json()["counted"] is counted

            await asyncio.gather(*(judged(i) for i in range(40)))
            pages = [(await http.get("/admin/route", headers=ALONE)).json()["models"]["m"] for _ in range(12)]
            assert {page["learning"]["examples"] for page in pages} == {40}
            assert len({page["learning"]["b"] for page in pages}) == 1
            assert all(page["feedback"] == {"small": {"bad": 40}} for page in pages)
            await http.post("/admin/route/reset", json={}, headers=ALONE)
            pages = [(await http.get("/admin/route", headers=ALONE)).json()["models"]["m"] for _ in range(12)]
            assert {page["learning"]["examples"] for page in pages} == {0}
