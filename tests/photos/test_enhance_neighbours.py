"""`cliplit enhance` where one photo fails, in whatever way: it is named, and costs no other one anything."""

import errno
import os
import struct

import pytest
from photo_files import contents, partial, picture

from cliplit.errors import reason_of
from cliplit.files.images import decode
from cliplit.method.checkpoints import load_enhancer
from cliplit.method.guidance.base import Guidance
from cliplit_photos import batch, page
from cliplit_photos.formats import Photo
from cliplit_photos.inference import Inference
from cliplit_photos.jobs import plan_jobs
from cliplit_photos.ledger import Ledger

SECOND_WIDTH = 31  # pixels, of the second photo


@pytest.fixture
def photos(tmp_path):
    for n in range(3):
        picture(tmp_path / "photos" / f"{n}.png", (SECOND_WIDTH if n == 1 else 30, 20), seed=n)
    return tmp_path / "photos"


def failing(monkeypatch, name: str, error: Exception) -> None:
    """Let a function of `batch` fail for the second photo."""
    function = getattr(batch, name)

    def replaced(*arguments, **options):
        if any("1.png" in str(argument) for argument in arguments) or any(
            isinstance(argument, Photo) and argument.pixels.shape[1] == SECOND_WIDTH for argument in arguments
        ):
            raise error
        return function(*arguments, **options)

    monkeypatch.setattr(batch, name, replaced)


