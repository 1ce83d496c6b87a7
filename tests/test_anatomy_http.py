"""The anatomy, proven: a delay put in one place shows up in its stage and nowhere else, and the stages add up."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import msgspec
import numpy as np
import pytest
import trustme

from hasten.anatomy import parts
from hasten.app import compose
from hasten.measure.record import record_of
from hasten.route.named import NamedStage, Vector
from hasten.settings import Route
from hasten.testing import Script, ScriptedUpstream
from hasten.trace import Trace
from tests.gateway import Gateway, eventually, gateway
from tests.sockets import RawUpstream, connected

DELAY = 0.2  # seconds
ROOM = 0.04  # seconds by which a stage may differ from what was put there: the machine is busy
TRIES = 4  # a busy machine may stall once; what is wrong is wrong each time
BOTH = pytest.mark.parametrize("stream", [False, True])


def tried(test: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """Run a test again if it fails, :data:`TRIES` times in all."""

    @functools.wraps(test)
    async def wrapper(**given: Any) -> None:
        for left in reversed(range(TRIES)):
            try:
                return await test(**given)
            except AssertionError:
                if not left:
                    raise
        return None

    return wrapper


class Rig:
    """A gateway and the records of its requests."""

    def __init__(self, gw: Gateway) -> None:
        self.gw = gw
        self.traces: list[Trace] = []
        finished = gw.worker.server.on_finish

        def on_finish(trace: Trace) -> None:
            self.traces.append(trace)
            finished(trace)

        gw.worker.server.on_finish = on_finish

    async def ask(
        self, stream: bool, pause: float = 0.0, path: bytes = b"/v1/chat/completions", **fields: Any
    ) -> tuple[dict[str, float], bytes]:
        """Ask for an answer, with a pause before the second half of the request; return the stages and the answer.

        The stages must add up to what the gateway noted, and to what the client measured.
        """
        given = {"model": "m", "messages": [{"role": "user", "content": "Hello"}], "stream": stream}
        body = msgspec.json.encode({"max_tokens": 9, **given, **fields})
        head = b"POST %b HTTP/1.1\r\nhost: x\r\nte: trailers\r\nconnection: close\r\n" % path
        data = head + b"content-length: %d\r\n\r\n%b" % (len(body), body)
        async with connected(self.gw.port) as (reader, writer):
            since = perf_counter()
            writer.write(data[:-20])
            await asyncio.sleep(pause)
            writer.write(data[-20:])
            answer = await reader.read(-1)
            total = perf_counter() - since
        assert answer.startswith(b"HTTP/1.1 200"), answer
        trace = self.traces[-1]
        found = parts(trace)
        assert sum(found.values()) == pytest.approx(trace.duration, abs=1e-6)
        assert sum(found.values()) == pytest.approx(total, abs=ROOM)
        return found, answer


@contextlib.asynccontextmanager
async def rig(*upstreams: ScriptedUpstream, **sections: Any) -> AsyncIterator[Rig]:
    async with gateway(*upstreams, **sections) as gw:
        yield Rig(gw)


def only(found: dict[str, float], **expected: float) -> None:
    """Check that each stage took as long as expected, and all others nearly nothing."""
    for stage, seconds in expected.items():
        room = max(ROOM, seconds / 10)
        assert found.get(stage, 0.0) == pytest.approx(seconds, abs=room), (stage, found)
    others = {stage: took for stage, took in found.items() if stage not in expected}
    assert sum(others.values()) < ROOM, found


@BOTH
@tried
async def test_a_client_that_sends_slowly(stream: bool) -> None:
    async with ScriptedUpstream() as up, rig(up) as r:
        found, _ = await r.ask(stream, pause=DELAY)
    only(found, accept=DELAY)


@BOTH
@tried
async def test_a_slow_handshake(stream: bool, tmp_path: Path) -> None:
    ca = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert("localhost").configure_cert(context)
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    async with ScriptedUpstream(Script(ttft=DELAY / 2), tls=context) as up:

        async def late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await asyncio.sleep(DELAY)
            there, here = await asyncio.open_connection("127.0.0.1", up.port)
            await asyncio.gather(_pump(reader, here), _pump(there, writer))

        async with RawUpstream(late) as front:
            engine = {"kind": "openai", "tls": {"ca": str(tmp_path / "ca.pem")}}
            engines = {"e": {**engine, "base_url": f"https://localhost:{front.port}/v1"}}
            async with rig(engines=engines, models={"m": {"engines": ["e"]}}) as r:
                found, _ = await r.ask(stream)
    if stream:
        only(found, connect=DELAY, prefill=DELAY / 2)
    else:
        only(found, connect=DELAY, generate=DELAY / 2)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
    writer.close()


@BOTH
@tried
async def test_an_engine_that_fails_slowly(stream: bool) -> None:
    async with ScriptedUpstream(Script(ttft=DELAY, status=503)) as bad, ScriptedUpstream() as good:
        models = {"m": {"engines": ["e0"], "fallback": ["n"]}, "n": {"engines": ["e1"]}}
        async with rig(bad, good, models=models) as r:
            found, _ = await r.ask(stream)
    only(found, retry=DELAY)


@BOTH
@tried
async def test_a_slow_store(stream: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = {"exact": True, "semantic": False, "store_timeout": 5}
    async with ScriptedUpstream() as up, rig(up, cache=cache) as r:
        assert r.gw.worker.app.cache is not None
        store = r.gw.worker.app.cache.store
        get = store.get

        async def slow(key: bytes) -> Any:
            await asyncio.sleep(DELAY)
            return await get(key)

        monkeypatch.setattr(store, "get", slow, raising=False)
        missed, _ = await r.ask(stream)
        found, answer = await r.ask(stream)
    only(missed, cache=DELAY)
    only(found, cache=DELAY)
    assert b"x-hasten-cache: exact" in answer


@BOTH
@tried
async def test_who_waits_for_another_s_answer(stream: bool) -> None:
    told = {"prompt_ms": 50.0, "predicted_ms": 50.0, "cache_n": 3}
    cache = {"exact": True, "semantic": False, "coalesce": True}
    async with ScriptedUpstream(Script(ttft=DELAY, timings=told)) as up, rig(up, cache=cache) as r:
        await asyncio.gather(*(r.gw.chat(stream=stream) for _ in range(2)))
        await r.gw.chat(stream=stream)
        await eventually(lambda: len(r.traces) == 3)
    by = {trace.cache: trace for trace in r.traces}
    assert set(by) == {"miss", "coalesced", "exact"}
    only(parts(by["coalesced"]), cache=DELAY)
    only(parts(by["exact"]))
    assert by["miss"].cached_tokens == 3
    for trace in (by["coalesced"], by["exact"]):
        assert (trace.engine_prefill, trace.engine_decode, trace.cached_tokens) == (None, None, None)
        assert "prefill" not in trace.server_timing()
        assert not {"prefill", "decode", "engine_queue"} & set(record_of(trace).stages_ms)


@BOTH
@tried
async def test_a_slow_look_for_a_named_route(stream: bool) -> None:
    async def embed(texts: Sequence[str]) -> Sequence[Vector]:
        await asyncio.sleep(DELAY)
        return [np.zeros(2, np.float32) for _ in texts]

    routes = {"greeting": {"examples": ["hi"], "to": "m", "timeout": 5}}
    async with ScriptedUpstream() as up, rig(up) as r:
        settings = msgspec.structs.replace(
            r.gw.worker.settings, routes=msgspec.convert(routes, dict[str, Route])
        )
        stage = NamedStage(settings, embed, lambda *counted: None)
        await eventually(lambda: stage.state == "ready")
        r.gw.worker.server.handler = compose([stage], r.gw.worker.app.dispatch)
        found, _ = await r.ask(stream)
    only(found, named=DELAY)


@tried
async def test_prefill_and_decode_of_a_stream() -> None:
    async with ScriptedUpstream(Script(ttft=DELAY, itl=0.03)) as up, rig(up) as r:
        found, _ = await r.ask(True)
    # Seven tokens, the finish and [DONE], and a pause after each.
    only(found, prefill=DELAY, decode=9 * 0.03)


@tried
async def test_a_whole_answer_of_an_engine_that_tells_nothing() -> None:
    async with ScriptedUpstream(Script(ttft=DELAY)) as up, rig(up) as r:
        found, _ = await r.ask(False)
    only(found, generate=DELAY)


@pytest.mark.parametrize("path", [b"/v1/chat/completions", b"/v1/messages"])
@BOTH
@tried
async def test_an_engine_that_tells_its_times(stream: bool, path: bytes) -> None:
    decode = 0.0 if stream else DELAY
    told = {"prompt_ms": 100.0, "predicted_ms": decode * 1e3, "cache_n": 4}
    async with ScriptedUpstream(Script(ttft=0.15 + 0.1 + decode, timings=told)) as up, rig(up) as r:
        found, _ = await r.ask(stream, path=path)
    only(found, engine_queue=0.15, prefill=0.1, decode=decode)
    assert r.traces[-1].cached_tokens == 4


@BOTH
@tried
async def test_a_cascade_that_raises_and_one_that_passes(stream: bool) -> None:
    told = {"prompt_ms": 100.0, "predicted_ms": 20.0}
    strong = Script(ttft=0.15, timings=told)
    models: dict[str, Any] = {"weak": {"engines": ["e0"]}, "strong": {"engines": ["e1"]}}
    models["m"] = {
        "tiers": ["weak", "strong"],
        "route": {"hold": {"strong_share": 0.0}, "holdback": 0.0, "cascade": {"hold_tokens": 0}},
    }
    async with (
        ScriptedUpstream(Script(ttft=DELAY, status=500)) as weak,
        ScriptedUpstream(strong) as good,
        rig(weak, good, models=models) as r,
    ):
        raised, _ = await r.ask(stream)
        weak.script = Script(ttft=0.15, itl=0.02, timings={"prompt_ms": 100.0, "predicted_ms": 180.0})
        passed, answer = await r.ask(stream)
    only(
        raised,
        cascade=DELAY,
        engine_queue=0.05 if stream else 0.03,
        prefill=0.1,
        decode=0 if stream else 0.02,
    )
    assert b"x-hasten-model: weak" in answer
    if stream:  # held to its end; the first token came long before the client had it
        only(passed, engine_queue=0.05, prefill=0.1, cascade=9 * 0.02)


@tried
async def test_a_client_that_reads_slowly() -> None:
    big = Script(tokens=("x" * 60_000,), repeat=200)  # more than the sockets take in
    async with ScriptedUpstream(big) as up, rig(up) as r:
        body = b'{"model":"m","messages":[{"role":"user","content":"Hello"}],"stream":true}'
        head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
        async with connected(r.gw.port, receive_buffer=65536) as (reader, writer):
            writer.write(head + b"content-length: %d\r\n\r\n%b" % (len(body), body))
            (connection,) = await _one(r)
            await eventually(lambda: connection._paused_since > 0, 10)
            since = perf_counter()
            await asyncio.sleep(DELAY)
            held = perf_counter() - since
            while await reader.read(2**20):
                pass
        found = parts(r.traces[-1])
    assert held - ROOM < found["client"] < sum(found.values())
    assert sum(found.values()) == pytest.approx(r.traces[-1].duration, abs=1e-6)


async def _one(r: Rig) -> list[Any]:
    connections = r.gw.worker.server.connections
    await eventually(lambda: len(connections) == 1)
    return list(connections)


@tried
async def test_several_delays_at_once_and_the_trailer_that_tells_them() -> None:
    """A stream's head comes too early to know; its end brings the rest to clients that take trailers."""
    async with ScriptedUpstream(Script(ttft=0.15, itl=0.02)) as up, rig(up) as r:
        found, answer = await r.ask(True, pause=0.1)
        only(found, accept=0.1, prefill=0.15, decode=9 * 0.02)
        head, _, rest = answer.partition(b"\r\n\r\n")
        assert b"\r\ntrailer: server-timing\r\n" in head + b"\r\n"
        _, _, trailers = rest.rpartition(b"\r\n0\r\n")
        assert trailers.endswith(b"\r\n\r\n")
        told = re.fullmatch(rb"server-timing: (.*)\r\n\r\n", trailers)
        assert told is not None
        shown = {name.decode(): float(ms) / 1e3 for name, ms in re.findall(rb"(\w+);dur=([0-9.]+)", told[1])}
        assert shown == pytest.approx(found, abs=1e-6)
        reply = await r.gw.chat(stream=True)  # a client that does not ask for trailers gets none
        assert "trailer" not in reply.headers
        assert reply.text.endswith("data: [DONE]\n\n")
