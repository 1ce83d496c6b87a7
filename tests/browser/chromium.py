"""A browser for tests: Chromium as the system has it, driven by Playwright; without them the tests are skipped."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, async_playwright


def _starts(path: str) -> bool:
    """Return whether there is a browser behind ``path``: Ubuntu's is a script that asks for a snap."""
    try:
        return subprocess.run([path, "--version"], capture_output=True, timeout=10).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _find() -> str | None:
    found = map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))
    return next((path for path in found if path is not None and _starts(path)), None)


CHROMIUM = _find()
AXE = Path(__file__).parent / "vendor" / "axe.min.js"

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium, which is not installed")


#: Seconds that a busy machine may take for what an idle one does at once.
PATIENCE = 90.0


class Tab:
    """One page of a browser, and what went wrong on it."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.wrong: list[str] = []
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("console", lambda said: self.wrong.append(said.text) if said.type == "error" else None)

    async def text(self, selector: str) -> str:
        """Return what stands in the first element found."""
        return await self.page.locator(selector).first.inner_text()

    async def until(self, condition: str, seconds: float = PATIENCE) -> None:
        """Wait for an expression of the page's to be true; Playwright's own wait needs ``eval``."""
        async with asyncio.timeout(seconds):
            while not await self.page.evaluate(condition):
                await asyncio.sleep(0.05)

    async def overflow(self) -> int:
        """Return by how many pixels the page is wider than the window."""
        return int(await self.page.evaluate("document.documentElement.scrollWidth - innerWidth"))

    async def violations(self) -> list[str]:
        """Return what axe finds serious or critical."""
        await self.page.evaluate(AXE.read_text() + "; null")
        found: dict[str, Any] = await self.page.evaluate("axe.run()")
        return [
            f"{rule['id']} ({rule['impact']}): {node['html'][:200]}"
            for rule in found["violations"]
            if rule["impact"] in ("serious", "critical")
            for node in rule["nodes"]
        ]


@contextlib.asynccontextmanager
async def browser() -> AsyncIterator[Any]:
    """Start a browser; yield ``open(url, width=1280, theme="light")``, which returns a :class:`Tab`."""
    async with async_playwright() as playwright:
        started = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])

        async def tab(url: str, width: int = 1280, theme: Any = "light") -> Tab:
            page = await started.new_page(
                viewport={"width": width, "height": 900}, color_scheme=theme, reduced_motion="reduce"
            )
            page.set_default_timeout(PATIENCE * 1000)
            made = Tab(page)
            await page.goto(url)
            return made

        try:
            yield tab
        finally:
            await started.close()
