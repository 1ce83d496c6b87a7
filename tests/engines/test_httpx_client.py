"""The engine behind the httpx library keeps the same promises as the own client."""

import asyncio

import pytest

from hasten.testing import Script, ScriptedUpstream
from tests.gateway import eventually, gateway
from tests.sockets import take_request

HTTPX = {
    "client": "httpx",
    "api_key": "engine-key",
    "timeouts": {"connect": 1, "first_byte": 0.3, "idle": 0.3},
}


@pytest.mark.parametrize("stream", [False, True])
async def test_answers_are_the_same_as_through_the_own_client(stream: bool) -> None:
    async with ScriptedUpstream(Script(split=7)) as up:
        async with gateway(up) as own:
            expected = (await own.chat(stream=stream)).text
        async with gateway(up, engine=HTTPX) as gw:
            reply = await gw.chat(stream=stream, unknown={"kept": 1})
            assert reply.text == expected
            assert up.requests[-1].json()["unknown"] == {"kept": 1}
            assert up.requests[-1].headers["authorization"] == "Bearer engine-key"


@pytest.mark.parametrize(
    ("script", "code"),
    [
        (Script(reset_after=0), "engine_reset"),
        (Script(reset_after=0, hang=True), "engine_timeout"),
        (Script(status=500, body="{}"), "engine_status"),
        (Script(raw=b"no http at all\r\n\r\n"), "engine_reset"),
    ],
)
async def test_failures_before_the_first_byte_go_to_the_next_engine(script: Script, code: str) -> None:
    async with (
        ScriptedUpstream(script) as bad,
        ScriptedUpstream() as good,
        gateway(bad, good, engine=HTTPX) as gw,
    ):
        reply = await gw.chat()
        assert reply.status_code == 200
        assert f'hasten_fallbacks_total{{engine="e0",reason="{code}"}} 1' in await gw.metrics()


async def test_death_and_silence_after_the_first_byte_are_told_in_band() -> None:
    for script in (Script(reset_after=3), Script(reset_after=3, hang=True)):
        async with ScriptedUpstream(script) as up, gateway(up, engine=HTTPX) as gw:
            reply = await gw.chat(stream=True)
            assert '{"error":' in reply.text.split("\n\n")[-2]


async def test_the_engine_is_called_off_when_the_client_leaves() -> None:
    async with ScriptedUpstream(Script(itl=0.05, repeat=100)) as up, gateway(up, engine=HTTPX) as gw:
        async with gw.http.stream(
            "POST", "/v1/chat/completions", json={"model": "m", "messages": [], "stream": True}
        ):
            pass
        await eventually(lambda: up.gone == 1)
        await eventually(lambda: gw.worker.app.engines["e0"].inflight == 0)


async def test_a_proxy_is_used() -> None:
    asked: list[bytes] = []

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await take_request(reader)  # all of it: closing on unread bytes would be a reset
        asked.append(request.partition(b"\r\n")[0])
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}")
        writer.close()

    async with await asyncio.start_server(proxy, "127.0.0.1", 0) as server, ScriptedUpstream() as up:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with gateway(up, engine={**HTTPX, "proxy": url}) as gw:
            assert (await gw.chat()).text == "{}"
        assert asked == [f"POST {up.base_url}/chat/completions HTTP/1.1".encode()]
        assert up.requests == []
