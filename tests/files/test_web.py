"""Downloads from a server on this machine that misbehaves: each ends well, or in one line with nothing left as if right."""

import hashlib
import os
import sys
import time
import types

import pytest
from standins import Fault, serving

from cliplit.errors import CliplitError
from cliplit.files.web import Patience, fetch, list_drive

CONTENT = os.urandom(300_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()
HASTY = Patience(attempts=3, first_wait=0.01, silence=0.5)
PAGE = b"<!DOCTYPE html><html><title>Google Drive - Quota exceeded</title></html>"


@pytest.fixture
def server():
    with serving() as running:
        running.files["/a.zip"] = CONTENT
        yield running


@pytest.fixture
def get(server, tmp_path):
    """Fetch a file of the server, patiently enough for tests."""

    def call(path="/a.zip", **options):
        return fetch(server.url + path, tmp_path / "a.zip", **{"patience": HASTY} | options)

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
    assert "given up after 3 attempts (the connection ended after 1500 of 300000 bytes); run the same command" in line
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
    assert get(digest=DIGEST).read_bytes() == CONTENT


@pytest.mark.parametrize("announced", [True, False])
def test_a_wrong_size(server, get, tmp_path, announced):
    if not announced:
        server.headers["/a.zip"] |= {"Content-Length": "", "Connection": "close"}
    assert f"{len(CONTENT)} bytes in place of 42" in refusal(get, tmp_path, size=42)
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
    assert "given up after 3 attempts (the server answers 500" in refusal(get, tmp_path)


@pytest.mark.parametrize("said", ["text/html", "application/zip"])
def test_a_web_page_in_place_of_the_file(server, get, tmp_path, said):
    server.files["/a.zip"] = PAGE
    server.types["/a.zip"] = said
    line = refusal(get, tmp_path)
    assert "a web page came in place of the file" in line and "--from" in line and left(tmp_path) == []


def test_silence(server, get, tmp_path):
    server.faults["/a.zip"] = [Fault(drip=3.0)] * 9
    assert "timed out" in refusal(get, tmp_path, patience=Patience(attempts=2, first_wait=0.01, silence=0.2))


def test_no_server(tmp_path):
    with pytest.raises(CliplitError, match=r"given up after 2 attempts .*refused"):
        fetch("http://127.0.0.1:9/a.zip", tmp_path / "a.zip", patience=Patience(attempts=2, first_wait=0.01))


def test_no_room(get, tmp_path, monkeypatch):
    monkeypatch.setattr("cliplit.files.web.shutil.disk_usage", lambda _: type("Usage", (), {"free": 10}))
    assert "GB free" in refusal(get, tmp_path)


# Google Drive: a stand-in of gdown, with its names and arguments.


class Retrieval(Exception): ...


@pytest.fixture
def gdown(monkeypatch):
    """A shared folder: files by path; what download does can be replaced."""
    module = types.ModuleType("gdown")
    module.exceptions = types.SimpleNamespace(FileURLRetrievalError=Retrieval)
    module.files = {"BAID/test/input/1.png": b"one", "readme.txt": b"words"}
    listed = [types.SimpleNamespace(id=f"id of {path}", path=path, local_path=path) for path in module.files]
    module.listed = listed

    def download_folder(id, output, quiet, skip_download, use_cookies, timeout):
        assert skip_download
        return module.listed

    def download(id, output, quiet, resume, use_cookies, timeout):
        with open(output, "wb") as file:
            file.write(module.files[id.removeprefix("id of ")])

    module.download_folder = download_folder
    module.download = download
    monkeypatch.setitem(sys.modules, "gdown", module)
    return module


def test_drive_lists_and_fetches(gdown, tmp_path):
    files = list_drive("folder")
    assert files == {path: f"id of {path}" for path in gdown.files}
    assert fetch("drive:id of readme.txt", tmp_path / "deep" / "a.txt").read_bytes() == b"words"
    assert left(tmp_path / "deep") == ["a.txt"]


def test_drive_pages_and_other_files_are_refused(gdown, tmp_path):
    gdown.files["readme.txt"] = PAGE
    with pytest.raises(CliplitError, match="a web page came in place of the file"):
        fetch("drive:id of readme.txt", tmp_path / "a.txt")
    with pytest.raises(CliplitError, match="SHA-256 is"):
        fetch("drive:id of BAID/test/input/1.png", tmp_path / "a.png", digest="0" * 64)
    assert left(tmp_path) == []


def test_drive_quota_and_network_errors(gdown, tmp_path, monkeypatch):
    attempts = []

    def fail(error, says):
        def download(**_):
            attempts.append(error)
            raise error

        monkeypatch.setattr(gdown, "download", download)
        with pytest.raises(CliplitError, match=rf"{says}.*, or fetch the file by hand") as raised:
            fetch("drive:id", tmp_path / "a.png", patience=HASTY)
        assert "\n" not in str(raised.value)
        return len(attempts)

    assert (
        fail(Retrieval("Cannot retrieve the public link\n of the file."), "does not give it .*try again tomorrow") == 1
    )
    assert fail(OSError("connection reset"), "given up after 3 attempts .connection reset") == 1 + HASTY.attempts


def test_drive_names_that_lead_out(gdown):
    gdown.listed.append(types.SimpleNamespace(id="x", path="../../evil.zip", local_path=""))
    with pytest.raises(CliplitError, match="names that lead out of it"):
        list_drive("folder")


def test_drive_without_gdown(monkeypatch):
    monkeypatch.setitem(sys.modules, "gdown", None)
    with pytest.raises(CliplitError, match="pip install gdown; or fetch by hand"):
        list_drive("folder")


def test_gdown_takes_these_arguments():
    import inspect

    gdown = pytest.importorskip("gdown", reason="gdown is an optional extra")
    assert {"id", "output", "quiet", "resume", "use_cookies", "timeout"} <= set(
        inspect.signature(gdown.download).parameters
    )
    listing = inspect.signature(gdown.download_folder).parameters
    assert {"id", "output", "quiet", "skip_download", "use_cookies", "timeout"} <= set(listing)
    assert issubclass(gdown.exceptions.FileURLRetrievalError, Exception)
