"""The dashboard as people see it, in a browser: live numbers, waterfalls, keys, keyboards, narrow and dark screens."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

pytest.importorskip("playwright", reason="needs Playwright, which is not installed")

from hasten.testing import ScriptedUpstream
from tests.browser.chromium import Tab, browser, needs_chromium
from tests.browser.demo import asked, house
from tests.gateway import Gateway, gateway
from tests.measure.test_overview import sealed

pytestmark = needs_chromium

RATE = 12.0
LOADED = "document.querySelector('#tiles .big').textContent.includes('p95')"
ROWS = "document.querySelectorAll('#requests tbody tr').length >= 3"
UNITS = {"ms": 1.0, "s": 1e3}


def milliseconds(text: str) -> float:
    """Return the time that a page says."""
    found = re.match(r"([\d.]+)\s*(ms|s)", text)
    assert found is not None, text
    return float(found[1]) * UNITS[found[2]]


async def metric(gw: Gateway, measure: str, quantile: str) -> float:
    """Return milliseconds of the last five minutes, from the metrics page."""
    labels = f'measure="{measure}",dimension="all",value="",window="5m",quantile="{quantile}"'
    found = re.search(rf"hasten_latency_seconds{{{re.escape(labels)}}} (\S+)", await gw.metrics())
    return 1e3 * float(found[1]) if found is not None else 0.0


async def p95(tab: Tab, tile: int) -> float:
    """Return what a tile's p95 says."""
    return milliseconds(await tab.text(f"#tiles .tile:nth-child({tile}) .percentile:nth-child(3) b"))


async def test_the_numbers_are_live_and_those_of_the_metrics() -> None:
    async with house() as gw, browser() as open_tab:
        tab: Tab = await open_tab(f"{gw.url}/dashboard")
        await tab.until("document.querySelector('#curl').textContent.includes('small-8b')")
        await tab.page.locator("#empty").wait_for()
        async with asked(gw, RATE):
            await tab.until(LOADED)
            await tab.page.locator("#empty").wait_for(state="hidden")
            first = await tab.text("#said")
            await tab.until(f"document.querySelector('#said').textContent !== {first!r}")
            await asyncio.sleep(3)
        await asyncio.sleep(1)  # what the workers tell each other
        chats = sum(
            map(int, re.findall(r'hasten_requests_total{endpoint="chat",.*} (\d+)', await gw.metrics()))
        )
        await tab.until(f"document.querySelector('#said').textContent.startsWith('{chats} requests')")
        for tile, measure in enumerate(("ttft", "tpot", "e2e"), start=1):
            assert await p95(tab, tile) == pytest.approx(await metric(gw, measure, "0.95"), rel=0.01)
        assert tab.wrong == []


async def test_from_a_percentile_to_a_requests_waterfall_by_keyboard() -> None:
    async with house() as gw, browser() as open_tab:
        async with asked(gw, RATE):
            tab: Tab = await open_tab(f"{gw.url}/dashboard")
            await tab.until(LOADED)
            await asyncio.sleep(2)
        await tab.until(ROWS)
        page = tab.page
        for _ in range(25):
            await page.keyboard.press("Tab")
            if (await page.evaluate("document.activeElement.textContent")).startswith("TTFT p95"):
                break
        async with page.expect_response(re.compile(r"measure=ttft&near=p95")) as answered:
            await page.keyboard.press("Enter")
        told = await (await answered.value).json()
        await tab.until(
            "document.querySelector('#requests-said').textContent.includes('TTFT is nearest to the p95')"
        )
        assert await page.evaluate("document.activeElement.id") == "requests-title"
        distances = [abs(found["ttft_ms"] - told["value_ms"]) for found in told["requests"]]
        assert distances == sorted(distances)

        for _ in range(12):
            await page.keyboard.press("Tab")
            if await page.evaluate("document.activeElement.className") == "open":
                break
        await page.keyboard.press("Enter")
        await tab.until("document.querySelector('#request').open")
        parts = await page.eval_on_selector_all(
            "#request tbody td[data-ms]", "cells => cells.map(c => +c.dataset.ms)"
        )
        assert sum(parts) == pytest.approx(told["requests"][0]["e2e_ms"], rel=0.01, abs=0.1)
        total = milliseconds(await tab.text("#request .total"))
        assert total == pytest.approx(sum(parts), rel=0.01)
        assert told["requests"][0]["id"] in await tab.text("#request dl")
        assert await tab.violations() == []
        await page.keyboard.press("Escape")
        assert not await page.evaluate("document.querySelector('#request').open")
        assert await page.evaluate("document.activeElement.className") == "open"
        assert tab.wrong == []


async def test_a_link_to_one_request() -> None:
    async with house() as gw, browser() as open_tab:
        await gw.chat(headers={"x-request-id": "mine:1"})
        gw.worker.metrics.flush()
        tab: Tab = await open_tab(f"{gw.url}/dashboard#request=mine%3A1")
        await tab.until("document.querySelector('#request dl')?.textContent.includes('mine:1')")
        assert tab.wrong == []


AMPLE, OWN = {"e2e_p95_ms": 60_000}, {"models": {"m": {"e2e_p99_ms": 0.001}}}
OWNERS = OWN | {"tenants": {"acme": {"e2e_p95_ms": 0.001}}}