@pytest.mark.parametrize("name", ["photo_size", "read_photo", "write_photo"])
@pytest.mark.parametrize(
    "error",
    [
        struct.error("unpack requires a buffer of 4 bytes"),
        MemoryError(),
        RecursionError("maximum recursion depth exceeded"),
        TypeError("of a library"),
        ZeroDivisionError(),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
        PermissionError(errno.EACCES, "Permission denied"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_whatever_one_photo_raises(enhance, photos, tmp_path, monkeypatch, name, error):
    failing(monkeypatch, name, error)
    code, _, err = enhance(photos, "-o", tmp_path / "out")
    if name == "photo_size":  # which only helps to share the memory
        assert code == 0 and err[-1] == "3 photos enhanced"
        return
    assert code == 2 and err[-1] == "2 photos enhanced; 1 problem" and err[-3] == "not enhanced: 1"
    assert "1.png: cannot be " in err[-2] and str(reason_of(error)) in err[-2]
    assert contents(tmp_path / "out").keys() == {"0.png", "2.png"} and not partial(tmp_path / "out")


@pytest.mark.parametrize("number", batch.HOPELESS)
def test_only_what_is_written_to_can_end_the_run(enhance, photos, tmp_path, monkeypatch, number):
    failing(monkeypatch, "File", OSError(number, os.strerror(number)))
    code, _, err = enhance(photos, "-o", tmp_path / "in")
    assert code == 2 and err[-1] == "2 photos enhanced; 1 problem"
    assert err[-2].endswith(f"1.png: cannot be read ({os.strerror(number)})")
    monkeypatch.undo()
    failing(monkeypatch, "write_photo", OSError(number, os.strerror(number)))
    code, _, err = enhance(photos, "-o", tmp_path / "out", "--jobs", 1)
    assert code == 2 and os.strerror(number) in err[-1] and "run the same command again to resume" in err[-1]


def test_a_bug_of_ours_is_told_from_a_bad_photo(enhance, photos, tmp_path, monkeypatch):
    (photos / "bad.png").write_text("no photo")
    compute = batch.enhance_pixels

    def wrong(network, pixels, inference, map_, out):
        if pixels.shape[0] == 7:
            pixels = None  # whose shape `enhance_pixels` wants
        return compute(network, pixels, inference, map_, out=out)

    monkeypatch.setattr(batch, "enhance_pixels", wrong)
    picture(photos / "1.png", (9, 7))
    code, _, err = enhance(photos, "-o", tmp_path / "out", "--report")
    assert code == 1 and err[-2] == "2 photos enhanced; 2 problems"
    (line,) = [line for line in err if "a bug in cliplit" in line]
    begin = f"  {photos / '1.png'}: not enhanced because of a bug in cliplit; please report it (AttributeError at inference.py:"
    assert line.startswith(begin) and "'NoneType' object has no attribute" in line
    assert "2 photos, 2 not enhanced" in (tmp_path / "out" / "report.html").read_text()


def caught(function, *arguments) -> Exception:
    with pytest.raises(Exception) as raised:
        function(*arguments)
    return raised.value


def test_what_counts_as_a_bug(tmp_path):
    assert batch.is_bug(caught(batch.Outcome().__iadd__, None))  # AttributeError
    assert not batch.is_bug(caught(decode, tmp_path / "none.png"))  # an error of ours
    assert not batch.is_bug(caught(decode, None))  # raised by a library
    assert not batch.is_bug(caught(len, 1))
    assert batch.is_bug(caught(Guidance.score, None, None))  # NotImplementedError


def test_a_folder_that_cannot_be_made_costs_no_other_one(enhance, photos, tmp_path):
    picture(photos / "below" / "3.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "below").write_text("a file")
    code, _, err = enhance(photos, "-o", tmp_path / "out", "--recursive")
    assert code == 2 and err[-1] == "3 photos enhanced; 1 problem"
    assert err[-2] == f"  {tmp_path / 'out/below/3.png'}: cannot be written (File exists)"
    assert contents(tmp_path / "out")["below"] == b"a file"


def test_a_folder_in_the_place_of_a_result(enhance, photos, tmp_path):
    (tmp_path / "out" / "1.png").mkdir(parents=True)
    for overwrite in (), ("--overwrite",):
        code, _, err = enhance(photos, "-o", tmp_path / "out", *overwrite)
        assert code == 2 and err[-1].endswith("1 problem") and "out/1.png: " in err[-2]
    assert contents(tmp_path / "out").keys() == {"0.png", "2.png"} and not partial(tmp_path / "out")


def test_a_file_that_comes_to_be_there_meanwhile_is_left_alone(enhance, photos, tmp_path, monkeypatch):
    write = batch.write_photo

    def late(photo, path, kind):
        (path.parent / "1.png").write_text("mine")
        return write(photo, path, kind)

    monkeypatch.setattr(batch, "write_photo", late)
    (photos / "2.png").unlink()
    (photos / "0.png").unlink()
    for options in (), ("--overwrite",):
        (tmp_path / "out" / "1.png").unlink(missing_ok=True)
        code, _, err = enhance(photos, "-o", tmp_path / "out", *options)
        assert code == 2 and "1.png: already exists and is not a result of cliplit; choose another OUT" in err[-2]
        assert (tmp_path / "out" / "1.png").read_text() == "mine" and not partial(tmp_path / "out")


@pytest.mark.parametrize("has_links", [True, False])
def test_what_another_call_makes_meanwhile_is_done_before(photos, tmp_path, checkpoint, monkeypatch, has_links):
    if not has_links:  # as on FAT
        monkeypatch.setattr(os, "link", no_link)
    plan = plan_jobs([photos], tmp_path / "out")
    network = load_enhancer(checkpoint)
    write = batch.write_photo
    others = []

    def call(strength) -> batch.Outcome:
        ledger = Ledger(tmp_path / "out", {"strength": strength}, plan.inputs)
        return batch.enhance_files(plan.jobs, network, Inference(strength=strength), ledger=ledger)

    def late(photo, path, kind):
        if not others:
            others.append(None)
            others.append(call(1.0))
        return write(photo, path, kind)

    for strength in (1.0, 2.0):
        others.clear()
        for path in (tmp_path / "out").glob("*.png"):
            path.unlink()
        monkeypatch.setattr(batch, "write_photo", late)
        first = call(strength)
        names = ["0.png", "1.png", "2.png"]  # each is made by one of the calls
        assert sorted(first.made + others[1].made) == names == sorted(contents(tmp_path / "out"))
        done = {*names} - {*first.made}
        if strength == 1:
            assert done and {*first.before} == done and not first.problems
        else:  # with other settings they would be other results
            assert len(first.problems) == len(done) > 0
            assert all("already exists; --overwrite replaces it" in line for line in first.problems)
        assert not partial(tmp_path / "out")


def no_link(*_):
    raise OSError(errno.EPERM, os.strerror(errno.EPERM))


def test_a_report_shows_the_others(enhance, photos, tmp_path, monkeypatch):
    shown = page._picture

    def broken(path):
        if path.name == "1.png":
            raise struct.error("of a library")
        return shown(path)

    monkeypatch.setattr(page, "_picture", broken)
    assert enhance(photos, "-o", tmp_path / "out", "--report")[0] == 0
    text = (tmp_path / "out" / "report.html").read_text()
    assert text.count('type="range"') == 2 and "1.png: cannot be shown (struct.error: of a library)" in text
