"""Photos beside others: bad ones, results, links, copies, odd names; none costs another, none is lost unsaid."""

import json
import os
import stat
from pathlib import Path

import pytest
from photo_files import contents, partial, picture
from PIL import Image

from cliplit.errors import is_bug
from cliplit.files.atomic import LONGEST_NAME, temporary_of
from cliplit.photos import batch
from cliplit.photos.jobs import Ledger, plan_jobs

POSIX = pytest.mark.skipif(os.name != "posix", reason="links and permissions as POSIX has them")


def raising(error: Exception, name: str, function):
    """A function that fails for one photo."""

    def wrapped(first, *arguments, **options):
        if name in str(first):
            raise error
        return function(first, *arguments, **options)

    return wrapped


@pytest.fixture
def three(tmp_path) -> Path:
    for n, name in enumerate(("a.png", "b.png", "c.png")):
        picture(tmp_path / "photos" / name, seed=n)
    return tmp_path / "photos"


@pytest.mark.parametrize("error", [ZeroDivisionError("x"), RecursionError("deep"), MemoryError(), TypeError("of PIL")])
def test_whatever_a_library_raises_is_the_photos_problem(enhance, three, tmp_path, monkeypatch, error):
    monkeypatch.setattr(batch, "read_photo", raising(error, "b.png", batch.read_photo))
    code, _, err = enhance(three, "-o", tmp_path / "out")
    assert code == 2 and contents(tmp_path / "out").keys() == {"a.png", "c.png"} and not partial(tmp_path / "out")
    assert err[-1] == "2 photos enhanced; 1 problem" and "b.png" in err[-2] and type(error).__name__ in err[-2]


def test_a_bug_of_ours_is_told_apart(enhance, three, tmp_path, monkeypatch):
    spoilt = batch.reduced

    def broken(pixels, side):
        return spoilt(None, side) if pixels.mean() > 0 else None  # as if we had called it wrongly

    monkeypatch.setattr(batch, "reduced", broken)
    code, _, err = enhance(three, "-o", tmp_path / "out", "--compare")
    assert (
        code == 1
        and sum("by a bug of cliplit, please report it (AttributeError at photo.py:" in line for line in err) == 3
    )
    try:
        int("a")
    except ValueError as error:
        assert not is_bug(error)


