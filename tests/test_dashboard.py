"""The dashboard: who may see what, and that texts of strangers stay texts."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from hasten.cache.report import Look
from hasten.dashboard.page import all_pages
from hasten.testing import ScriptedUpstream
from tests.gateway import gateway

EXACT = {"semantic": False}
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DUMP = ("--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=2000", "--dump-dom")
EVIL = "<img src=x onerror=\"document.title='pwned'\"><script>document.title='pwned'</script>"


async def test_the_page_needs_no_key_but_its_data_does() -> None:
    async with (
        ScriptedUpstream() as up,
        gateway(up, cache=EXACT, server={"keys": ["key-of-acme-1234"]}) as gw,
    ):
        for path in ("/dashboard", "/dashboard/cache", "/dashboard/route"):
            shown = await gw.http.get(path)
            assert shown.status_code == 200
            assert shown.headers["content-type"] == "text/html; charset=utf-8"
            assert "connect-src 'self'" in shown.headers["content-security-policy"]
            assert shown.headers["content-security-policy"].startswith("default-src 'none'")
        assert (await gw.http.get("/admin/cache")).status_code == 401
        key = {"authorization": "Bearer key-of-acme-1234"}
        assert (await gw.http.get("/admin/cache", headers=key)).status_code == 200


async def test_what_it_reads() -> None:
    async with ScriptedUpstream() as up, gateway(up, cache=EXACT) as gw:
        for _ in range(3):
            await gw.chat()
        await gw.chat(headers={"x-hasten-cache": "bypass"})
        told = (await gw.http.get("/admin/cache")).json()
        assert told["totals"]["requests"] == {"miss": 1, "exact": 2, "bypass": 1}
        assert told["totals"]["bypassed"] == {"asked": 1}
        assert told["totals"]["saved_tokens"]["output"] == 14
        assert told["totals"]["saved_seconds"] > 0
        assert told["totals"]["false_hit_rate"] == {}
        assert told["entries"] == told["totals"]["workers"] == 1
        assert 0 < told["bytes"] < told["max_bytes"]
        assert told["semantic"] is None


@pytest.mark.parametrize("path", sorted(all_pages()))
def test_nothing_is_written_as_markup_or_loaded_from_elsewhere(path: str) -> None:
    reply = all_pages()[path]
    headers = dict(reply.headers)
    assert headers[b"x-content-type-options"] == b"nosniff"
    if reply.content_type.startswith(b"text/html"):
        policy = headers[b"content-security-policy"].decode()
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
        assert "unsafe" not in policy
    if "uPlot" in path:  # not ours, as it was made; held by the policy all the same
        return
    if path.endswith(".svg"):  # names its language by an address
        return
    text = reply.body.decode()
    for forbidden in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "://",
        " style=",
        "<script>",
        "<style",
    ):
        assert forbidden not in text


async def test_browsers_ask_whether_a_page_has_changed() -> None:
    async with ScriptedUpstream() as up, gateway(up) as gw:
        for path in ("/dashboard/cache", "/dashboard/assets/hasten.js"):
            first = await gw.http.get(path)
            again = await gw.http.get(path, headers={"if-none-match": first.headers["etag"]})
            assert (again.status_code, again.content) == (304, b"")
            assert again.headers["content-length"] == first.headers["content-length"]
            other = await gw.http.get(path, headers={"if-none-match": '"other"'})
            assert (other.status_code, other.content) == (200, first.content)
        assert first.headers["content-type"] == "text/javascript; charset=utf-8"
        assert (await gw.http.get("/dashboard/assets/nothing.js")).status_code == 404


async def browse(url: str, folder: Path) -> str:
    """Return the document that a browser makes of a page."""
    browser = await asyncio.create_subprocess_exec(
        CHROMIUM or "", *DUMP, f"--user-data-dir={folder}", url,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    return (await browser.communicate())[0].decode()


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
async def test_a_browser_shows_a_question_as_text(tmp_path: Path) -> None:
    async with ScriptedUpstream() as up, gateway(up, cache=EXACT) as gw:
        assert gw.worker.app.cache is not None
        gw.worker.app.cache.report.add(Look("", f"new {EVIL} same", f"{EVIL} same", 1.5, "hit", EVIL))
        gw.worker.app.cache.report.add(Look("", "What is it?", "What was it?", None, "refused", "tense"))
        shown = await browse(f"{gw.url}/dashboard/cache", tmp_path)
    assert "<title>Cache · Hasten</title>" in shown
    assert "<img" not in shown
    assert "<script>" not in shown
    assert "<mark>was</mark>" in shown
    assert "&lt;img" in shown
    assert "× refused" in shown


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
async def test_a_browser_shows_what_routing_saves(tmp_path: Path) -> None:
    route = {"holdback": 0.5, "sticky": 0, "hold": {"strong_share": 0}, "learn": {"share": 1.0}}
    models = {
        "small": {"engines": ["e0"], "price": {"output": 1}},
        "large": {"engines": ["e1"], "price": {"output": 10}},
        "m": {"tiers": ["small", "large"], "route": route},
    }
    async with ScriptedUpstream() as small, ScriptedUpstream() as large:
        async with gateway(small, large, models=models) as gw:
            for i in range(20):
                messages = [{"role": "user", "content": f"{i}"}]
                answer = await gw.chat(messages=messages)
                judged = {"id": answer.headers["x-request-id"], "label": "good"}
                await gw.http.post("/v1/feedback", json=judged)
            shown = await browse(f"{gw.url}/dashboard/route", tmp_path)
        async with gateway(small) as gw:
            nothing = await browse(f"{gw.url}/dashboard/route", tmp_path)
    assert "<title>Routing · Hasten</title>" in shown
    assert 'href="/dashboard/cache"' in shown
    for text in (
        "Requests by tier",
        "share of the strongest tier",
        "Cost a request",
        "better",
        "saved in all",
    ):
        assert text in shown
    assert "log loss of the last" in shown
    assert "Nothing is routed" in nothing
