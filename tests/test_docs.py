"""The documentation names every key and every metric, and its examples are valid."""

import re
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from hasten import config, settings
from hasten.measure.families import FAMILIES

DOCS = Path(__file__).parent.parent / "docs"
PAGE = (DOCS / "configuration.md").read_text()
SECTIONS = [
    settings.Server,
    settings.Model,
    settings.Price,
    settings.Routing,
    settings.Learn,
    settings.Circuit,
    settings.Log,
    settings.Tenant,
    settings.Route,
    settings.RouteCache,
    settings.Cache,
    settings.Semantic,
    settings.Redis,
    settings.Cascade,
    settings.Slo,
    settings.Otel,
    *get_args(settings.EngineSettings),
]
#: The heading under which a section's keys stand; the kinds of engine share one.
HEADINGS = {
    settings.Semantic: "### cache.semantic",
    settings.Redis: "### cache.redis",
    settings.RouteCache: "### routes.cache",
    settings.Price: "### models.price",
    settings.Routing: "### models.route",
    settings.Learn: "### models.route.learn",
    settings.Cascade: "### models.route.cascade",
}
YAML = re.compile(r"```yaml\n(.*?)```", re.DOTALL)
ENGINES = "engines: {e: {kind: openai, base_url: 'http://127.0.0.1:1/v1'}}\nmodels: {m: {engines: [e]}}\n"


def under(heading: str) -> str:
    """Return what stands under a heading, up to the next one."""
    _, found, rest = PAGE.partition(f"\n{heading}\n")
    assert found, heading
    return re.split(r"^##+ ", rest, maxsplit=1, flags=re.MULTILINE)[0]


@pytest.mark.parametrize("section", SECTIONS)
def test_every_key_is_documented(section: type[msgspec.Struct]) -> None:
    kind = section.__struct_config__.tag_field
    plural = "s" if section in (settings.Model, settings.Tenant, settings.Route) else ""
    heading = HEADINGS.get(section, f"## {'engines' if kind else section.__name__.lower() + plural}")
    text = under(heading)
    named = set(re.findall(r"`(\w+)`", " ".join(re.findall(r"^\| (`[^|]*) \|", text, re.MULTILINE))))
    missing = [f.encode_name for f in msgspec.structs.fields(section) if f.encode_name not in named]
    assert not missing


def test_every_section_is_documented() -> None:
    sections = [field.encode_name for field in msgspec.structs.fields(settings.Settings)]
    assert [name for name in sections if f"\n## {name}\n" not in PAGE] == []


def test_the_example_is_valid() -> None:
    found = YAML.search(PAGE)
    assert found is not None
    made = config.parse(found[1], environ={"HASTEN_KEY": "client", "VLLM_KEY": "engine"})
    assert made.models["smart"].fallback == ("fast",)


def test_the_objectives_example_is_valid() -> None:
    example = YAML.findall(PAGE)[-1]
    models = (
        "engines: {e: {kind: openai, base_url: 'http://127.0.0.1:1/v1'}}\nmodels: {smart: {engines: [e]}}\n"
    )
    made = config.parse(models + example, environ={"ALERTS_URL": "https://example.org/hook"})
    assert made.slo.models["smart"].ttft_p95_ms == 1500


def test_the_collectors_example_is_valid() -> None:
    (example,) = YAML.findall(under("## otel"))
    made = config.parse(ENGINES + example, environ={"COLLECTOR_AUTHORIZATION": "Bearer x"})
    assert made.otel is not None
    assert made.otel.endpoint == "http://127.0.0.1:4318"


def test_the_caches_examples_are_valid() -> None:
    environ = {name: name.lower() for name in ("ADMIN_KEY", "ACME_KEY", "BETA_WEB_KEY", "BETA_APP_KEY")}
    examples = YAML.findall((DOCS / "cache.md").read_text())
    assert len(examples) >= 3
    for example in examples:
        config.parse(ENGINES + example, environ=environ)


def test_the_named_routes_example_is_valid() -> None:
    page = (DOCS / "routing.md").read_text()
    example = YAML.findall(page.partition("\n## Named routes\n")[2])[0]
    models = ENGINES.replace("models: {", "models: {fast: {engines: [e]}, ")
    assert list(config.parse(models + example, environ={"SHOP_KEY": "shop"}).routes) == [
        "greeting",
        "refunds",
        "news",
    ]


def test_routings_examples_are_valid() -> None:
    engine = "{kind: openai, base_url: 'http://127.0.0.1:1/v1'}"
    page = (DOCS / "routing.md").read_text()
    for example in YAML.findall(page.partition("\n## Named routes\n")[0]):
        config.parse(f"engines: {{small: {engine}, large: {engine}}}\n{example}", environ={})


def test_every_metric_is_documented() -> None:
    page = (DOCS / "telemetry.md").read_text()
    names = [family.name for family in FAMILIES if not family.name.startswith("hasten_worker_")]
    assert [name for name in names if f"`{name}`" not in page] == []
