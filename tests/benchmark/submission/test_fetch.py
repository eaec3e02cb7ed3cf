"""Logs that are elsewhere: fetched where they are what the submission says, and else nothing is left."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_submissions import SAMPLES, VERDICTS, Tiny, check_told, listing

from benchmark.errors import UserError
from benchmark.submission import fetch as fetching
from benchmark.submission.fetch import MAX_REDIRECTS, fetch, secure
from benchmark.submission.limits import validate_fast
from benchmark.submission.validate import validate

HOST = "data.example.org"


class Elsewhere:
    """A server of answers by path, reached under any name."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, dict[str, str], bytes]] = {}
        self.asked: list[str] = []
        self.hosts: list[str] = []

    def connect(self, host: str) -> http.client.HTTPConnection:
        self.hosts.append(host)
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)

    def __enter__(self) -> Elsewhere:
        answers, asked = self.answers, self.asked

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path)
                status, headers, body = answers.get(self.path, (404, {}, b""))
                self.send_response(status)
                for name, value in ({"Content-Length": str(len(body))} | headers).items():
                    self.send_header(name, value)
                self.end_headers()
                with contextlib.suppress(ConnectionError):
                    self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def elsewhere() -> Iterator[Elsewhere]:
    with Elsewhere() as server:
        yield server


@pytest.fixture
def away(tiny: Tiny, elsewhere: Elsewhere) -> Tiny:
    """A submission that publishes two of its logs elsewhere."""
    fields = tiny.fields()
    for file in fields["files"]:
        if file["path"] in (SAMPLES, VERDICTS):
            file["url"] = f"https://{HOST}/logs/{file['path']}.gz"
            place = tiny.folder / f"{file['path']}.gz"
            elsewhere.answers[f"/logs/{file['path']}.gz"] = (200, {}, place.read_bytes())
            place.unlink()
    tiny.write(fields)
    return tiny


def test_what_was_fetched_validates_as_if_it_had_been_there(
    away: Tiny, honest: Tiny, elsewhere: Elsewhere, tmp_path: Path
) -> None:
    before = listing(away.root)
    with pytest.raises(UserError, match="fetch it first"):
        validate(away.folder, away.root, fast=True)
    found = fetch(away.folder, away.root, tmp_path / "out", connect=elsewhere.connect)
    where = away.folder.relative_to(away.root)
    assert sorted(found) == sorted(tmp_path / "out" / where / f"{path}.gz" for path in (SAMPLES, VERDICTS))
    assert set(elsewhere.hosts) == {HOST}
    checked = validate(away.folder, away.root, fast=True, published=tmp_path / "out")
    assert checked.scores.estimates == validate(honest.folder, honest.root, fast=True).scores.estimates
    outcome = validate_fast(away.folder, away.root, published=tmp_path / "out")
    assert (outcome.problem, outcome.tier) == (None, "self-reported")
    assert listing(away.root) == before


def test_what_is_there_is_not_fetched_again_unless_it_is_another(
    away: Tiny, elsewhere: Elsewhere, tmp_path: Path
) -> None:
    first, *_ = fetch(away.folder, away.root, tmp_path, connect=elsewhere.connect)
    fetch(away.folder, away.root, tmp_path, connect=elsewhere.connect)
    assert len(elsewhere.asked) == 2
    first.write_bytes(first.read_bytes()[:-3])
    fetch(away.folder, away.root, tmp_path, connect=elsewhere.connect)
    assert len(elsewhere.asked) == 3
    validate(away.folder, away.root, fast=True, published=tmp_path)


def test_nothing_is_fetched_for_a_submission_that_has_all_its_logs(honest: Tiny, tmp_path: Path) -> None:
    assert fetch(honest.folder, honest.root, tmp_path / "out") == []
    assert not (tmp_path / "out").exists()


def refused(away: Tiny, elsewhere: Elsewhere, out: Path, message: str) -> None:
    before = listing(away.root)
    with pytest.raises(UserError, match=message) as error:
        fetch(away.folder, away.root, out, connect=elsewhere.connect)
    assert str(error.value).isprintable()
    assert not [path for path in out.rglob("*") if path.is_file()]
    assert listing(away.root) == before


def every(elsewhere: Elsewhere, status: int, headers: dict[str, str], body: bytes) -> None:
    for path in elsewhere.answers:
        elsewhere.answers[path] = (status, headers, body)


