"""A page in Debian's Chromium, watched: a test fails if the page breaks its policy, throws, or asks another server."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal

from playwright.async_api import ConsoleMessage, Locator, Page, Request, async_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
AXE = Path("/tmp/pk/axe-core/package/axe.min.js")
UNITS = {"ms": 1e-3, "s": 1.0, "min": 60.0}


@contextlib.asynccontextmanager
async def browsing(
    url: str, width: int = 1280, scheme: Literal["light", "dark"] = "light"
) -> AsyncIterator[Page]:
    """Yield an empty page for the gateway at ``url``."""
    wrong: list[str] = []

    def said(message: ConsoleMessage) -> None:
        if message.type == "error" and not message.text.startswith("Failed to load resource: the server"):
            wrong.append(message.text)

    def asked(request: Request) -> None:
        if not request.url.startswith((url, "data:")):
            wrong.append(request.url)

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = await browser.new_page(viewport={"width": width, "height": 844}, color_scheme=scheme)
        page.on("console", said)
        page.on("request", asked)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        yield page
        await browser.close()
    assert wrong == []


async def seconds(place: Locator, name: str) -> float:
    """Return the time that stands under ``name`` in the figures of ``place``."""
    shown = await place.locator(".figures div", has_text=re.compile(f"^{name}")).locator("dd").inner_text()
    value, unit = shown.replace("\xa0", " ").split(" ")
    return float(value) * UNITS[unit]


async def serious(page: Page) -> list[str]:
    """Return what axe-core finds that would keep somebody from using the page."""
    await page.evaluate(AXE.read_text())
    found = await page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
    return [
        f"{v['id']}: {[n['html'][:120] + str(n['any'][:1]) for n in v['nodes'][:3]]}"
        for v in found["violations"]
        if v["impact"] in ("serious", "critical")
    ]
