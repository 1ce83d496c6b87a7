"""Runs ``async def`` tests, each on a loop of its own, within a time limit."""

import asyncio
import inspect
import os
from typing import Any

import pytest
import uvloop
from hypothesis import settings

# The same examples in each run, and as long as they take; HYPOTHESIS_PROFILE=search looks for new ones.
settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("search", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))

LIMIT = 180.0  # seconds


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    test = pyfuncitem.obj
    if not inspect.iscoroutinefunction(test):
        return None
    wanted = inspect.signature(test).parameters
    args: dict[str, Any] = {name: pyfuncitem.funcargs[name] for name in wanted}

    async def limited() -> None:
        async with asyncio.timeout(LIMIT):
            await test(**args)

    uvloop.run(limited())
    return True