@pytest.mark.parametrize(
    ("slo", "key", "said"),
    [
        (
            AMPLE | OWNERS,
            "k-boss",
            "All requests together meet every limit over the last 5 minutes, but model m misses its E2E p95 and"
            " E2E p99; tenant acme misses its E2E p95.",
        ),
        (AMPLE, "k-boss", "Yes: every limit is met over the last 5 minutes."),
        (AMPLE | OWN, "k-acme", "Yes: all requests together meet every limit over the last 5 minutes."),
        (OWN, "k-boss", "Model m misses its E2E p99."),
        ({"errors": 0.1}, "k-boss", "Half of the requests took at most"),
    ],
)
async def test_it_claims_no_more_than_is_met(slo: dict[str, Any], key: str, said: str) -> None:
    tenants = {"acme": {"keys": ["k-acme"]}}
    server = {"admin_keys": ["k-boss"]} if key == "k-boss" else {}
    async with (
        ScriptedUpstream() as up,
        gateway(up, slo=slo, tenants=tenants, server=server) as gw,
        browser() as open_tab,
    ):
        for _ in range(6):
            await gw.chat(headers={"x-api-key": "k-acme"})
        await gw.chat(model="nobody", headers={"x-api-key": "k-acme"})
        await sealed(gw)
        tab: Tab = await open_tab(f"{gw.url}/dashboard")
        await tab.page.locator("#key").fill(key)
        await tab.page.keyboard.press("Enter")
        await tab.until("document.querySelector('#requests-kept').textContent !== ''")
        assert (await tab.text("#fast-said")).startswith(said)
        assert await tab.text("#models .value") == "6 · 100\xa0%"
        assert (await tab.text("#requests-kept")).startswith("6 kept of 6 requests that came out well: ")
        await tab.page.locator("#nears button").last.click()
        await tab.until("document.querySelector('#requests-kept').textContent.startsWith('1 kept: the last')")


async def test_alerts_are_told_pages_first_with_whose_they_are() -> None:
    fires = {("errors", "all"): "ticket", ("e2e_p95", "model"): "ticket page", ("errors", "model"): "page"}

    async def alarmed(route: Any) -> None:
        told = await (await route.fetch()).json()
        for row in told["slo"]["scopes"]:
            for objective, state in row["objectives"].items():
                on = fires.get((objective, row["dimension"]), "").split()
                state["alerts"] = {severity: severity in on for severity in ("page", "ticket")}
        await route.fulfill(json=told)

    slo = AMPLE | {"errors": 0.1, "models": {"m": {"errors": 0.01}}}
    async with ScriptedUpstream() as up, gateway(up, slo=slo) as gw, browser() as open_tab:
        await gw.chat()
        tab: Tab = await open_tab("about:blank")
        await tab.page.route("**/admin/overview", alarmed)
        await tab.page.goto(f"{gw.url}/dashboard")
        await tab.until("document.querySelector('#healthy-said').textContent !== ''")
        said = await tab.text("#healthy-said")
        assert said == "Pages fire for errors of model m, e2e p95 of model m; a ticket fires for errors."


async def test_it_asks_for_a_key_where_keys_are_configured() -> None:
    async with (
        ScriptedUpstream() as up,
        gateway(up, server={"keys": ["key-of-acme-1234"]}) as gw,
        browser() as open_tab,
    ):
        tab: Tab = await open_tab(f"{gw.url}/dashboard")
        await tab.page.locator("#key").fill("wrong")
        await tab.page.keyboard.press("Enter")
        await tab.until("document.querySelector('#door-why').textContent.includes('refused')")
        await tab.page.locator("#tiles").wait_for(state="hidden")
        await tab.page.locator("#key").fill("key-of-acme-1234")
        await tab.page.keyboard.press("Enter")
        await tab.until("document.querySelector('#state').textContent === 'live'")
        await tab.page.locator("#door").wait_for(state="hidden")
        assert "$KEY" in await tab.text("#curl")
        assert {"401" in said for said in tab.wrong} == {True}


async def test_it_says_when_the_gateway_is_gone_and_recovers() -> None:
    async with ScriptedUpstream() as up, gateway(up) as gw, browser() as open_tab:
        tab: Tab = await open_tab(f"{gw.url}/dashboard")
        await tab.until("document.querySelector('#state').textContent === 'live'")
        await tab.page.route("**/admin/**", lambda route: route.abort())
        await tab.until("document.querySelector('#state').textContent.includes('no answer')")
        await tab.page.unroute("**/admin/**")
        await tab.until("document.querySelector('#state').textContent === 'live'")


@pytest.mark.parametrize("path", ["", "/cache", "/route"])
async def test_everybody_can_use_it_and_it_fits_a_telephone(path: str) -> None:
    async with house() as gw, browser() as open_tab:
        async with asked(gw, RATE):
            await asyncio.sleep(2.5)
        tab: Tab = await open_tab(f"{gw.url}/dashboard{path}")
        await tab.until("document.querySelector('#state').textContent === 'live'")
        assert await tab.violations() == []
        assert await tab.overflow() <= 0
        for chosen in ("light", "dark"):
            await tab.page.locator("#theme").click()
            assert await tab.page.evaluate("document.documentElement.dataset.theme") == chosen
        await tab.page.set_viewport_size({"width": 390, "height": 800})
        await tab.until("document.documentElement.scrollWidth <= innerWidth")
        if not path:
            await tab.page.locator("#tables").click()
            await tab.page.locator("#tiles .numbers").first.wait_for()
            await tab.until("document.documentElement.scrollWidth <= innerWidth")
        assert await tab.violations() == []
        assert tab.wrong == []
