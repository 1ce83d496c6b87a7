"""The dashboard's data over HTTP: counts of all requests, who sees what, what may be asked."""

from __future__ import annotations

from hasten.testing import Script, ScriptedUpstream
from tests.gateway import gateway


async def test_over_http() -> None:
    async with ScriptedUpstream(Script(tokens=("a", "b", "c"))) as up, gateway(up) as gw:
        for _ in range(3):
            await gw.chat(stream=True)
        await gw.chat(model="none")
        for keeper in gw.worker.metrics.watch.keepers(None):
            await keeper.turn()
        shown = (await gw.http.get("/admin/overview")).json()
        assert shown["engines"] == [
            {"name": "e0", "provider": "openai", "state": "ok", "in_flight": 0, "load": None}
        ]
        assert shown["workers"] == 1
        found = (await gw.http.get("/admin/requests?limit=2")).json()["requests"]
        assert len(found) == 2
        assert found[0]["e2e_ms"] >= found[1]["e2e_ms"]
        assert (await gw.http.get(f"/admin/requests/{found[0]['id']}")).json() == found[0]
