"""The documentation names every key, and its example is valid."""

import re
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from hasten import config, settings

PAGE = (Path(__file__).parent.parent / "docs" / "configuration.md").read_text()
SECTIONS = [
    settings.Server,
    settings.Model,
    settings.Circuit,
    settings.Log,
    *get_args(settings.EngineSettings),
]


@pytest.mark.parametrize("section", SECTIONS)
def test_every_key_is_documented(section: type[msgspec.Struct]) -> None:
    missing = [f.encode_name for f in msgspec.structs.fields(section) if f"| `{f.encode_name}` |" not in PAGE]
    assert not missing


def test_the_example_is_valid() -> None:
    found = re.search(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    made = config.parse(found[1], environ={"HASTEN_KEY": "client", "VLLM_KEY": "engine"})
    assert made.models["smart"].fallback == ("fast",)
