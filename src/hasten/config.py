"""From a YAML file and the environment to :class:`~hasten.settings.Settings`, or to all that is wrong.

``env:NAME`` stands for an environment variable wherever a string is allowed. ``HASTEN__SERVER__PORT=9000``
overrides ``server.port``. Every problem is reported at once, each with its key's path and, where the file has
the key, its line.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import msgspec
import yaml

from hasten import settings as s
from hasten.checks import Checks
from hasten.errors import SettingsError

Lines = dict[tuple[str, ...], int]
_NAMES = {"array": "a list", "object": "a mapping", "null": "nothing"}
ENV_PREFIX = "HASTEN__"
_KINDS: dict[str, type[s.Section]] = {
    str(kind.__struct_config__.tag): kind for kind in get_args(s.EngineSettings)
}


_TABLES: dict[str, Any] = {"engines": None, "models": s.Model, "tenants": s.Tenant, "routes": s.Route}

#: What `hasten serve` runs without a file: the embedded engine with its default model.
DEFAULT = """\
engines: {local: {kind: llama, embeddings: true}}
models: {smollm2-135m: {engines: [local]}}
"""


def read(path: str | Path | None) -> str:
    """Return the text of ``path``, or :data:`DEFAULT`; raise :class:`SettingsError` if it cannot be read."""
    if path is None:
        return DEFAULT
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "not UTF-8 text"
        raise SettingsError([f"the file cannot be read: {reason}"], str(path)) from None


def load(path: str | Path | None, environ: Mapping[str, str] = os.environ) -> s.Settings:
    """Read the settings from ``path``, or the default ones; raise :class:`SettingsError` with all problems."""
    return parse(read(path), str(path or "default settings"), environ)


def parse(text: str, source: str = "settings", environ: Mapping[str, str] = os.environ) -> s.Settings:
    """Read the settings from YAML ``text``."""
    lines: Lines = {}
    problems: list[str] = []
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        if root is not None:
            _index(root, (), lines, problems)
        tree = _plain(text)
    except yaml.YAMLError as exc:
        mark = getattr(exc, "problem_mark", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise SettingsError(
            [f"{where}not valid YAML: {getattr(exc, 'problem', None) or exc}"], source
        ) from None
    except RecursionError:
        raise SettingsError(["not valid YAML: nested too deeply"], source) from None
    if tree is None:
        tree = {}
    if not isinstance(tree, dict):
        raise SettingsError(
            ["the file must be a mapping of sections: " + ", ".join(_keys(s.Settings))], source
        )
    return _Builder(lines, environ, source, problems).build(tree)


def build(
    tree: dict[str, Any],
    lines: Lines | None = None,
    environ: Mapping[str, str] = os.environ,
    source: str = "settings",
) -> s.Settings:
    """Check a tree of plain values and return the settings it stands for."""
    return _Builder(lines or {}, environ, source, []).build(tree)


def _plain(text: str) -> Any:
    """Return YAML as plain values. The library lets slip other errors than its own for a date like 2024-13-45."""
    try:
        return yaml.safe_load(text)
    except (ValueError, LookupError, AttributeError, TypeError):
        raise yaml.YAMLError("a value is not what its tag or form promises") from None


def _index(node: yaml.Node, path: tuple[str, ...], lines: Lines, problems: list[str]) -> None:
    """Note every key's line; a key given twice is a problem (YAML would keep the last in silence)."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            child = (*path, str(key.value))
            line = key.start_mark.line + 1
            if child in lines:
                problems.append(f"{'.'.join(child)} (line {line}): given twice, first on line {lines[child]}")
                continue
            lines[child] = line
            _index(value, child, lines, problems)
    elif isinstance(node, yaml.SequenceNode):
        for i, item in enumerate(node.value):
            lines[(*path, str(i))] = item.start_mark.line + 1
            _index(item, (*path, str(i)), lines, problems)


def _keys(section: type[s.Section]) -> list[str]:
    keys = [field.encode_name for field in msgspec.structs.fields(section)]
    tag = section.__struct_config__.tag_field
    return [tag, *keys] if tag else keys


