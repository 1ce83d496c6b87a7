"""Settings: every problem at once, each with its key's path and what is allowed; never another exception."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from hasten import config
from hasten.errors import SettingsError
from hasten.settings import OpenAIEngine

GOOD = """\
engines: {e: {kind: openai, base_url: http://127.0.0.1:9/v1}}
models: {m: {engines: [e]}}
"""
SECRET = "sk-canary-9f3"


def problems(text: str, **environ: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        config.parse(text, environ=environ)
    assert caught.value.problems
    return caught.value.problems


def test_good_ones() -> None:
    assert list(config.parse(GOOD, environ={}).models) == ["m"]
    assert list(config.parse(config.DEFAULT, environ={}).engines) == ["local"]


#: A line that is added to good settings, and what the problem says.
PROBLEMS = {
    "server: {prot: 1}": "server.prot (line 3): unknown key; did you mean 'port'? Allowed: host, port",
    "sever: {port: 1}": "sever (line 3): unknown key; did you mean 'server'? Allowed: server, engines",
    "server: {port: 99999}": "server.port (line 3): expected int <= 65535",
    "server: {port: http}": "server.port (line 3): expected int, got str",
    "server: {port: .nan}": "server.port (line 3): expected int",
    "server: 7": "server (line 3): expected",
    "server: {keep_alive: 0}": "server.keep_alive (line 3): expected float > 0",
    "server: {keys: abc}": "server.keys (line 3): expected a list",
    "server: {keys: [1]}": "server.keys.0 (line 3): expected str, got int",
    "server: {keys: ['']}": "server.keys.0 (line 3): a key must not be empty",
    "server: {keys: ['sha256:xyz']}": "server.keys.0 (line 3): ",
    "server: {keys: ['sha256:ab']}": "server.keys.0 (line 3): sha256: needs 64 hexadecimal digits",
    "server: {keys: ['env:NOT_THERE']}": "server.keys.0 (line 3): the environment variable NOT_THERE is not set",
    "server: {host: 0.0.0.0}": "server.keys (line 3): needed when server.host (0.0.0.0) is not a loopback address",
    "circuit: {failures: 0}": "circuit.failures (line 3): expected int >= 1",
    "log: {max_pending: many}": "log.max_pending (line 3): expected int",
    "log: {path: 7}": "log.path (line 3): expected str",
    f"log: {{path: {'x' * 300}/y}}": "log.path (line 3): there is no folder xxx",
}


@pytest.mark.parametrize(("line", "problem"), PROBLEMS.items(), ids=list(PROBLEMS))
def test_problems_of_sections(line: str, problem: str) -> None:
    found = problems(GOOD + line)
    assert any(p.startswith(problem) for p in found), found


#: An engine's settings beside its kind, and what the problem says.
ENGINES = {
    "base_url: nonsense": "engines.e.base_url (line 1): expected http://host[:port]/v1",
    "base_url: ftp://h/v1": "engines.e.base_url (line 1): expected http://host[:port]/v1",
    "base_url: 'http://h:x/v1'": "engines.e.base_url (line 1): expected http",
    "base_url: 'http://h/v 1'": "engines.e.base_url (line 1): expected http",
    f"base_url: 'http://u:{SECRET}@h/v1'": "engines.e.base_url (line 1): must have no user, query or fragment",
    "base_url: 'http://h/v1?x=1'": "engines.e.base_url (line 1): must have no user, query or fragment",
    "": "engines.e.base_url (line 1): this key is required",
    "base_url: 7": "engines.e.base_url (line 1): expected str, got int",
    "base_url: http://h/v1, timeouts: {connect: -1}": "engines.e.timeouts.connect (line 1): expected float > 0",
    "base_url: http://h/v1, timeouts: {conect: 1}": "engines.e.timeouts.conect (line 1): unknown key; did you mean",
    "base_url: http://h/v1, tls: {ca: /no/such}": "engines.e.tls.ca (line 1): no such file: /no/such",
    "base_url: http://h/v1, api_key: [x]": "engines.e.api_key (line 1): expected",
    "base_url: http://h/v1, http2: true": "engines.e.http2 (line 1): needs client: httpx",
    "base_url: http://h/v1, client: curl": "engines.e.client (line 1): allowed: hasten, httpx",
    f'base_url: http://h/v1, api_key: "{SECRET}\\r\\nx: y"': "engines.e.headers.api_key (line 1): ",
    f'base_url: http://h/v1, headers: {{x: "{SECRET}\\n"}}': "engines.e.headers.x (line 1): ",
    f'base_url: http://h/v1, headers: {{"x\\r\\ny": {SECRET}}}': "engines.e.headers.x",
    f"base_url: http://h/v1, headers: {{'a b': {SECRET}}}": "engines.e.headers.a b",
    f"base_url: http://h/v1, headers: {{Content-Length: {SECRET}}}": "engines.e.headers.Content-Length",
    f"base_url: http://h/v1, headers: {{host: {SECRET}}}": "engines.e.headers.host",
}


@pytest.mark.parametrize(("fields", "problem"), ENGINES.items(), ids=list(ENGINES))
def test_problems_of_engines(fields: str, problem: str) -> None:
    found = problems(f"engines: {{e: {{kind: openai, {fields}}}}}\nmodels: {{m: {{engines: [e]}}}}")
    assert any(p.startswith(problem) for p in found), found
    assert SECRET not in str(found)


WHOLE = {
    "": "models: at least one model is needed",
    "[1]": "the file must be a mapping of sections: server, engines, models",
    "a: [": "line 1, column 5: not valid YAML",
    "a: 2024-13-45": "not valid YAML",
    "a: 0x_": "not valid YAML",
    "a: !!bool maybe": "not valid YAML",
    "a: !!timestamp x": "not valid YAML",
    "&a [*a]": "not valid YAML: nested too deeply",
    "[" * 5000: "not valid YAML: nested too deeply",
    "engines: [1]\n": "engines (line 1): expected a mapping of names to engines, got a list",
    "engines: {e: {base_url: x}}": "engines.e.kind (line 1): is missing; allowed: llama, openai",
    "engines: {e: {kind: vllm}}": "engines.e.kind (line 1): is 'vllm'; allowed: llama, openai",
    "engines: {e: 7}": "engines.e.kind (line 1): is missing; allowed: llama, openai",
    "engines: {'a b': {kind: llama}}": "engines.a b (line 1): expected str matching regex",
    "models: {m: {engines: []}}": "models.m.engines (line 1): needs engines that serve it, or tiers",
    "models: {m: {engines: [x]}}": "models.m.engines.0 (line 1): 'x' is not defined; there are: none",
    "models: {m: {}}": "models.m.engines (line 1): needs engines that serve it, or tiers to choose from",
    GOOD + "models: {}": "models (line 3): given twice, first on line 2",
    GOOD.replace(
        "[e]}", "[e], fallback: [m]}"
    ): "models.m.fallback.0 (line 2): 'm' is not defined; there are: none",
    GOOD.replace(
        "[e]}", "[e], balance: random}"
    ): "models.m.balance (line 2): allowed: least_loaded, round_robin",
}


@pytest.mark.parametrize(("text", "problem"), WHOLE.items(), ids=[key[:30] for key in WHOLE])
def test_problems_of_the_whole(text: str, problem: str) -> None:
    found = problems(text)
    assert any(p.startswith(problem) or problem in p for p in found), found


def test_all_problems_at_once() -> None:
    text = (
        "server: {port: x, hots: y}\nengines: {a: {kind: openai}, b: {kind: what}}\nmodels: {m: {engines: 7}}"
    )
    found = problems(text)
    for path in ("server.port", "server.hots", "engines.a.base_url", "engines.b.kind", "models.m.engines"):
        assert any(p.startswith(path) for p in found), (path, found)


def test_an_entry_with_a_problem_hides_no_other() -> None:
    text = """\
engines: {e: {kind: openai, base_url: nonsense}}
models: {m: {engines: [e, f], balance: 7}, t: {tiers: [m, t, q], route: {share: 2}}}
routes: {r: {to: nowhere, threshold: 3, models: [t, x], tenants: [y]}}
slo: {errors: 7, models: {m: {}, z: {}}}
"""
    assert problems(text)[-8:] == [
        "models.m.engines.1 (line 2): 'f' is not defined; there are: e",
        "models.t.tiers.1 (line 2): 't' is not defined; there are: m",
        "models.t.tiers.2 (line 2): 'q' is not defined; there are: m",
        "routes.r.models.1 (line 3): 'x' is not defined; there are: m, t",
        "routes.r.tenants.0 (line 3): 'y' is not defined; there are: none",
        "routes.r.to (line 3): 'nowhere' is not defined; there are: m, t",
        "slo.models.z (line 4): 'z' is not defined; there are: m, t",
        "engines.e.base_url (line 1): expected http://host[:port]/v1 or https://host[:port]/v1",
    ]


#: Values of a wrong type, and what is allowed in their place.
TYPES = {
    "cache: {store: 5}": "cache.store (line 3): expected one of: memory, disk, redis",
    "cache: {semantic: 5}": "cache.semantic (line 3): expected bool or a section (keys: false_hit_bound, share, ",
    "cache: {ignore: user}": "cache.ignore (line 3): expected a list, got str",
    "cache: {path: [a]}": "cache.path (line 3): expected str, got a list",
    "cache: {redis: here}": "cache.redis (line 3): expected a section (keys: url, prefix), got str",
    "slo: {errors: few}": "slo.errors (line 3): expected float, got str",
    "slo: {models: [m]}": "slo.models (line 3): expected a mapping, got a list",
    "slo: {models: {m: 3}}": "slo.models.m (line 3): expected a section (keys: ttft_p95_ms, ",
    "routes: {r: {patterns: [x], cache: {policy: 3}}}": "routes.r.cache.policy (line 3): expected one of: bypass, ",
}


@pytest.mark.parametrize(("line", "problem"), TYPES.items(), ids=list(TYPES))
def test_a_wrong_type_says_what_is_allowed(line: str, problem: str) -> None:
    found = problems(GOOD + line)
    assert len(found) == 1
    assert found[0].startswith(problem)


def test_environment() -> None:
    text = GOOD + "server: {keys: ['env:KEY'], port: 1}"
    made = config.parse(
        text,
        environ={
            "KEY": "k",
            "HASTEN__SERVER__PORT": "9000",
            "HASTEN__LOG__ACCESS": "false",
            "HASTEN__ENGINES__E__MODEL": "q",
            "HASTEN__CIRCUIT": "{failures: 9}",
        },
    )
    assert (made.server.port, made.log.access, made.circuit.failures) == (9000, False, 9)
    assert len(made.server.keys) == 1
    engine = made.engines["e"]
    assert isinstance(engine, OpenAIEngine)
    assert engine.model == "q"
    assert problems(text, KEY="k", HASTEN__SERVER__PORT="x")[0].startswith("server.port")
    assert problems(text, KEY="k", HASTEN__SERVER__PROT="1")[0].startswith("server.prot")
    assert "HASTEN__SERVER__PORT" in problems(text, KEY="k", HASTEN__SERVER__PORT="[")[0]
    assert "HASTEN__SERVER__PORT" in problems(text, KEY="k", HASTEN__SERVER__PORT="2024-13-45")[0]


def test_secrets_are_shown_nowhere() -> None:
    text = (
        GOOD.replace("v1}", f"v1, api_key: {SECRET}, headers: {{x: {SECRET}}}}}")
        + f"server: {{keys: [{SECRET}]}}"
    )
    assert SECRET not in repr(config.parse(text, environ={}))
    environ = {"A": SECRET}
    for line in (
        "api_key: [env:A]",
        "headers: 'env:A'",
        "headers: {x: ['env:A']}",
        "timeouts: 'env:A'",
        "tls: {verify: 'env:A'}",
        "max_connections: 'env:A'",
        "client: 'env:A'",
        f"api_key: {{a: {SECRET}}}",
    ):
        assert SECRET not in str(problems(GOOD.replace("v1}", f"v1, {line}}}"), **environ)), line


# -- properties -----------------------------------------------------------------------------------

KEYS = [
    "server",
    "engines",
    "models",
    "circuit",
    "log",
    "port",
    "host",
    "keys",
    "kind",
    "base_url",
    "headers",
    "timeouts",
    "tls",
    "ca",
    "balance",
    "fallback",
    "m",
    "e",
    "api_key",
    "connect",
    "path",
    "",
    "a.b",
    "$",
]
leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.binary(max_size=4)
    | st.dates()
    | st.sampled_from(
        [
            "openai",
            "llama",
            "http://h/v1",
            "env:X",
            "env:",
            "sha256:00",
            "m",
            "e",
            10**400,
            -1,
            "http://[",
            "\ud800",
        ]
    )
)
trees = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(KEYS) | st.integers(), inner, max_size=5)
    ),
    max_leaves=25,
)
roots = st.dictionaries(st.sampled_from(KEYS[:5]), trees, max_size=5)
#: Trees that are nearly right, so that the checks behind the first ones are reached too.
nearly = st.builds(
    lambda key, value, where: {
        "engines": {
            "e": {"kind": "openai", "base_url": "http://h/v1", **({key: value} if where == 0 else {})}
        },
        "models": {"m": {"engines": ["e"], **({key: value} if where == 1 else {})}},
        "server": {key: value} if where == 2 else {},
        "log": {key: value} if where == 3 else {},
    },
    st.sampled_from(
        [*KEYS, "model", "client", "proxy", "max_connections", "keep_alive", "write_timeout", "max_depth"]
    ),
    trees,
    st.integers(0, 3),
)


@given(roots | nearly)
def test_no_tree_raises_anything_else(tree: dict[str, Any]) -> None:
    with contextlib.suppress(SettingsError):
        config.build(tree, environ={})


@given(st.text(max_size=60) | (roots | nearly).map(lambda tree: yaml.dump(tree, allow_unicode=True)))
def test_no_text_raises_anything_else(text: str) -> None:
    with contextlib.suppress(SettingsError):
        config.parse(text, environ={})


@given(
    st.sampled_from(["HASTEN__", "HASTEN__SERVER", "HASTEN__MODELS__M__ENGINES", "HASTEN__A____B"]),
    st.text(max_size=20),
)
def test_no_environment_raises_anything_else(name: str, value: str) -> None:
    with contextlib.suppress(SettingsError):
        config.parse(GOOD, environ={name: value})


def test_an_unknown_key_below_a_section_is_reported_once() -> None:
    text = "engines: {v: {kind: openai, base_url: 'http://x/v1', timeouts: {conect: 1}}}\nmodels: {m: {engines: [v]}}"
    with pytest.raises(SettingsError) as caught:
        config.parse(text, environ={})
    assert [problem.partition(":")[0] for problem in caught.value.problems] == [
        "engines.v.timeouts.conect (line 1)"
    ]
