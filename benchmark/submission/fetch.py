"""Logs that a submission publishes elsewhere: fetched by a maintainer, over https, bounded, and checked by hash."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import re
import ssl
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from urllib.parse import SplitResult, urljoin, urlsplit

from benchmark.errors import UserError
from benchmark.submission.reading import MAX_PUBLISHED, plain, unpacked
from benchmark.submission.record import PackedFile
from benchmark.submission.unpack import read_submission

MAX_REDIRECTS = 5
TIMEOUT = 30.0
"""Seconds without a byte."""
MAX_SECONDS = 600.0
"""Of one log: a server that sends a byte now and then is not waited for."""
_CHUNK = 2**16
_REDIRECTS = (301, 302, 303, 307, 308)


_HOST = re.compile(r"([A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}")
"""Public names; no number, no host of a local network."""

Connect = Callable[[str], http.client.HTTPConnection]
"""Host → a connection to it."""


def secure(host: str) -> http.client.HTTPConnection:
    """Connect over TLS, to whom the certificate says the host is."""
    return http.client.HTTPSConnection(host, timeout=TIMEOUT, context=ssl.create_default_context())


def fetch(folder: Path, root: Path, out: Path, *, connect: Connect = secure) -> list[Path]:
    """Fetch every log that ``submission.json`` gives an address of.

    Parameters
    ----------
    folder, root
        The submission's, and the folder ``submissions`` that it lies in.
    out
        Where to put them, ``<submission>/<path>.gz`` each, as ``gendiv submit`` puts them aside; not within
        ``root``. A log that is there already and is the right one is not fetched again.
    connect
        Opens connections; a test has its own, and no user.

    Returns
    -------
    list of Path
        What lies there now.

    Raises
    ------
    UserError
        For an address that does not answer, leads elsewhere than to https or too often, sends more than
        `MAX_PUBLISHED` bytes, or another log than the submission says; nothing is left of it then.
    """
    if out.resolve().is_relative_to(root.resolve()):
        raise UserError("lies within the submissions, where nothing fetched belongs; give another --out", where=out)
    done = []
    submission = read_submission(folder, root)
    for file in submission.files:
        if file.url is None:
            continue
        target = out / submission.folder / f"{file.path}.gz"
        if not target.exists() or not _is_right(target.read_bytes(), file, target):
            _fetch(file, target, connect)
        done.append(target)
    return done


def _fetch(file: PackedFile, target: Path, connect: Connect) -> None:
    assert file.url is not None
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as out, contextlib.closing(_pieces(file.url, connect)) as pieces:
            for piece in pieces:
                out.write(piece)
        if not _is_right(temporary.read_bytes(), file, file.url):
            raise UserError(
                f"is not the log that submission.json says: bytes or sha256 differ: {file.path}", where=file.url
            )
        temporary.replace(target)
    except (OSError, http.client.HTTPException) as error:
        raise UserError(f"cannot be fetched: {plain(str(error) or type(error).__name__)}", where=file.url) from None
    finally:
        temporary.unlink(missing_ok=True)


def _pieces(url: str, connect: Connect) -> Generator[bytes]:
    """Read what is at an address, following redirects."""
    begun = url
    for _ in range(MAX_REDIRECTS + 1):
        parts = _checked(url, begun)
        connection = connect(parts.hostname or "")
        try:
            path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            connection.request("GET", path, headers={"User-Agent": "gendiv", "Accept-Encoding": "identity"})
            with connection.getresponse() as reply:
                if reply.status in _REDIRECTS:
                    url = _next(url, reply.getheader("Location"))
                    continue
                if reply.status != 200:
                    raise UserError(f"cannot be fetched: the server says {reply.status}", where=begun)
                yield from _body(reply, begun)
                return
        finally:
            connection.close()
    raise UserError(f"leads on more than {MAX_REDIRECTS} times", where=begun)


def _checked(url: str, begun: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        known = (parts.scheme, parts.username, parts.password, parts.port in (None, 443))
    except ValueError:
        raise UserError("leads to no address", where=begun) from None
    if known != ("https", None, None, True) or not _HOST.fullmatch(parts.hostname or ""):
        raise UserError(f"leads to {plain(url, 100)}, which is no https address of a public host", where=begun)
    return parts


def _next(url: str, location: str | None) -> str:
    if not location or not (location.isascii() and location.isprintable()) or " " in location:
        raise UserError("leads to no address", where=url)
    return urljoin(url, location)


def _body(reply: http.client.HTTPResponse, url: str) -> Iterator[bytes]:
    size, until = 0, time.monotonic() + MAX_SECONDS
    while piece := reply.read1(_CHUNK):
        size += len(piece)
        if size > MAX_PUBLISHED:
            raise UserError(f"sends more than {MAX_PUBLISHED:,} bytes", where=url)
        if time.monotonic() > until:
            raise UserError(f"takes longer than {MAX_SECONDS:g} s", where=url)
        yield piece
    if reply.length:
        raise UserError("is cut off; try again", where=url)


def _is_right(packed: bytes, file: PackedFile, where: Path | str) -> bool:
    """Whether a packed log unpacks to what the submission says; what is no gzip file does not."""
    seen, size = hashlib.sha256(), 0
    try:
        for piece in unpacked(packed, Path(where), file.bytes):
            seen.update(piece)
            size += len(piece)
    except UserError:
        return False
    return (size, seen.hexdigest()) == (file.bytes, file.sha256)