class _Builder:
    """Collects problems while it turns a tree into settings."""

    def __init__(self, lines: Lines, environ: Mapping[str, str], source: str, problems: list[str]) -> None:
        self.lines = lines
        self.environ = environ
        self.source = source
        self.problems = problems
        self.variables: dict[tuple[str, ...], str] = {}  # what the environment overrides, by which variable

    def build(self, tree: dict[str, Any]) -> s.Settings:
        self._override(tree)
        tree = self._expand(tree, ())
        self._known(tree, s.Settings, ())
        made: dict[str, Any] = {}
        for field in msgspec.structs.fields(s.Settings):
            value = tree.get(field.name)
            if value is None:
                continue
            if field.name in _TABLES:
                made[field.name] = self._table(field.name, value)
            else:
                section = self._convert(value, field.type, (field.name,))
                if section is not None:
                    made[field.name] = section
        settings = s.Settings(**made)
        Checks(settings, tree, self._problem).run()
        if self.problems:
            raise SettingsError(self.problems, self.source)
        return settings

    def _problem(self, path: tuple[str, ...], text: str) -> None:
        variable = next((name for p, name in self.variables.items() if path[: len(p)] == p), None)
        if variable is not None:
            self.problems.append(f"{'.'.join(path)} (from the environment, {variable}): {text}")
            return
        known = path
        while known and known not in self.lines:
            known = known[:-1]
        where = f" (line {self.lines[known]})" if known else ""
        self.problems.append(f"{'.'.join(path)}{where}: {text}")

    def _override(self, tree: dict[str, Any]) -> None:
        for name, text in self.environ.items():
            if not name.startswith(ENV_PREFIX):
                continue
            path = tuple(part.lower() for part in name[len(ENV_PREFIX) :].split("__"))
            self.variables[path] = name
            node = tree
            for part in path[:-1]:
                below = node.get(part)
                if not isinstance(below, dict):
                    below = node[part] = {}
                node = below
            try:
                node[path[-1]] = _plain(text)
            except yaml.YAMLError:
                self._problem(path, f"the value of {name} is not valid YAML")

    def _expand(self, value: Any, path: tuple[str, ...]) -> Any:
        if isinstance(value, dict):
            return {str(k): self._expand(v, (*path, str(k))) for k, v in value.items()}
        if isinstance(value, list):
            return [self._expand(v, (*path, str(i))) for i, v in enumerate(value)]
        if isinstance(value, str) and value.startswith("env:"):
            name = value[4:]
            if name not in self.environ:
                self._problem(path, f"the environment variable {name} is not set")
                return None
            return self.environ[name]
        return value

    def _known(self, value: Any, section: type[s.Section], path: tuple[str, ...]) -> None:
        """Report keys that ``section`` does not have."""
        allowed = _keys(section)
        for key in value:
            if key not in allowed:
                self._problem((*path, key), _unknown(key, allowed))

    def _table(self, name: str, value: Any) -> dict[str, Any]:
        """Convert a table of named entries, one by one, so that one problem does not hide the next."""
        if not isinstance(value, dict):
            self._problem((name,), f"expected a mapping of names to {name}, got {_kind(value)}")
            return {}
        table = {}
        for key, entry in value.items():
            path = (name, key)
            if self._convert(key, s.Name, path) is None:
                continue
            made = self._convert(entry, self._type_of(name, entry, path), path)
            if made is not None:
                table[key] = made
        return table

    def _type_of(self, name: str, entry: Any, path: tuple[str, ...]) -> Any:
        if name != "engines":
            return _TABLES[name]
        kind = entry.get("kind") if isinstance(entry, dict) else None
        if not isinstance(kind, str) or kind not in _KINDS:
            allowed = ", ".join(sorted(_KINDS))
            got = "is missing" if kind is None else f"is {kind!r}"
            self._problem((*path, "kind"), f"{got}; allowed: {allowed}")
            return None
        return _KINDS[kind]

    def _convert(self, value: Any, wanted: Any, path: tuple[str, ...]) -> Any:
        """Return ``value`` as ``wanted``; ``None`` after a problem was noted."""
        if wanted is None:
            return None
        if isinstance(value, dict):
            if get_origin(wanted) is dict:
                return self._entries(value, get_args(wanted), path)
            section = _section_of(wanted)
            if section is not None:
                return self._section(value, section, path)
        try:
            return msgspec.convert(value, wanted, dec_hook=_decode_hook)
        except msgspec.ValidationError as exc:
            text, _, at = str(exc).partition(" - at `$")
            below = tuple(p.strip("[]") for p in at.rstrip("`").replace("[", ".[").split(".") if p)
            self._problem((*path, *below), _said(text, wanted))
            return None
        except (ValueError, OverflowError):
            self._problem(path, "holds text that is not Unicode, or a number that is too large")
            return None

    def _entries(
        self, value: dict[str, Any], kinds: tuple[Any, ...], path: tuple[str, ...]
    ) -> dict[str, Any]:
        """Convert a table inside a section; ``kinds``: what its keys and its entries are to be."""
        made = {}
        key, wanted = kinds
        names = _choices(key)
        for name, entry in value.items():
            if names and name not in names:
                self._problem((*path, name), _unknown(name, names))
            else:
                self._convert(name, key, (*path, name))
            made[name] = self._convert(entry, wanted, (*path, name))
        return made

    def _section(self, value: dict[str, Any], wanted: type[s.Section], path: tuple[str, ...]) -> Any:
        """Convert a section field by field, so that one problem does not hide the next."""
        before = len(self.problems)
        self._known(value, wanted, path)
        made = {}
        for field in msgspec.structs.fields(wanted):
            given = value.get(field.encode_name)
            if given is not None:
                made[field.name] = self._convert(given, field.type, (*path, field.encode_name))
            elif field.required:
                self._problem((*path, field.encode_name), "this key is required")
        return wanted(**made) if len(self.problems) == before else None


