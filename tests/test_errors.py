"""The tree of errors is complete: in its own description, and for what libraries raise."""

from __future__ import annotations

import asyncio
import builtins
import re
import socket
import ssl
from typing import Any

import msgspec
import pytest

from hasten import errors
from hasten.errors import FOREIGN, EngineError, HastenError, SettingsError, tell_end, translate


def classes(base: type[HastenError]) -> set[type[HastenError]]:
    below: set[type[HastenError]] = {base}
    for sub in base.__subclasses__():
        below |= classes(sub)
    return below


OURS = {cls for cls in classes(HastenError) if cls.__module__ == "hasten.errors"}
DESCRIBED = dict(re.findall(r"[├└│─ ]*\b([A-Z]\w+) {2,}(\d\d\d|4xx|its|-)", errors.__doc__ or ""))


def test_the_description_lists_every_class_with_its_status() -> None:
    assert set(DESCRIBED) == {cls.__name__ for cls in OURS}
    for cls in OURS - {SettingsError}:
        said = DESCRIBED[cls.__name__]
        assert said == str(cls.status) or said in ("4xx", "its"), cls


def test_the_description_is_the_tree() -> None:
    """Each class is indented below its base."""
    above: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"([├└│─ ]*)([A-Z]\w+) {2,}", line)
        if match is None or match.group(2) not in DESCRIBED:
            continue
        depth, name = len(match.group(1)), match.group(2)
        above = [entry for entry in above if entry[0] < depth]
        if above:
            assert getattr(errors, name).__base__.__name__ == above[-1][1]
        above.append((depth, name))


def made(cls: type[BaseException]) -> BaseException:
    """Return an instance without what its constructor wants."""
    return cls.__new__(cls)


SYSTEM = {cls for cls in vars(builtins).values() if isinstance(cls, type) and issubclass(cls, OSError)}
SOCKET = {
    cls
    for module in (socket, ssl)
    for cls in vars(module).values()
    if isinstance(cls, type) and issubclass(cls, OSError)
}
LOOP = {TimeoutError, asyncio.TimeoutError, asyncio.IncompleteReadError}
JSON = {msgspec.DecodeError, msgspec.ValidationError}


@pytest.mark.parametrize(
    "foreign", sorted(SYSTEM | SOCKET | LOOP | JSON, key=repr), ids=lambda cls: cls.__name__
)
def test_what_libraries_raise_has_a_translation(foreign: Any) -> None:
    ours = translate(made(foreign))
    assert type(ours) in classes(EngineError) - {EngineError}
    assert ours.retryable


def test_special_ones_come_before_general_ones() -> None:
    for i, (foreign, _, _) in enumerate(FOREIGN):
        for earlier, _, _ in FOREIGN[:i]:
            assert foreign is earlier or not issubclass(foreign, earlier), f"{foreign} is never reached"


def test_a_foreign_text_is_not_passed_on() -> None:
    assert "secret" not in translate(OSError(5, "secret")).message
    assert "secret" not in translate(KeyError("secret")).message


def test_our_own_pass_unchanged() -> None:
    ours = errors.EngineReset("x")
    assert translate(ours) is ours


async def test_what_ends_a_task_in_the_background_is_told(caplog: pytest.LogCaptureFixture) -> None:
    async def work(fails: bool) -> None:
        if fails:
            raise KeyError("why")
        await asyncio.sleep(3600)

    tasks = [asyncio.create_task(work(fails), name=f"task {fails}") for fails in (True, False)]
    for task in tasks:
        task.add_done_callback(tell_end)
    await asyncio.sleep(0)
    tasks[1].cancel()
    await asyncio.wait(tasks)
    await asyncio.sleep(0)
    assert [record.getMessage() for record in caplog.records] == ["task True ended: KeyError('why')"]
