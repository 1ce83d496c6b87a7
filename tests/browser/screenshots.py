"""Take the pictures of the dashboard and the playground for the documentation.

    make screenshots ARGS='--minutes 6 --folder docs/images'

A gateway is put under load for some minutes, for a while with slow engines; then the page is photographed.
"""

from __future__ import annotations

import argparse
import asyncio
import re
from pathlib import Path

import uvloop

from hasten.testing import Script, ScriptedUpstream
from tests.browser.chromium import Tab, browser
from tests.browser.demo import asked, house
from tests.gateway import gateway

LIMIT = 200_000  # bytes a picture
SHOTS = (
    ("dashboard-light", 1280, 1000, "light"),
    ("dashboard-dark", 1280, 1000, "dark"),
    ("dashboard-390", 390, 844, "light"),
)
PLAY = {
    "small-8b": {"engines": ["e0"]},
    "large-70b": {"engines": ["e1"]},
    "auto": {"tiers": ["small-8b", "large-70b"], "route": {"hold": {"strong_share": 0.3}, "holdback": 0}},
}
ANSWER = """Open it in a `with` block and loop over it: no more than a line is in memory at a time.

```python
with open("notes.txt", encoding="utf-8") as file:
    for line in file:
        print(line.rstrip())
```

Each line keeps its end, hence `rstrip()`. After the block the file is closed, also where an error left it."""


async def take(minutes: float, folder: Path) -> None:
    """Write the pictures of the dashboard."""
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
            keep(folder / f"{name}.png", await tab.page.screenshot())
            await tab.page.close()


async def take_play(folder: Path) -> None:
    """Write the picture of the playground: one message, a small model that routing chose and a large one."""
    words = tuple(re.split("(?<= )", ANSWER))
    async with (
        ScriptedUpstream(Script(tokens=words, ttft=0.14, itl=0.009)) as small,
        ScriptedUpstream(Script(tokens=words, ttft=0.45, itl=0.021)) as large,
        gateway(small, large, models=PLAY, cache={"semantic": False}) as gw,
        browser() as open_tab,
    ):
        tab: Tab = await open_tab(f"{gw.url}/play", 1280)
        page = tab.page
        await page.set_viewport_size({"width": 1280, "height": 950})
        await page.check("#compare")
        for side, model in (("a", "auto"), ("b", "large-70b")):
            await page.select_option(f"#model-{side}", model)
        for text in (
            "Hello",
            "How do I read a file line by line in Python?",
        ):  # connections are made by the first
            await page.click("#new")
            await page.fill("#prompt", text)
            await page.press("#prompt", "Enter")
            await page.locator(".verdict").wait_for()
        for summary in await page.locator(".time summary").all():
            await summary.click()
        await page.focus("#prompt")
        await page.evaluate("scrollTo(0, 0)")
        await asyncio.sleep(1)
        keep(folder / "playground.png", await page.screenshot())


def keep(path: Path, picture: bytes) -> None:
    """Write a picture; raise ``ValueError`` where it is too large."""
    if len(picture) > LIMIT:
        raise ValueError(f"{path.name} has {len(picture)} bytes, more than {LIMIT}")
    path.write_bytes(picture)
    print(f"{path}  {len(picture)} bytes")


def main() -> None:
    """Take the pictures as the arguments say."""
    parser = argparse.ArgumentParser(prog="python -m tests.browser.screenshots")
    parser.add_argument(
        "--minutes",
        type=float,
        default=6.0,
        help="of load, before the pictures of the dashboard; 0: without them",
    )
    parser.add_argument("--folder", type=Path, default=Path("docs/images"))
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    uvloop.run(take_play(args.folder))
    if args.minutes:
        uvloop.run(take(args.minutes, args.folder))


if __name__ == "__main__":
    main()
