"""Circuits and the choice of an engine, without sockets and without waiting."""

from __future__ import annotations

import asyncio
import math
from email.utils import formatdate
from time import time
from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hasten.engines.call import parse_retry_after
from hasten.engines.circuit import Circuit
from hasten.engines.dispatch import Dispatch
from hasten.errors import EngineRefused, EngineReset, EngineStatus, HastenError, Unavailable, UnknownModel
from hasten.fields import ChatFields
from hasten.settings import Circuit as CircuitSettings
from hasten.settings import Model
from hasten.testing import FakeClock, FakeEngine, Script, ScriptedUpstream, fake_stream
from hasten.trace import Trace
from hasten.types import Reply, Request
from tests.gateway import gateway

SETTINGS = CircuitSettings(failures=3, open=1.0, open_max=5.0)


def opened(clock: FakeClock) -> Circuit:
    circuit = Circuit(SETTINGS, clock)
    for _ in range(3):
        circuit.begin()
        circuit.failure()
    return circuit


def probe(circuit: Circuit) -> None:
    assert circuit.allows()
    circuit.begin()
    assert not circuit.allows()


def test_opens_after_failures_in_a_row_only() -> None:
    circuit = Circuit(SETTINGS, FakeClock())
    for outcome in (circuit.failure, circuit.failure, circuit.success, circuit.failure, circuit.failure):
        circuit.begin()
        outcome()
        assert circuit.state == "closed"
    circuit.failure()
    assert circuit.state == "open"
    assert not circuit.allows()
    assert circuit.wait == 1.0


def test_one_probe_at_a_time_and_double_the_time_after_each_that_fails() -> None:
    clock = FakeClock()
    circuit = opened(clock)
    for wait in (1.0, 2.0, 4.0, 5.0, 5.0):
        assert circuit.wait == wait
        clock.advance(wait - 0.01)
        assert not circuit.allows()
        clock.advance(0.02)
        assert circuit.state == "half_open"
        probe(circuit)
        circuit.failure()
    clock.advance(5.1)
    probe(circuit)
    circuit.success()
    assert circuit.state == "closed"
    assert repr(circuit) == "<Circuit closed, 0 failures, wait 0.0 s>"
    assert opened(clock).wait == 1.0


def test_a_probe_whose_client_left_makes_room_for_the_next() -> None:
    clock = FakeClock()
    circuit = opened(clock)
    clock.advance(1.1)
    probe(circuit)
    circuit.ignore()
    assert circuit.state == "half_open"
    probe(circuit)


def test_a_rest_is_kept_whatever_ends_meanwhile() -> None:
    clock = FakeClock()
    circuit = Circuit(SETTINGS, clock)
    circuit.rest(10)
    circuit.success()  # of a request that was under way
    assert circuit.state == "resting"
    clock.advance(9.9)
    assert not circuit.allows()
    clock.advance(0.2)
    assert circuit.allows()
    assert circuit.state == "closed"


