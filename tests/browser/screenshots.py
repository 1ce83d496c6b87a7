"""Take the pictures of the dashboard for the documentation.

    make screenshots ARGS='--minutes 6 --folder docs/images'

A gateway is put under load for some minutes, for a while with slow engines; then the page is photographed.
"""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

import uvloop

from tests.browser.chromium import Tab, browser
from tests.browser.demo import asked, house

LIMIT = 200_000  # bytes a picture
SHOTS = (
    ("dashboard-light", 1280, 1000, "light"),
    ("dashboard-dark", 1280, 1000, "dark"),
    ("dashboard-390", 390, 844, "light"),
)


async def take(minutes: float, folder: Path) -> None:
    """Write the pictures; raise ``ValueError`` where one is too large."""
    folder.mkdir(parents=True, exist_ok=True)
    async with house() as gw, asked(gw, rate=9.0), browser() as open_tab:
        await asyncio.sleep(45 * minutes)
        async with asked(gw, rate=14.0, slow=1.9):
            await asyncio.sleep(5 * minutes)
        await asyncio.sleep(10 * minutes)
        for name, width, height, theme in SHOTS:
            tab: Tab = await open_tab(f"{gw.url}/dashboard", width, theme)
            await tab.page.set_viewport_size({"width": width, "height": height})
            await tab.until("document.querySelectorAll('#requests tbody tr').length > 5")
            await asyncio.sleep(1)
            picture = await tab.page.screenshot(path=folder / f"{name}.png")
            if len(picture) > LIMIT:
                raise ValueError(f"{name}.png has {len(picture)} bytes, more than {LIMIT}")
            print(f"{folder / name}.png  {len(picture)} bytes")
            await tab.page.close()


def main() -> None:
    """Take the pictures as the arguments say."""
    parser = argparse.ArgumentParser(prog="python -m tests.browser.screenshots")
    parser.add_argument("--minutes", type=float, default=6.0, help="of load, before the pictures")
    parser.add_argument("--folder", type=Path, default=Path("docs/images"))
    args = parser.parse_args()
    uvloop.run(take(args.minutes, args.folder))


if __name__ == "__main__":
    main()
