"""Downloads from a server on this machine that misbehaves: each ends well, or in one line with nothing left as if right."""

import hashlib
import os
import sys
import time
import types
from pathlib import Path

import pytest
from standins import Fault, serving

from cliplit.errors import CliplitError
from cliplit.files import web
from cliplit.files.web import fetch, fetch_drive

CONTENT = os.urandom(300_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()
PAGE = b"<!DOCTYPE html><html><title>Google Drive - Quota exceeded</title></html>"


@pytest.fixture(autouse=True)
def hasty(monkeypatch):
    monkeypatch.setattr(web, "WAITS", (0.01, 0.02))
    monkeypatch.setattr(web, "SILENCE", 0.5)


@pytest.fixture
def server():
    with serving() as running:
        running.files["/a.zip"] = CONTENT
        yield running


@pytest.fixture
def get(server, tmp_path):
    """Fetch a file of the server."""

    def call(path="/a.zip", **options):
        return fetch(server.url + path, tmp_path / "a.zip", **options)

    return call


def refusal(get, tmp_path, **options) -> str:
    with pytest.raises(CliplitError) as error:
        get(**options)
    assert "\n" not in str(error.value) and not (tmp_path / "a.zip").exists()
    return str(error.value)


def left(tmp_path) -> list[str]:
    return sorted(path.name for path in tmp_path.iterdir())


def test_a_whole_file_and_nothing_else(get, tmp_path):
    assert get(size=len(CONTENT), digest=DIGEST).read_bytes() == CONTENT and left(tmp_path) == ["a.zip"]


def test_a_dropped_connection_is_taken_up_where_it_broke(server, get, tmp_path):
    server.faults["/a.zip"] = [Fault(stop_after=100_000)] * 2
    assert get(digest=DIGEST).read_bytes() == CONTENT and left(tmp_path) == ["a.zip"]
    assert server.asked("/a.zip") == [None, "bytes=100000-", "bytes=200000-"]


def test_an_interrupted_download_goes_on_the_next_time(server, get, tmp_path):
    server.faults["/a.zip"] = [Fault(stop_after=500)] * 3
    line = refusal(get, tmp_path)
    assert (
        "download failed after 3 attempts (the connection ended after 1500 of 300000 bytes); run the same command"
        in line
    )
    assert left(tmp_path) == ["a.zip.partial", "a.zip.partial.version"]
    assert get(digest=DIGEST).read_bytes() == CONTENT and server.asked("/a.zip")[-1] == "bytes=1500-"


def test_a_part_that_was_already_whole_is_not_fetched_again(server, get, tmp_path):
    server.faults["/a.zip"] = [Fault(stop_after=1000)] * 3
    refusal(get, tmp_path)
    (tmp_path / "a.zip.partial").write_bytes(CONTENT)
    server.faults["/a.zip"] = [Fault(status=416, headers={"Content-Range": f"bytes */{len(CONTENT)}"})]
    assert get(digest=DIGEST).read_bytes() == CONTENT and server.asked("/a.zip")[-1] == f"bytes={len(CONTENT)}-"


def test_a_server_that_cannot_resume_is_asked_for_all(server, get):
    server.faults["/a.zip"] = [Fault(stop_after=100_000)]
    server.headers["/a.zip"]["ETag"] = ""
    assert get().read_bytes() == CONTENT and server.asked("/a.zip") == [None, None]


def test_a_server_that_ignores_the_range(server, get):
    server.faults["/a.zip"] = [Fault(stop_after=100_000), Fault(resumes=False)]
    assert get(digest=DIGEST).read_bytes() == CONTENT and server.asked("/a.zip") == [None, "bytes=100000-"]


def test_a_file_that_changed_in_between_is_fetched_anew(server, get, tmp_path):
    server.faults["/a.zip"] = [Fault(stop_after=1000)] * 3
    refusal(get, tmp_path)
    server.files["/a.zip"] = other = os.urandom(200_000)
    assert get(digest=hashlib.sha256(other).hexdigest()).read_bytes() == other


def test_a_part_of_another_file_is_thrown_away(server, get, tmp_path):
    server.faults["/a.zip"] = [Fault(stop_after=1000)] * 3
    refusal(get, tmp_path)
    partial = tmp_path / "a.zip.partial"
    partial.write_bytes(b"x" * partial.stat().st_size)
    assert "SHA-256 is" in refusal(get, tmp_path, digest=DIGEST) and left(tmp_path) == []
    assert get(digest=DIGEST).read_bytes() == CONTENT


@pytest.mark.parametrize("announced", [True, False])
def test_a_wrong_size(server, get, tmp_path, announced):
    if not announced:
        server.headers["/a.zip"] |= {"Content-Length": "", "Connection": "close"}
    assert f"{len(CONTENT)} bytes instead of 42" in refusal(get, tmp_path, size=42)
    assert left(tmp_path) == []


def test_a_wrong_hash(get, tmp_path):
    assert "SHA-256 is " in refusal(get, tmp_path, digest="0" * 64) and left(tmp_path) == []


def test_no_such_file(server, get, tmp_path):
    line = refusal(get, tmp_path, path="/none.zip")
    assert "answers 404 Not Found" in line and "--from" in line and len(server.requests) == 1


@pytest.mark.parametrize("wait", ["0", "soon", "Wed, 21 Oct 2015 07:28:00 GMT"])
def test_too_many_requests_are_tried_again(server, get, wait):
    server.faults["/a.zip"] = [Fault(status=429, headers={"Retry-After": wait})]
    assert get(digest=DIGEST) and len(server.requests) == 2


def test_waits_as_asked(server, get):
    server.faults["/a.zip"] = [Fault(status=503, headers={"Retry-After": "1"})]
    began = time.monotonic()
    assert get() and time.monotonic() - began >= 1


def test_a_wait_that_is_too_long_is_left_to_the_user(server, get, tmp_path):
    server.faults["/a.zip"] = [Fault(status=429, headers={"Retry-After": "7200"})]
    assert "answers 429 Too Many Requests and asks to wait 7200 s" in refusal(get, tmp_path)


def test_a_server_out_of_order(server, get, tmp_path):
    server.faults["/a.zip"] = [Fault(status=500)] * 9
    assert "download failed after 3 attempts (the server answers 500" in refusal(get, tmp_path)


@pytest.mark.parametrize("said", ["text/html", "application/zip"])
def test_a_web_page_in_place_of_the_file(server, get, tmp_path, said):
    server.files["/a.zip"] = PAGE
    server.types["/a.zip"] = said
    line = refusal(get, tmp_path)
    assert "the server sent a web page instead of the file" in line and "--from" in line and left(tmp_path) == []


def test_silence(server, get, tmp_path):
    server.faults["/a.zip"] = [Fault(drip=3.0)] * 9
    assert "timed out" in refusal(get, tmp_path)


def test_no_server(tmp_path):
    with pytest.raises(CliplitError, match=r"download failed after 3 attempts .*refused"):
        fetch("http://127.0.0.1:9/a.zip", tmp_path / "a.zip")


# Google Drive: a stand-in of gdown, with its names and arguments.


@pytest.fixture
def gdown(monkeypatch):
    """A shared folder: files by path; what it lists and an error of its download can be replaced."""
    module = types.ModuleType("gdown")
    module.files = {"BAID/test/input/1.png": b"one", "readme.txt": b"words"}
    module.listed = list(module.files)
    module.error = None

    def download_folder(id, output, quiet, use_cookies, timeout, skip_download=False, resume=False, retries=0):
        assert skip_download != resume
        if resume and module.error:
            raise module.error
        for path, content in module.files.items() if resume else ():
            file = Path(output, path)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        return [types.SimpleNamespace(id=f"id of {path}", path=path) for path in module.listed]

    module.download_folder = download_folder
    monkeypatch.setitem(sys.modules, "gdown", module)
    return module


def test_drive_fetches_a_folder(gdown, tmp_path):
    fetch_drive("folder", tmp_path / "deep")
    assert {name: (tmp_path / "deep" / name).read_bytes() for name in gdown.files} == gdown.files


def test_drive_quota_and_network_errors(gdown, tmp_path):
    gdown.error = RuntimeError("Cannot retrieve the public link\n of the file.")
    with pytest.raises(
        CliplitError, match=r"public link of the file.\); run the same .*, or download the file yourself"
    ):
        fetch_drive("folder", tmp_path / "deep")


@pytest.mark.parametrize("name", ["../../evil.zip", "/evil.zip", "readme.txt"])
def test_drive_names_that_lead_out_or_are_there_twice(gdown, tmp_path, name):
    gdown.listed.append(name)
    with pytest.raises(CliplitError, match="several files of the same name, or names that lead out of it"):
        fetch_drive("folder", tmp_path / "deep")
    assert left(tmp_path) == []


def test_drive_without_gdown(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "gdown", None)
    with pytest.raises(CliplitError, match="pip install gdown, or download it yourself"):
        fetch_drive("folder", tmp_path)


def test_gdown_takes_these_arguments():
    import inspect

    gdown = pytest.importorskip("gdown", reason="gdown is an optional extra")
    listing = inspect.signature(gdown.download_folder).parameters
    assert {"id", "output", "quiet", "skip_download", "resume", "retries", "use_cookies", "timeout"} <= set(listing)
