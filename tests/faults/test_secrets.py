"""Keys, an engine's headers and what people say are nowhere that they were not sent to."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from hasten.testing import Script, ScriptedUpstream
from tests.gateway import Gateway, eventually, gateway
from tests.sockets import RawUpstream, answering, post, unused_port, whole

CLIENT_KEY = "sk-client-canary"
ENGINE_KEY = "sk-engine-canary"
ENGINE_HEADER = "header-canary"
PROMPT = "prompt-canary"
SECRETS = (CLIENT_KEY, ENGINE_KEY, ENGINE_HEADER)

ECHO = json.dumps({"error": {"message": f"Incorrect API key: {ENGINE_KEY}, {ENGINE_HEADER}"}})
SCRIPTS = {
    "success": Script(),
    **{
        f"status {status}": Script(status=status, body=ECHO) for status in (400, 401, 403, 404, 429, 500, 503)
    },
    "text error": Script(status=500, body=f"no: {ENGINE_KEY}", headers={"content-type": "text/plain"}),
    "error event": Script(events=(ECHO,)),
    "late error event": Script(events=('{"choices":[{"index":0,"delta":{"content":"x"}}]}', ECHO), itl=0.02),
    "malformed": Script(raw=whole(f'{{"x": {ENGINE_KEY}'.encode())),
    "not HTTP": Script(raw=f"{ENGINE_KEY}\r\n\r\n".encode()),
    "reset": Script(reset_after=0),
    "late reset": Script(itl=0.02, reset_after=1),
}


async def drive(gw: Gateway, key: str) -> str:
    """Ask in every way; return all that came back."""
    seen = []
    messages = [{"role": "user", "content": PROMPT}]
    for path, more in (
        ("chat/completions", {}),
        ("chat/completions", {"stream": True}),
        ("messages", {"max_tokens": 1}),
        ("messages", {"max_tokens": 1, "stream": True}),
        ("completions", {"prompt": PROMPT}),
        ("chat/completions", {"messages": [{"role": 7, "content": PROMPT}]}),
    ):
        body = {"model": "m", "messages": messages, **more}
        for headers in (
            {"authorization": f"Bearer {key}"},
            {"x-api-key": key},
            {"authorization": f"Bearer {key}x"},
        ):
            reply = await gw.http.post(f"/v1/{path}", json=body, headers=headers)
            seen.append(f"{reply.headers} {reply.text}")
    for request in (
        b"GET /%b HTTP/1.1\r\nx-api-key: %b\r\nhost: x\r\nconnection: close\r\n\r\n"
        % (b"nope", key.encode()),
        b"GET / HTTP/1.1\r\nx-api-key : %b\r\nhost: x\r\n\r\n" % key.encode(),
        post(b"{" + PROMPT.encode(), b"authorization: Bearer " + key.encode(), b"connection: close"),
    ):
        seen.append((await gw.raw(request)).decode())
    seen.append(await gw.metrics())
    worker = gw.worker
    seen.append(
        f"{worker!r} {worker.settings!r} {worker.app.dispatch.members!r} {worker.app.engines!r} {worker.server.keys!r}"
    )
    seen.append(repr([*worker.server.connections]))
    return "\n".join(seen)


@pytest.mark.parametrize("prompts", [False, True], ids=["without prompts", "with prompts"])
@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
async def test_nothing_leaks(
    script: Script, prompts: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    path = tmp_path / "access.log"
    engine: dict[str, Any] = {"api_key": ENGINE_KEY, "headers": {"x-custom": ENGINE_HEADER}}
    async with ScriptedUpstream(script) as up:
        options = {"server": {"keys": [CLIENT_KEY]}, "log": {"path": str(path), "prompts": prompts}}
        async with gateway(up, engine=engine, circuit={"failures": 1000}, **options) as gw:
            seen = await drive(gw, CLIENT_KEY)
            assert up.requests[0].headers["authorization"] == f"Bearer {ENGINE_KEY}"
            assert up.requests[0].headers["x-custom"] == ENGINE_HEADER
            lines = seen.count("x-request-id")
            assert lines >= 20
        log = path.read_text()
    assert log.count("\n") >= lines
    logged = "".join(
        record.getMessage() + str(record.exc_text)
        for record in caplog.records
        if "httpcore" not in record.name
    )
    for secret in SECRETS:
        assert secret not in seen
        assert secret not in log
        assert secret not in logged
    assert PROMPT not in logged
    assert PROMPT not in seen
    assert (PROMPT in log) == prompts


async def test_nothing_leaks_of_an_engine_that_cannot_be_reached(tmp_path: Path) -> None:
    engine = {"kind": "openai", "base_url": f"http://127.0.0.1:{unused_port()}/v1", "api_key": ENGINE_KEY}
    log = {"path": str(tmp_path / "access.log")}
    async with gateway(engines={"e": engine}, models={"m": {"engines": ["e"]}}, log=log) as gw:
        seen = await drive(gw, CLIENT_KEY)
    assert ENGINE_KEY not in seen + (tmp_path / "access.log").read_text()


async def test_a_requests_repr_shows_no_text() -> None:
    shown = []
    async with RawUpstream(answering(whole())) as up:
        engines = {"e": {"kind": "openai", "base_url": up.base_url, "api_key": ENGINE_KEY}}
        async with gateway(engines=engines, models={"m": {"engines": ["e"]}}) as gw:
            handler = gw.worker.server.handler

            async def look(request: Any) -> Any:
                reply = await handler(request)
                shown.append(f"{request!r} {reply!r} {request.trace!r} {gw.worker.app.engines!r}")
                return reply

            gw.worker.server.handler = look
            await gw.chat(messages=[{"role": "user", "content": PROMPT}], headers={"x-api-key": CLIENT_KEY})
            await eventually(lambda: len(shown) == 1)
    assert not any(secret in shown[0] for secret in (*SECRETS, PROMPT))