@pytest.mark.parametrize(
    ("status", "headers", "body", "message"),
    [
        (404, {}, b"", "the server says 404"),
        (500, {}, b"", "the server says 500"),
        (200, {}, b"", "is not the log that submission.json says"),
        (200, {}, b"no gzip", "is not the log that submission.json says"),
        (200, {}, gzip.compress(b"{}\n", mtime=0), "is not the log that submission.json says"),
        (200, {}, gzip.compress(b" " * 2**24, mtime=0), "is not the log that submission.json says"),
        (200, {"Content-Length": "99"}, b"short", "cannot be fetched: IncompleteRead|is cut off"),
        (302, {}, b"", "leads to no address"),
        (302, {"Location": "http://data.example.org/x"}, b"", "no https address of a public host"),
        (302, {"Location": "https://127.0.0.1/x"}, b"", "no https address of a public host"),
        (302, {"Location": "https://[::1]/x"}, b"", "no https address of a public host"),
        (302, {"Location": "https://localhost/x"}, b"", "no https address of a public host"),
        (302, {"Location": "https://me:pw@data.example.org/x"}, b"", "no https address of a public host"),
        (302, {"Location": "https://data.example.org:8443/x"}, b"", "no https address of a public host"),
        (302, {"Location": "https://data.example.org:x/x"}, b"", "leads to no address"),
        (302, {"Location": "file:///etc/passwd"}, b"", "no https address of a public host"),
        (307, {"Location": "/logs/a b"}, b"", "leads to no address"),
    ],
)
def test_whatever_else_comes_is_refused_and_leaves_nothing(
    away: Tiny, elsewhere: Elsewhere, tmp_path: Path, status: int, headers: dict[str, str], body: bytes, message: str
) -> None:
    every(elsewhere, status, headers, body)
    refused(away, elsewhere, tmp_path / "out", message)


def test_a_server_that_leads_on_is_followed_so_far_and_no_farther(
    away: Tiny, elsewhere: Elsewhere, tmp_path: Path
) -> None:
    for path, (_, _, body) in list(elsewhere.answers.items()):
        elsewhere.answers[f"/moved{path}"] = (200, {}, body)
        elsewhere.answers[path] = (302, {"Location": f"https://other.example.org/moved{path}"}, b"")
    assert len(fetch(away.folder, away.root, tmp_path / "one", connect=elsewhere.connect)) == 2
    assert set(elsewhere.hosts) == {HOST, "other.example.org"}
    for path in elsewhere.answers:
        elsewhere.answers[path] = (302, {"Location": path}, b"")
    elsewhere.asked.clear()
    refused(away, elsewhere, tmp_path / "two", "leads on more than")
    assert len(elsewhere.asked) == MAX_REDIRECTS + 1


def test_no_more_is_read_than_a_log_may_have(
    away: Tiny, elsewhere: Elsewhere, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "MAX_PUBLISHED", 100)
    refused(away, elsewhere, tmp_path / "out", "sends more than 100 bytes")


def test_a_server_that_takes_too_long_is_left(
    away: Tiny, elsewhere: Elsewhere, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "MAX_SECONDS", -1.0)
    refused(away, elsewhere, tmp_path / "out", "takes longer than")


def test_nothing_is_fetched_into_the_submissions(away: Tiny, elsewhere: Elsewhere) -> None:
    with pytest.raises(UserError, match="lies within the submissions"):
        fetch(away.folder, away.root, away.folder / "out", connect=elsewhere.connect)
    assert not elsewhere.asked


def test_what_is_fetched_goes_over_tls_with_a_certificate_that_is_looked_at() -> None:
    connection = secure(HOST)
    assert isinstance(connection, http.client.HTTPSConnection)
    context = connection._context  # type: ignore[attr-defined]
    assert context.check_hostname
    assert context.verify_mode.name == "CERT_REQUIRED"


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.integers(200, 599),
    st.dictionaries(
        st.sampled_from(["Location", "Content-Length", "Content-Encoding", "Transfer-Encoding", "X"]),
        st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40)
        | st.sampled_from(["chunked", "gzip", "-1", "9" * 30, "https://x.example.org", "//x", "https://[", "/a"]),
    ),
    st.binary(max_size=200),
)
def test_no_answer_of_a_server_breaks_it(
    away: Tiny, elsewhere: Elsewhere, tmp_path: Path, status: int, headers: dict[str, str], body: bytes
) -> None:
    every(elsewhere, status, headers, body)
    with pytest.raises(UserError) as error:
        fetch(away.folder, away.root, tmp_path / "out", connect=elsewhere.connect)
    check_told(str(error.value), away)
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
