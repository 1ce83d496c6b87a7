"""The playground in a browser: what streams, what is measured, what a stranger's text can do, and who can use it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest

pytest.importorskip("playwright", reason="needs Playwright, which is not installed")

from playwright.async_api import Locator, expect

from hasten.testing import Script, ScriptedUpstream
from tests.browser.chromium import Tab, browser, needs_chromium
from tests.gateway import Gateway, eventually, gateway

pytestmark = needs_chromium
expect.set_options(timeout=60_000)  # of a busy machine; nothing waits that long

EXACT = {"semantic": False}
EVIL = "<img src=x onerror=\"document.title='pwned'\"><script>document.title='pwned'</script>"

#: All line ends, comments, several data lines, characters of two to four bytes, an unfinished event.
STREAM = (
    ": c\r\ndata: a\r\n\r\ndata: b\ndata:c\u2028\n\n\revent: error\rdata: é…😀\r\rdata\n\nid: 3\n\ndata: cut"
)
EVENTS = [["message", "a"], ["message", "b\nc\u2028"], ["error", "é…😀"], ["message", ""]]
CUT = """async ([text, size]) => {
  const { events } = await import("/dashboard/assets/stream.js"), bytes = new TextEncoder().encode(text), found = [];
  let at = 0;
  const pull = to => { at < bytes.length ? to.enqueue(bytes.slice(at, at += size)) : to.close(); };
  const body = new ReadableStream({ pull });
  for await (const { type, data } of events(body)) found.push([type, data]);
  return found;
}"""


@contextlib.asynccontextmanager
async def playing(gw: Gateway, state: str = "ready", **window: Any) -> AsyncIterator[Tab]:
    """Open the playground; fail if it throws, breaks its policy or asks another server."""
    elsewhere: list[str] = []
    async with browser() as open_tab:
        tab: Tab = await open_tab("about:blank", **window)
        tab.page.on("request", lambda asked: elsewhere.append(asked.url))
        await tab.page.goto(f"{gw.url}/play")
        await expect(tab.page.locator("#state")).to_have_text(state)
        yield tab
        refused = "Failed to load resource: the server responded"  # with 401, 429: of those the page tells
        assert [said for said in tab.wrong if not said.startswith(refused)] == []
    assert [url for url in elsewhere if not url.startswith(gw.url)] == []


async def ask(tab: Tab, text: str) -> Locator:
    """Send ``text`` and wait for the end of the answers; return the first one."""
    page = tab.page
    await page.fill("#prompt", text)
    await page.press("#prompt", "Enter")
    await expect(page.locator("#stop")).to_be_hidden()
    return page.locator(".turn").last.locator(".answer").first


async def seconds(answer: Locator, name: str) -> float:
    """Return the time that stands under ``name`` in the figures of an answer."""
    shown = await answer.locator(".figures div", has_text=re.compile(f"^{name}")).locator("dd").inner_text()
    value, unit = shown.split("\xa0")
    return float(value) * {"ms": 1e-3, "s": 1.0}[unit]


async def test_events_are_found_wherever_the_stream_is_cut() -> None:
    async with ScriptedUpstream() as up, gateway(up) as gw, playing(gw) as tab:
        page = tab.page
        for size in (1, 2, 3, 5, 7, 16, 1000):
            assert await page.evaluate(CUT, [STREAM, size]) == EVENTS, size


async def test_an_answer_its_times_and_the_hit() -> None:
    tokens = ("Grüße, 日本 😀\n\n", "```py\nprint", "('<b>')\n", "```\n\n", EVIL, " and **bold**")
    script = Script(tokens=tokens, ttft=0.3, itl=0.02, split=1)
    async with ScriptedUpstream(script) as up, gateway(up, cache=EXACT) as gw, playing(gw) as tab:
        page = tab.page
        answer = await ask(tab, f"Hello {EVIL}")
        await expect(answer.locator(".text > p").first).to_have_text("Grüße, 日本 😀")
        await expect(answer.locator("pre code")).to_have_text("print('<b>')")
        await expect(answer.locator(".text > p").last).to_have_text(f"{EVIL} and bold")
        await expect(answer.locator(".figures")).to_contain_text("10, 6")
        await expect(answer.locator(".served")).to_contain_text("cache miss")
        assert 0.3 <= await seconds(answer, "TTFT") < 3
        assert 0.4 <= await seconds(answer, "total") < 6
        await answer.locator("summary").last.click()
        upstream = answer.locator(".waterfall tr", has_text=re.compile("^upstream"))
        await expect(upstream.locator(".number")).to_have_text(re.compile(r"^([3-9]\d\d\sms|[1-3]\.\d+\ss)$"))
        await expect(page.locator("#said")).to_contain_text("Answer done: Grüße")
        sent = up.requests[-1].json()
        assert sent["stream_options"] == {"include_usage": True}
        assert (sent["temperature"], sent["max_tokens"]) == (0, 512)

        await page.click("#new")
        again = await ask(tab, f"Hello {EVIL}")
        await expect(again.locator(".served")).to_contain_text("cache hit")
        await expect(again.locator(".text > p").first).to_have_text("Grüße, 日本 😀")
        assert await page.title() == "Playground · Hasten"
        assert await page.locator("main img, main script").count() == 0


async def test_a_conversation_goes_on() -> None:
    async with ScriptedUpstream() as up, gateway(up) as gw, playing(gw) as tab:
        page = tab.page
        await page.fill("#system", "Be brief.")
        await page.fill("#temperature", "")
        await ask(tab, "One")
        await ask(tab, "Two")
        sent = up.requests[-1].json()
        said = "The capital of France is Paris."
        assert [m["content"] for m in sent["messages"]] == ["Be brief.", "One", said, "Two"]
        assert "temperature" not in sent
        await page.click("#show-code")
        await expect(page.locator("#code")).to_contain_text(f"curl -N {gw.url}/v1/chat/completions")
        await expect(page.locator("#code")).to_contain_text("streamChat(fields, options)")


async def test_two_answers_side_by_side() -> None:
    script = Script(ttft=0.25, itl=0.01)
    async with ScriptedUpstream(script) as up, gateway(up, cache=EXACT) as gw, playing(gw) as tab:
        page = tab.page
        await ask(tab, "What is it?")
        await page.click("#new")
        await page.check("#compare")
        await ask(tab, "What is it?")
        hit, asked = page.locator(".answer").nth(0), page.locator(".answer").nth(1)
        await expect(hit.locator(".served")).to_contain_text("cache hit")
        await expect(asked.locator(".served")).to_contain_text("no cache")
        verdict = page.locator(".verdict")
        await expect(verdict).to_contain_text(re.compile(r"First token: A was .* sooner, .* times as fast"))
        await expect(verdict).to_contain_text(re.compile(r"Total: A was .* sooner"))
        tops = [await box.locator(".figures").bounding_box() for box in (hit, asked)]
        assert tops[0] is not None
        assert tops[1] is not None
        assert abs(tops[0]["y"] - tops[1]["y"]) < 2
        assert len(up.requests) == 2


async def test_stop_ends_the_engine_and_a_dying_engine_leaves_what_it_said() -> None:
    long = Script(itl=0.03, repeat=200)
    async with ScriptedUpstream(long) as up, gateway(up) as gw, playing(gw) as tab:
        page = tab.page
        await page.fill("#prompt", "Go on")
        await page.press("#prompt", "Enter")
        answer = page.locator(".answer")
        await expect(answer.locator(".text")).to_contain_text("The capital")
        await page.click("#stop")
        await expect(answer.locator("header .tag")).to_have_text("stopped")
        await eventually(lambda: up.gone == 1, 10)
        await expect(answer.locator(".text")).to_contain_text("The capital")

        up.queue.append(Script(reset_after=4))
        broken = await ask(tab, "And now?")
        await expect(broken.locator(".text")).to_have_text("The capital of France")
        await expect(broken.locator(".problem")).to_have_text(re.compile("engine .* connection", re.I))
        await expect(broken.locator("header .tag")).to_have_text("failed")

        up.queue.append(Script(status=429, headers={"retry-after": "2"}))
        up.queue.append(Script())
        await page.fill("#prompt", "Busy?")
        await page.press("#prompt", "Enter")
        third = page.locator(".answer").nth(2)
        await expect(third.locator(".problem")).to_have_text(re.compile(r"Sending again in [12] s\.$"))
        await expect(third.locator(".text")).to_have_text("The capital of France is Paris.")
        await expect(third.locator(".problem")).to_be_hidden()


async def test_a_key_is_asked_for() -> None:
    server = {"keys": ["key-of-acme-1234"]}
    async with ScriptedUpstream() as up, gateway(up, server=server) as gw, playing(gw, "no access") as tab:
        page = tab.page
        await expect(page.locator("#door")).to_be_visible()
        await expect(page.locator("#composer")).to_be_hidden()
        await page.fill("#key", "key-of-acme-1234")
        await page.press("#key", "Enter")
        await expect(page.locator("#state")).to_have_text("ready")
        answer = await ask(tab, "Hello")
        await expect(answer.locator(".text")).to_have_text("The capital of France is Paris.")
        # The dashboard opens in a tab that knows the key.
        await answer.locator(".time summary").click()
        async with page.expect_popup() as opened:
            await answer.locator(".known a").click()
        await expect((await opened.value).locator("#request")).to_contain_text("decode")

        # A key that stops being valid is asked for anew, and the message is sent then.
        await page.evaluate("sessionStorage.setItem('hasten-key', 'wrong')")
        await page.fill("#prompt", "Again")
        await page.press("#prompt", "Enter")
        await page.fill("#key", "key-of-acme-1234")
        await page.press("#key", "Enter")
        await expect(page.locator(".answer").nth(1).locator(".text")).to_contain_text("Paris")


async def test_only_who_may_look_at_a_request_is_led_to_it() -> None:
    server, tenants = {"admin_keys": ["key-of-the-boss"]}, {"acme": {"keys": ["key-of-acme-1234"]}}
    async with (
        ScriptedUpstream() as up,
        gateway(up, server=server, tenants=tenants) as gw,
        playing(gw, "no access") as tab,
    ):
        page = tab.page
        for key, links in (("key-of-acme-1234", 0), ("key-of-the-boss", 1)):
            await page.evaluate(f"sessionStorage.setItem('hasten-key', '{key}')")
            await page.reload()
            async with page.expect_response(re.compile("/admin/requests")) as told:
                answer = await ask(tab, "Hello")
            assert (await told.value).ok == bool(links)
            await answer.locator(".time summary").click()
            known = answer.locator(".known div", has_text="request id")
            await expect(known.locator("a")).to_have_count(links)
            await expect(known.locator("dd")).to_have_text(re.compile("^[0-9a-f]{16}$"))


async def test_good_and_bad_answers_are_told_to_routing() -> None:
    models = {
        "small": {"engines": ["e0"]},
        "large": {"engines": ["e1"]},
        "m": {"tiers": ["small", "large"], "route": {"holdback": 0, "hold": {"strong_share": 0}}},
    }
    async with (
        ScriptedUpstream() as small,
        ScriptedUpstream() as large,
        gateway(small, large, models=models) as gw,
        playing(gw) as tab,
    ):
        page = tab.page
        await page.select_option("#model-a", "m")
        answer = await ask(tab, "Hello")
        await expect(answer.locator(".served")).to_contain_text("model small")
        await expect(answer.locator(".served")).to_contain_text("route ")
        await answer.get_by_role("button", name="Good answer").click()
        await expect(answer.locator(".judge")).to_contain_text("Noted.")
        told = (await gw.http.get("/admin/route")).json()["models"]["m"]["feedback"]
        assert told == {"small": {"good": 1}}


@pytest.mark.parametrize(("width", "theme"), [(1280, "light"), (390, "dark")])
async def test_everybody_can_use_it(width: int, theme: Any) -> None:
    words = Script(tokens=("Code:\n\n```\n", "x" * 300, "\n```\n", "y" * 300), itl=0.001)
    async with (
        ScriptedUpstream(words) as up,
        gateway(up) as gw,
        playing(gw, width=width, theme=theme) as tab,
    ):
        page = tab.page
        # By keyboard alone: from the message to the settings and back.
        await page.focus("#settings summary")
        if width < 900:
            await page.keyboard.press("Enter")
        for _ in range(3):
            await page.keyboard.press("Tab")
        await expect(page.locator("#compare")).to_be_focused()
        await page.keyboard.press("Space")
        await page.focus("#prompt")
        await page.keyboard.type("A line")
        await page.keyboard.press("Shift+Enter")
        await page.keyboard.type("and one more")
        await page.keyboard.press("Enter")
        await expect(page.locator(".verdict")).to_be_visible()
        await expect(page.locator(".asked")).to_have_text("A line\nand one more")
        await page.click("#show-code")
        for details in await page.locator(".time summary").all():
            await details.press("Enter")
        assert await tab.overflow() <= 0
        assert await tab.violations() == []

        up.queue.append(Script(itl=0.03, repeat=200))
        up.queue.append(Script(itl=0.03, repeat=200))
        await page.fill("#prompt", "Long")
        await page.press("#prompt", "Enter")
        await expect(page.locator(".answer").nth(3).locator(".text")).to_contain_text("The capital")
        await page.keyboard.press("Escape")
        await expect(page.locator(".answer").nth(2).locator("header .tag")).to_have_text("stopped")
        await eventually(lambda: up.gone == 2, 10)
