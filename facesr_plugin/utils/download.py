"""Download one file over HTTP so that it is either whole or not there.

Data go to ``<name>.part``; the name itself appears by renaming, after the length and the hash were found right. A
``.part`` file is continued where a hash will tell whether the two parts belong together.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import logging
import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from facesr_plugin.utils.files import sync_folder
from facesr_plugin.version import __version__

logger = logging.getLogger("basicsr.facesr")

TIMEOUT_S = 20.0  # without a byte
ATTEMPTS = 4
PAUSE_S = 1.0
_CHUNK = 1 << 20
_WORTH_RETRYING = (408, 425, 429, 500, 502, 503, 504)
_RANGE_NOT_SATISFIABLE = 416
_PARTIAL_CONTENT = 206


class _BrokenOffError(ConnectionError):
    """The transfer ended early; another attempt may do better."""


class _SafeRedirect(urllib.request.HTTPRedirectHandler):
    """Follow redirects, but not from https to http."""

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        """Return the next request."""
        if req.full_url.startswith("https:") and not newurl.startswith("https:"):
            raise urllib.error.URLError(f"it redirects to {newurl}, which is not encrypted")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def download(
    url: str, target: Path, sha256: str | None, *, timeout: float = TIMEOUT_S, attempts: int = ATTEMPTS
) -> None:
    """Download ``url`` to ``target``; return without a transfer if another process has just done it.

    Args:
        url: Address.
        target: File; its folder is created. Processes that write into the same folder wait for each other.
        sha256: Hash that the file must have, or its beginning; None to take what comes, never in two parts.
        timeout: Seconds without a byte after which an attempt is given up.
        attempts: Transfers to try; each continues the one before.

    Raises:
        ConnectionError: If the server cannot be reached, refuses, or breaks off every time.
        ValueError: If the file has another hash; it is deleted.
        OSError: If it cannot be written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with _locked(target.parent):
        if target.is_file():
            return
        part = target.with_name(target.name + ".part")
        continued = part.is_file()
        _fill(url, part, timeout, attempts, joinable=sha256 is not None)
        if continued and not _fits(part, sha256):  # the old part was of another file, or damaged
            part.unlink()
            _fill(url, part, timeout, attempts, joinable=True)
        if not _fits(part, sha256):
            actual = file_sha256(part)
            part.unlink()
            raise ValueError(f"{url} must have sha256 {sha256}, got {actual}: damaged on the way, or another file")
        _publish(part, target)


def _fits(path: Path, sha256: str | None) -> bool:
    return sha256 is None or file_sha256(path).startswith(sha256)


def _publish(part: Path, target: Path) -> None:
    with part.open("rb+") as file:
        os.fsync(file.fileno())
    part.replace(target)
    sync_folder(target.parent)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other downloads into the folder waiting; where the platform has no such lock, they go ahead."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _fill(url: str, part: Path, timeout: float, attempts: int, *, joinable: bool) -> None:
    """Bring ``part`` to its full length in several attempts, each of which continues the one before if joinable."""
    for attempt in range(1, attempts + 1):
        if not joinable:
            part.unlink(missing_ok=True)
        try:
            _receive(url, part, timeout)
            return
        except _BrokenOffError as error:
            if attempt == attempts:
                raise ConnectionError(f"{url}: {error} ({attempts} attempts)") from error
            logger.warning("%s: %s; attempt %d of %d follows", url, error, attempt + 1, attempts)
            time.sleep(PAUSE_S * attempt)


def _receive(url: str, part: Path, timeout: float) -> None:
    """Append to ``part`` what is missing, or write it anew if the server sends the whole file."""
    have = part.stat().st_size if part.is_file() else 0
    with _open(url, part, have, timeout) as response:
        continued = response.status == _PARTIAL_CONTENT
        have = have if continued else 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        with part.open("ab" if continued else "wb") as file, _progress(part.stem, have, total) as bar:
            while chunk := _read(response):
                file.write(chunk)
                bar.update(len(chunk))
    size = part.stat().st_size
    if total is not None and size != total:
        raise _BrokenOffError(f"ended after {size} of {total} bytes")


def _open(url: str, part: Path, have: int, timeout: float) -> http.client.HTTPResponse:
    headers = {"User-Agent": f"facesr-plugin/{__version__}", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    opener = urllib.request.build_opener(_SafeRedirect)
    try:
        return opener.open(urllib.request.Request(url, headers=headers), timeout=timeout)  # noqa: S310
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == _RANGE_NOT_SATISFIABLE:  # the part is longer than the file
            part.unlink()
            raise _BrokenOffError("the part that was here does not belong to it") from error
        if error.code in _WORTH_RETRYING:
            raise _BrokenOffError(f"the server answers {error.code} {error.reason}") from error
        raise ConnectionError(f"{url}: the server answers {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        if isinstance(error.reason, (TimeoutError, ConnectionResetError)):
            raise _BrokenOffError(str(error.reason)) from error
        raise ConnectionError(f"{url}: {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        raise _BrokenOffError(_describe(error)) from error


def _read(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read1(_CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise _BrokenOffError(_describe(error)) from error


def _describe(error: Exception) -> str:
    return "no answer" if isinstance(error, TimeoutError) else f"{type(error).__name__} {error}".strip()


def _progress(name: str, have: int, total: int | None) -> Any:
    """A bar on standard error, if that is a terminal."""
    from tqdm import tqdm

    return tqdm(total=total, initial=have, unit="B", unit_scale=True, unit_divisor=1024, desc=name, disable=None)