def test_a_folder_that_cannot_be_made_costs_its_own_photos_alone(enhance, three, tmp_path):
    picture(three / "below" / "d.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "below").write_text("in the way")
    code, _, err = enhance(three, "-o", tmp_path / "out", "--recursive")
    assert code == 2 and "3 photos enhanced; 1 problem" in err[-1] and "below: cannot be written to" in err[-2]


def test_pictures_of_unread_kinds_are_named(enhance, three, tmp_path):
    (three / "e.jxl").write_bytes(b"\xff\x0a")
    code, _, err = enhance(three, "-o", tmp_path / "out")
    assert (
        code == 2 and err[-1] == "3 photos enhanced; 1 problem" and "e.jxl: JPEG XL is not read; convert it" in err[-2]
    )


def test_names_that_say_another_format(enhance, tmp_path):
    picture(tmp_path / "a.png").rename(tmp_path / "a.jpg")
    code, _, err = enhance(tmp_path / "a.jpg", "-o", tmp_path / "out")
    assert code == 0 and "PNG by content, written as JPEG, as the name says: a.jpg" in err
    with Image.open(tmp_path / "out" / "a.jpg") as image:
        assert image.format == "JPEG"


def test_results_of_earlier_calls_are_no_photos(enhance, three):
    assert enhance(three, "-o", three / "s07", "--strength", 0.7, "--compare", "--report")[0] == 0
    code, _, err = enhance(three, "-o", three / "s10", "--recursive")
    assert code == 0 and contents(three / "s10").keys() == {"a.png", "b.png", "c.png"}
    assert err[-1].startswith("3 photos enhanced; 3 results of earlier calls ignored")
    # What is given itself is meant; what was changed since is a photo.
    assert enhance(three / "s07", "-o", three.parent / "again")[2][-1].startswith("3 photos enhanced")
    picture(three / "s07" / "a.png", seed=9)
    assert len(plan_jobs([three], three / "s11", recursive=True).jobs) == 4


def test_in_place_with_comparisons_twice_does_nothing_the_second_time(enhance, three):
    for done in ("3 photos enhanced", "0 photos enhanced; 3 were done before"):
        code, _, err = enhance(three, "-o", three, "--overwrite", "--compare")
        assert code == 0 and err[-1].startswith(done)
    assert len(list(three.glob("*.compare.jpg"))) == 3


@pytest.mark.parametrize("shift", [0, 3600, 86400])
def test_copies_are_known_by_their_content(enhance, three, tmp_path, shift):
    out = tmp_path / "out"
    enhance(three, "-o", out)
    for path in [*three.iterdir(), *out.iterdir()]:
        rounded = path.stat().st_mtime // 2 * 2 + shift
        os.utime(path, (rounded, rounded))
    assert "3 were done before" in enhance(three, "-o", out)[2][-1]
    content = bytearray((three / "a.png").read_bytes())
    content[-1] ^= 1  # of the same size
    (three / "a.png").write_bytes(content)
    assert "2 were done before" in enhance(three, "-o", out)[2][-1]


def test_ledgers_that_are_damaged_or_of_older_versions(enhance, three, tmp_path):
    out = tmp_path / "out"
    enhance(three, "-o", out)
    ledger = out / "cliplit-enhance.jsonl"
    lines = [json.loads(line) for line in ledger.read_text().splitlines()]
    for line in lines:
        line["photo"], line["result"] = line["photo"][:2], line["result"][:2]
    junk = [b"[]", b"null", b"\xff\xfe", b'{"name": 1}', b'{"name": "a.png", "photo": 3, "result": {}}', b"[" * 100_000]
    ledger.write_bytes(b"\n".join(junk + [json.dumps(line).encode() for line in lines]))
    assert "3 were done before" in enhance(three, "-o", out)[2][-1]
    ledger.unlink()
    ledger.mkdir()
    code, _, err = enhance(three, "-o", out)
    assert code == 2 and len(err) == 2 and "cliplit-enhance.jsonl: is where the list" in err[-1]


@POSIX
def test_links_and_permissions_stay(enhance, tmp_path):
    photos = tmp_path / "photos"
    real = picture(tmp_path / "elsewhere" / "real.png")
    photos.mkdir()
    (photos / "link.png").symlink_to(real)
    private = picture(photos / "private.png", seed=1)
    private.chmod(0o600)
    hard = picture(photos / "hard.png", seed=2)
    os.link(hard, tmp_path / "twin.png")
    before = {path: path.read_bytes() for path in (real, private, hard)}
    code, _, err = enhance(photos, "-o", photos, "--overwrite")
    assert code == 0 and all(path.read_bytes() != content for path, content in before.items())
    assert (photos / "link.png").is_symlink() and stat.S_IMODE(private.stat().st_mode) == 0o600
    assert (tmp_path / "twin.png").read_bytes() == before[hard]
    assert any("hard links" in line and "hard.png" in line for line in err)
    assert "3 were done before" in enhance(photos, "-o", photos, "--overwrite")[2][-1]


@POSIX
def test_one_photo_with_two_names_is_replaced_once(enhance, tmp_path):
    real = picture(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to(real)
    code, _, err = enhance(tmp_path, "-o", tmp_path, "--overwrite")
    assert code == 2 and "b.png: a.png would also become" in err[-2] and err[-1] == "1 photo enhanced; 1 problem"


ODD = ["{0} %s [x].png", "-o.png", "スカイ 🌅.png", "e\u0301.png", "line\nbreak.png", "a" * 251 + ".png"]


@POSIX
def test_odd_names(enhance, tmp_path, monkeypatch):
    photos = tmp_path / "photos"
    names = [*ODD, os.fsdecode(b"\xff\xfe.png")]
    for n, name in enumerate(names):
        try:
            picture(tmp_path / "p.png", seed=n).rename(_made(photos) / name)
        except OSError:
            pytest.skip("a file system that does not hold such names")
    code, _, err = enhance(photos, "-o", tmp_path / "out", "--report")
    assert code == 0 and len(err) == 3 and not partial(tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").glob("*.png")} == set(names)
    assert f"{len(names)} were done before" in enhance(photos, "-o", tmp_path / "out")[2][-1]
    code, _, err = enhance(photos, "-o", tmp_path / "more", "--compare")
    assert (
        code == 2 and "its name is too long for a file" in err[-2] and len(list((tmp_path / "more").glob("*.png"))) == 6
    )
    monkeypatch.chdir(photos)
    assert enhance("--", "-o.png")[0] == 2  # no OUT


def _made(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder


def test_temporary_names_are_no_longer_than_names_may_be():
    for name in ("a.png", "a" * 255, "ü" * 127):
        assert len(os.fsencode(temporary_of(Path(name)).name)) <= LONGEST_NAME


def test_names_alike_where_capitals_are_not_told(enhance, tmp_path, monkeypatch):
    for n, name in enumerate(("a.png", "A.png")):
        picture(tmp_path / "photos" / name, seed=n)
    monkeypatch.setattr(batch, "_made_ready", lambda folder: bool(folder.mkdir(exist_ok=True)))  # tells not
    code, _, err = enhance(tmp_path / "photos", "-o", tmp_path / "out")
    assert code == 2 and "would have the same name in" in err[-2] and err[-1] == "1 photo enhanced; 1 problem"


def test_a_ledger_is_strict_json(tmp_path):
    job = plan_jobs([picture(tmp_path / "a.png")], tmp_path / "out").jobs[0]
    with pytest.raises(ValueError, match="JSON"):
        Ledger(tmp_path, {"strength": float("nan")}).add(job, job.source)
