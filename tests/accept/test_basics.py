"""The plain ways through the gateway."""

import json

import pytest

from hasten.testing import Script, ScriptedUpstream
from tests.gateway import eventually, gateway
from tests.sockets import connected


async def test_whole_answer_passes_byte_for_byte() -> None:
    async with ScriptedUpstream() as up, gateway(up) as gw:
        reply = await gw.chat(temperature=0, made_up={"deep": [1, None, "x"]})
        assert reply.status_code == 200
        assert reply.json()["choices"][0]["message"]["content"] == "The capital of France is Paris."
        assert up.requests[0].json()["made_up"] == {"deep": [1, None, "x"]}
        assert reply.headers["x-hasten-engine"] == "e0"
        assert reply.headers["x-hasten-model"] == "m"
        assert "upstream;dur=" in reply.headers["server-timing"]


async def test_stream_passes_event_for_event() -> None:
    async with ScriptedUpstream() as up, gateway(up) as gw:
        reply = await gw.chat(stream=True, stream_options={"include_usage": True})
        lines = [line for line in reply.text.split("\n\n") if line]
        assert lines[-1] == "data: [DONE]"
        events = [json.loads(line[6:]) for line in lines[:-1]]
        text = "".join(c["delta"].get("content", "") for e in events for c in e["choices"])
        assert text == "The capital of France is Paris."
        assert events[-1]["usage"]["completion_tokens"] == 7


async def test_the_body_is_not_touched_unless_the_engine_names_its_model() -> None:
    body = b'{ "messages":[{"role":"user","content":"hi"}] , "model" : "m", "z":1.50}'
    async with ScriptedUpstream() as up, gateway(up) as gw:
        await gw.http.post("/v1/chat/completions", content=body)
        assert up.requests[0].body == body
    async with ScriptedUpstream() as up, gateway(up, engine={"model": "Qwen/Qwen3-8B"}) as gw:
        await gw.http.post("/v1/chat/completions", content=body)
        assert up.requests[0].body == (
            b'{"messages":[{"role":"user","content":"hi"}],"model":"Qwen/Qwen3-8B","z":1.50}'
        )


async def test_pipelined_requests_are_answered_in_order() -> None:
    async with ScriptedUpstream() as up, gateway(up) as gw:
        up.queue += [Script(tokens=("slow",), ttft=0.1), Script(tokens=("fast",))]
        body = b'{"model":"m","messages":[]}'
        one = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (
            len(body),
            body,
        )
        last = one.replace(b"host: x", b"host: x\r\nconnection: close")
        answer = await gw.raw(one + last)
        assert answer.index(b'"slow"') < answer.index(b'"fast"')
        assert answer.count(b"HTTP/1.1 200") == 2


@pytest.mark.parametrize("endpoint", ["chat/completions", "messages"])
async def test_who_reads_no_further_than_the_end_has_not_left(endpoint: str) -> None:
    async with ScriptedUpstream(Script(itl=0.05)) as up, gateway(up, cache={"semantic": False}) as gw:
        body = b'{"model":"m","max_tokens":9,"stream":true,"messages":[{"role":"user","content":"Where?"}]}'
        last = b"[DONE]" if endpoint.startswith("chat") else b"message_stop"
        for _ in range(2):
            async with connected(gw.port) as (reader, writer):
                writer.write(
                    b"POST /v1/%b HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b"
                    % (endpoint.encode(), len(body), body)
                )
                await reader.readuntil(last)
            await eventually(lambda: gw.worker.app.engines["e0"].inflight == 0)
        name = "chat" if endpoint.startswith("chat") else "messages"
        page = await gw.metrics()
        assert f'hasten_requests_total{{endpoint="{name}",status="200"}} 2' in page
        assert "client_gone" not in page
        assert len(up.requests) == 1  # it was kept