class Machine(RuleBasedStateMachine):
    """Any order of what may happen, with at most three requests under way."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.circuit = Circuit(SETTINGS, self.clock)
        self.running = 0
        self.row = 0
        self.rest_until = 0.0

    @precondition(lambda self: self.running < 3 and self.circuit.allows())
    @rule()
    def begin(self) -> None:
        self.circuit.begin()
        self.running += 1

    @precondition(lambda self: self.running)
    @rule(outcome=st.sampled_from(["success", "failure", "ignore"]))
    def end(self, outcome: str) -> None:
        self.running -= 1
        getattr(self.circuit, outcome)()
        self.row = {"success": 0, "failure": self.row + 1, "ignore": self.row}[outcome]
        if outcome == "success" and self.clock() >= self.rest_until:
            assert self.circuit.allows()

    @precondition(lambda self: self.running)
    @rule(seconds=st.floats(0.1, 20))
    def rest(self, seconds: float) -> None:
        self.running -= 1
        self.circuit.rest(seconds)
        self.rest_until = self.clock() + seconds

    @rule(seconds=st.floats(0.01, 8))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @invariant()
    def holds(self) -> None:
        circuit = self.circuit
        assert circuit.failures == self.row
        assert 0 <= circuit.wait <= max(SETTINGS.open_max, self.rest_until - self.clock()) + 1e-9
        if circuit.allows():
            assert circuit.wait == 0
            assert self.clock() >= self.rest_until
        if self.row < SETTINGS.failures and self.clock() >= self.rest_until:
            assert circuit.state != "open"
        if circuit.state == "open":
            assert not circuit.allows()
        if not self.running:  # nobody is stuck: with time, somebody may go
            assert circuit.allows() or circuit.wait > 0


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


# -- the choice of an engine ----------------------------------------------------------------------


def request() -> Request:
    body = b'{"model":"m","messages":[]}'
    return Request("chat", msgspec.json.decode(body, type=ChatFields), body, Trace())


def dispatch(clock: FakeClock, *engines: FakeEngine, balance: Any = "least_loaded") -> Dispatch:
    models = {"m": Model(engines=tuple(e.name for e in engines), balance=balance)}
    return Dispatch(models, {e.name: e for e in engines}, SETTINGS, clock)


def served(*engines: FakeEngine) -> list[int]:
    return [len(engine.requests) for engine in engines]


async def test_least_loaded_takes_the_one_with_least_in_flight() -> None:
    engines = [FakeEngine(name) for name in "abc"]
    send = dispatch(FakeClock(), *engines)
    for engine, load in zip(engines, (4, 1, 4), strict=True):
        engine.inflight = load
    for _ in range(3):
        await send(request())
    assert served(*engines) == [0, 3, 0]
    engines[1].inflight = 4
    for _ in range(6):
        await send(request())
    assert served(*engines) == [2, 5, 2]


async def test_round_robin_takes_them_in_turn_whatever_their_load() -> None:
    engines = [FakeEngine(name) for name in "abc"]
    engines[0].inflight = 100
    send = dispatch(FakeClock(), *engines, balance="round_robin")
    for _ in range(9):
        await send(request())
    assert served(*engines) == [3, 3, 3]


async def test_what_is_not_ready_or_open_is_passed_over() -> None:
    clock = FakeClock()
    a, b = FakeEngine("a", EngineRefused("no")), FakeEngine("b")
    send = dispatch(clock, a, b)
    for _ in range(20):
        await send(request())
    assert len(a.requests) == 3
    b.ready = False
    with pytest.raises(Unavailable) as caught:
        await send(request())
    assert caught.value.message == "no engine of 'm' can take requests now: a (circuit open), b (not ready)"
    clock.advance(1.1)
    with pytest.raises(EngineRefused):
        await send(request())


@pytest.mark.parametrize(
    ("error", "opens"),
    [(EngineStatus(400), False), (EngineStatus(404), False), (EngineStatus(429), False), (EngineStatus(500), True),
     (EngineStatus(503), True), (EngineReset("x"), True), (Unavailable("x"), False)],
)  # fmt: skip
async def test_what_counts_as_a_failure(error: HastenError, opens: bool) -> None:
    engine = FakeEngine("a", error)
    send = dispatch(FakeClock(), engine)
    for _ in range(5):
        with pytest.raises(HastenError):
            await send(request())
    assert (send.members["a"].circuit.state == "open") == opens


async def test_a_stream_that_breaks_counts_as_a_failure() -> None:
    stream = fake_stream("a")
    send = dispatch(FakeClock(), FakeEngine("a", Reply(stream=stream)))
    await send(request())
    for told in stream.on_end:
        told(EngineReset("x"))
    assert send.members["a"].circuit.failures == 1


async def test_retry_after_is_respected_and_told() -> None:
    clock = FakeClock()
    a, b = (
        FakeEngine("a", EngineStatus(429, retry_after=30)),
        FakeEngine("b", EngineStatus(429, retry_after=10)),
    )
    send = dispatch(clock, a, b)
    for advance, left in ((0, 10), (4, 6), (0, 6)):
        clock.advance(advance)
        with pytest.raises(EngineStatus) as caught:
            await send(request())
        assert (caught.value.status, caught.value.retry_after) == (429, left)
    assert served(a, b) == [1, 1]
    clock.advance(6.1)
    b.answers[0] = Reply(body=b"{}")
    await send(request())
    assert served(a, b) == [1, 2]


async def test_a_failure_that_leaves_nobody_says_when_the_next_may_be_asked() -> None:
    clock = FakeClock()
    a, b = (FakeEngine(name, *(EngineRefused("no") for _ in range(4))) for name in "ab")
    send = dispatch(clock, a, b)
    told = []
    for _ in range(4):
        clock.advance(0.25)
        with pytest.raises(HastenError) as caught:
            await send(request())
        told.append((type(caught.value), caught.value.retry_after))
    assert told == [(EngineRefused, None)] * 2 + [(EngineRefused, 1.0), (Unavailable, 1.0)]


async def test_the_probe_is_given_back_when_the_client_leaves() -> None:
    class Slow(FakeEngine):
        async def send(self, request: Request) -> Reply:
            await asyncio.sleep(60)
            return Reply()

    clock = FakeClock()
    send = dispatch(clock, Slow("a"))
    circuit = send.members["a"].circuit
    for _ in range(3):
        circuit.failure()
    clock.advance(1.1)
    task = asyncio.create_task(send(request()))
    await asyncio.sleep(0)
    assert not circuit.allows()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert circuit.allows()


async def test_an_unknown_model_names_those_there_are() -> None:
    send = dispatch(FakeClock(), FakeEngine("a"))
    asked = request()
    asked.model = "gpt-4"
    with pytest.raises(UnknownModel, match="there is no model 'gpt-4'; there are: m"):
        await send(asked)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(b"0", 0), (b"7", 7), (b" 7.5 ", 7.5), (b"-3", 0), (b"1e9", 86400), (b"soon", None), (b"", None), (b"nan", 0),
     (b"Wed, 21 Oct 2015 07:28:00 GMT", 0), (b"Wed, 99 Oct 2015 07:28:00 GMT", None), (b"\xff", None)],
)  # fmt: skip
def test_retry_after(value: bytes, seconds: float | None) -> None:
    assert parse_retry_after(value) == seconds


def test_retry_after_as_a_date() -> None:
    seconds = parse_retry_after(formatdate(time() + 90, usegmt=True).encode())
    assert seconds is not None
    assert math.isclose(seconds, 90, abs_tol=2)


# -- through the gateway --------------------------------------------------------------------------


async def test_503_with_retry_after_when_nobody_is_available() -> None:
    async with (
        ScriptedUpstream(Script(status=500)) as up,
        gateway(up, circuit={"failures": 1, "open": 20}) as gw,
    ):
        failed = await gw.chat()
        assert (failed.status_code, failed.headers["retry-after"]) == (500, "20")
        reply = await gw.chat()
        assert (reply.status_code, reply.headers["retry-after"]) == (503, "20")
        assert reply.json()["error"]["code"] == "no_engine_available"
        assert len(up.requests) == 1
        assert 'hasten_engine_ready{engine="e0"} 0' in await gw.metrics()


@pytest.mark.parametrize("as_date", [False, True], ids=["number", "date"])
async def test_429_with_what_remains_when_all_engines_rest(as_date: bool) -> None:
    value = formatdate(time() + 17, usegmt=True) if as_date else "17"
    script = Script(status=429, headers={"retry-after": value}, body='{"error":{"message":"slow down"}}')
    async with ScriptedUpstream(script) as up, gateway(up) as gw:
        replies = [await gw.chat() for _ in range(3)]
        assert [r.status_code for r in replies] == [429] * 3
        assert all(12 <= int(r.headers["retry-after"]) <= 17 for r in replies)
        assert len(up.requests) == 1


async def test_an_engine_that_always_dies_midway_opens_its_circuit() -> None:
    """The first byte of a stream lets others through; only its end counts as a success."""
    async with ScriptedUpstream(Script(reset_after=3)) as up, gateway(up, circuit={"failures": 3}) as gw:
        for _ in range(3):
            assert '{"error":' in (await gw.chat(stream=True)).text
        assert (await gw.chat(stream=True)).status_code == 503


@pytest.mark.parametrize(
    "script",
    [
        Script(status=501, body='{"error":{"type":"not_supported_error"}}'),
        Script(status=500, body='{"error":{"message":"image input is not supported"}}'),
    ],
)
async def test_what_an_engine_cannot_do_does_not_open_its_circuit(script: Script) -> None:
    """One client's requests for what is not offered must not take the engine from the others."""
    async with ScriptedUpstream(script) as up, ScriptedUpstream() as other, gateway(up, other) as gw:
        up.queue += [script] * 20
        answers = [(await gw.chat()).status_code for _ in range(20)]
        assert script.status in answers  # passed on, not tried elsewhere
        up.queue.clear()
        up.script = Script()
        assert "circuit" not in repr(gw.worker.app.dispatch.members["e0"].state)


async def test_a_fallback_is_told_while_the_circuit_is_open_too() -> None:
    async with ScriptedUpstream(Script(status=500)) as bad, ScriptedUpstream() as good:
        engines = {f"e{i}": {"kind": "openai", "base_url": u.base_url} for i, u in enumerate((bad, good))}
        models = {"m": {"engines": ["e0"], "fallback": ["n"]}, "n": {"engines": ["e1"]}}
        async with gateway(engines=engines, models=models, circuit={"failures": 2}) as gw:
            for _ in range(4):
                reply = await gw.chat()
                assert (reply.headers["x-hasten-model"], reply.headers["x-hasten-route"]) == ("n", "fallback")
            page = await gw.metrics()
            assert 'hasten_fallbacks_total{engine="e0",reason="engine_status"} 2' in page
            assert 'hasten_fallbacks_total{engine="e0",reason="circuit_open"} 2' in page
            assert 'gen_ai_request_model="m",gen_ai_response_model="n"' in page