def _kinds(wanted: Any) -> tuple[Any, ...]:
    """Return the types of a union, or the one."""
    return get_args(wanted) if get_origin(wanted) in (Union, UnionType) else (wanted,)


def _section_of(wanted: Any) -> type[s.Section] | None:
    """Return the section that a value may be, perhaps beside something plain."""
    kinds = _kinds(wanted)
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, s.Section)), None)


def _choices(wanted: Any) -> list[str]:
    """Return the words that a type names."""
    return [str(c) for kind in _kinds(wanted) if get_origin(kind) is Literal for c in get_args(kind)]


def _unknown(key: str, allowed: list[str]) -> str:
    near = difflib.get_close_matches(key, allowed, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    return f"unknown key{hint} Allowed: {', '.join(allowed)}"


def _said(text: str, wanted: Any) -> str:
    """Return the library's words in ours, with what is allowed; the value is left out, as it may be a secret."""
    choices = _choices(wanted)
    if text.startswith("Invalid enum value"):
        return f"allowed: {', '.join(choices)}"
    if choices:
        return f"expected one of: {', '.join(choices)}"
    text = text.replace("`", "").replace("Expected", "expected").replace(" | null", "").replace(" | ", " or ")
    section = _section_of(wanted)
    mapping = "a mapping" if section is None else f"a section (keys: {', '.join(_keys(section))})"
    expected, got, kind = text.partition(", got ")
    expected = re.sub(r"\bobject\b", mapping, expected)
    return (
        re.sub(r"\b(array|null)\b", lambda found: _NAMES[found[0]], expected) + got + _NAMES.get(kind, kind)
    )


def _kind(value: object) -> str:
    return {dict: "a mapping", list: "a list", type(None): "nothing"}.get(type(value), type(value).__name__)


def _decode_hook(wanted: Any, value: Any) -> Any:
    if wanted in (s.Secret, s.KeyHash):
        if not isinstance(value, str):
            raise ValueError(f"expected str, got {_kind(value)}")
        return wanted(value)
    raise NotImplementedError(wanted)
