"""`cliplit enhance` given again, here or after files were copied, and beside the results of other calls."""

import json
import os
import shutil
import zipfile
from pathlib import Path

import pytest
from photo_files import contents, picture

from cliplit_photos import batch, ledger

PASSED = "; 1 subfolder skipped (--recursive includes them)"


@pytest.fixture
def photos(tmp_path) -> Path:
    for n, name in enumerate(["a.jpg", "b.png", "below/c.gif"]):
        picture(tmp_path / "photos" / name, seed=n)
    return tmp_path / "photos"


@pytest.fixture
def computed(monkeypatch) -> list[str]:
    """Names of the photos that are read to be enhanced."""
    read = batch.read_photo
    names = []

    def noted(path, max_pixels):
        names.append(path.name)
        return read(path, max_pixels)

    monkeypatch.setattr(batch, "read_photo", noted)
    return names


def times(folder: Path, changed) -> None:
    for path in folder.rglob("*"):
        if path.is_file() and path.suffix != ".jsonl":
            now = path.stat().st_mtime_ns
            os.utime(path, ns=(now, changed(now)))


SECOND = 1_000_000_000  # ns
COPIES = {
    "exFAT: 2 s": lambda time: time // (2 * SECOND) * 2 * SECOND,
    "FAT, other zone": lambda time: time // (2 * SECOND) * 2 * SECOND + 3600 * SECOND,
    "zip: local time": lambda time: time - 7200 * SECOND,
    "git, cp: now": lambda time: time + 86400 * SECOND + 1,
}


@pytest.mark.parametrize("kind", COPIES)
@pytest.mark.parametrize("place", ["photos", "out", "."])
def test_times_that_a_copy_changed(enhance, photos, tmp_path, computed, kind, place):
    arguments = (photos, "-o", tmp_path / "out", "--recursive")
    assert enhance(*arguments)[0] == 0 and sorted(computed) == ["a.jpg", "b.png", "c.gif"]
    times(tmp_path / place, COPIES[kind])
    code, _, err = enhance(*arguments)
    assert (code, err[-1]) == (0, "0 photos enhanced; 3 were already done") and len(computed) == 3


def test_a_copied_folder_is_known_and_another_photo_is_not(enhance, photos, tmp_path):
    enhance(photos, "-o", photos / "out", "--recursive")
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for path in photos.rglob("*"):
            archive.write(path, path.relative_to(photos))
    with zipfile.ZipFile(tmp_path / "all.zip") as archive:
        archive.extractall(tmp_path / "copy")
    copy = tmp_path / "copy"
    assert "3 were already done" in enhance(copy, "-o", copy / "out", "--recursive")[2][-1]
    content = bytearray((copy / "b.png").read_bytes())
    content[-1] ^= 1  # of the same size
    (copy / "b.png").write_bytes(content)
    code, _, err = enhance(copy, "-o", copy / "out", "--recursive")
    assert code == 2 and "out/b.png: already exists" in err[-2] and "2 were already done; 1 problem" in err[-1]


def test_a_copy_whose_names_are_taken_apart_is_known(enhance, tmp_path):
    """As by macOS: é becomes e and an accent."""
    folders = tmp_path / "photos", tmp_path / "out"
    picture(folders[0] / "\u00e9.png")
    enhance(folders[0], "-o", folders[1])
    for folder in folders:
        (folder / "\u00e9.png").rename(folder / "e\u0301.png")
    assert "1 was already done" in enhance(folders[0], "-o", folders[1])[2][-1]


def test_content_is_not_read_where_times_fit(enhance, photos, tmp_path, monkeypatch):
    enhance(photos, "-o", tmp_path / "out")
    monkeypatch.setattr(ledger, "sha256", None)
    assert "2 were already done" in enhance(photos, "-o", tmp_path / "out")[2][-1]


def test_odd_lines_of_a_ledger_are_passed_over(enhance, photos, tmp_path):
    enhance(photos, "-o", tmp_path / "out")
    good = json.loads((tmp_path / "out" / "cliplit-enhance.jsonl").read_text().splitlines()[0])
    marks = [None, 3, [], [1], [1, 2], [1, 2, 3], [1, 2, "x", 4], ["1", 2, "x"], [1.5, 2, "x"], {"size": 1}]
    odd = [json.dumps(good | {name: mark}) for name in ("photo", "result") for mark in marks]
    odd += [json.dumps(good | change) for change in ({"name": 7}, {"name": []}, {"settings": None})]
    odd += ["", "null", "[]", '"text"', "NaN", "{}", "[" * 100_000, "1" * 5000, '{"name": "torn']
    with open(tmp_path / "out" / "cliplit-enhance.jsonl", "ab") as file:
        file.write("\n".join(odd).encode() + b"\n\xff\xfe\x00\x80\n" + bytes(range(256)))
    code, _, err = enhance(photos, "-o", tmp_path / "out")
    assert code == 0 and "2 were already done" in err[-1]
    (tmp_path / "out" / "a.jpg").unlink()
    assert "1 photo enhanced; 1 was already done" in enhance(photos, "-o", tmp_path / "out")[2][-1]
    assert "2 were already done" in enhance(photos, "-o", tmp_path / "out")[2][-1]


def test_a_ledger_that_cannot_be_used_is_named_before_anything_is_done(enhance, photos, tmp_path, monkeypatch):
    place = tmp_path / "out" / "cliplit-enhance.jsonl"
    place.mkdir(parents=True)
    code, out, err = enhance(photos, "-o", tmp_path / "out")
    assert code == 2 and not out and not contents(tmp_path / "out")
    assert f"{place}: cannot be used (Is a directory); move it away" in err[-1]
    place.rmdir()
    place.touch()
    monkeypatch.setattr(ledger.os, "access", lambda path, _: path != place)
    assert "jsonl: cannot be used (Permission denied)" in enhance(photos, "-o", tmp_path / "out")[2][-1]


def test_a_ledger_is_strict_json(photos, tmp_path):
    book = ledger.Ledger(tmp_path, {"strength": float("nan")})
    with pytest.raises(ValueError, match="JSON"), book.writing(tmp_path / "b.png", False, [1, 2, ""]) as temporary:
        temporary.touch()
    assert not list(tmp_path.glob("*.jsonl")) and not (tmp_path / "b.png").exists()


# Results of other calls


def test_results_of_another_call_are_no_photos(enhance, photos):
    assert enhance(photos, "-o", photos / "s07", "--recursive", "--strength", 0.7)[0] == 0
    code, _, err = enhance(photos, "-o", photos / "s10", "--recursive")
    assert code == 0 and contents(photos / "s10").keys() == {"a.jpg", "b.png", "below/c.gif.png"}
    assert err[-1] == "3 photos enhanced; 3 results of earlier calls ignored; 1 other file ignored"
    for name in "s07", "s10":
        options = ("--recursive", *(("--strength", 0.7) if name == "s07" else ()))
        code, _, err = enhance(photos, "-o", photos / name, *options)
        assert code == 0 and "3 were already done; 6 results of earlier calls ignored; 2 other files" in err[-1]


@pytest.mark.parametrize("change", ["moved", "renamed", "copied", "second process"])
def test_they_are_known_wherever_their_folder_is(enhance, photos, change):
    enhance(photos, "-o", photos / "out")
    place = photos / "out"
    if change == "moved":
        place = place.rename(photos / "below" / "results")
    elif change == "renamed":
        (place / "a.jpg").rename(place / "bright.jpg")
    elif change == "copied":
        place = photos / "copy"
        shutil.copytree(photos / "out", place, copy_function=shutil.copy)
        shutil.rmtree(photos / "out")
    else:
        (place / "cliplit-enhance.jsonl").rename(place / "cliplit-enhance.1.jsonl")
    picture(place / "mine.png", seed=9)
    code, _, err = enhance(photos, "-o", photos / "new", "--recursive")
    made = {name.removeprefix("below/").removeprefix("results/") for name in contents(photos / "new")}
    made = {name.removeprefix("copy/").removeprefix("out/") for name in made}
    assert code == 0 and made == {"a.jpg", "b.png", "c.gif.png", "mine.png"}
    assert "4 photos enhanced; 2 results of earlier calls ignored" in err[-1]


def test_results_that_are_given_are_photos(enhance, photos, tmp_path):
    enhance(photos, "-o", photos / "out")
    assert enhance(photos / "out", "-o", tmp_path / "twice")[2][-1].startswith("2 photos enhanced")
    assert enhance(photos / "out" / "a.jpg", "-o", tmp_path / "file.jpg")[0] == 0
    code, _, err = enhance(photos, photos / "out", "-o", tmp_path / "both", "--recursive")
    assert code == 0 and err[-1].startswith("5 photos enhanced") and "results" not in err[-1]


@pytest.mark.parametrize("again", [".", "below", "new"])
def test_results_beside_their_photos_are_no_photos(enhance, photos, tmp_path, again):
    """Of a kind that is not written: a PNG lies beside the GIF, for which it must not be taken."""
    for name in "a.jpg", "b.png":
        (photos / name).unlink()
    assert enhance(photos, "-o", photos, "--recursive")[0] == 0
    before = contents(photos)
    assert before.keys() == {"below/c.gif", "below/c.gif.png"}
    given = photos / "below" if again == "below" else photos
    out = tmp_path / "new" if again == "new" else photos
    code, _, err = enhance(given, "-o", out, "--recursive")
    assert code == 0 and "1 result of earlier calls ignored" in err[-1]
    assert contents(photos).keys() - before.keys() == ({"c.gif.png"} if again == "below" else set())
    (photos / "below" / "c.gif").unlink()  # what is left is all there is of the photo
    assert enhance(photos / "below", "-o", tmp_path / "other")[2][-1].startswith("1 photo enhanced")


def test_what_no_ledger_names_is_a_photo_of_its_own(enhance, photos, tmp_path):
    picture(photos / "below" / "c.gif.png", seed=8)
    code, _, err = enhance(photos / "below", "-o", tmp_path / "out")
    assert code == 2 and "c.gif and c.gif.png would both become" in err[-2]


def test_a_result_that_was_changed_is_a_photo(enhance, photos):
    enhance(photos, "-o", photos / "out")
    picture(photos / "out" / "a.jpg", seed=7)
    code, _, err = enhance(photos, "-o", photos / "new", "--recursive")
    assert code == 0 and err[-1].startswith("4 photos enhanced; 1 result of earlier calls ignored")


def test_nothing_but_results(enhance, photos, tmp_path):
    (tmp_path / "top").mkdir()
    enhance(photos, "-o", tmp_path / "top" / "out")
    code, _, err = enhance(tmp_path / "top", "-o", tmp_path / "new", "--recursive")
    assert code == 2 and len(err) == 1 and "only results of earlier calls here, no photos" in err[0]
    assert not (tmp_path / "new").exists()


def test_side_files_and_reports_are_no_photos(enhance, photos, tmp_path):
    options = ("--compare", "--save-illumination", "--report")
    assert enhance(photos, "-o", tmp_path / "out", *options)[2][-2] == f"2 photos enhanced{PASSED}"
    code, _, err = enhance(tmp_path / "out", "-o", tmp_path / "again")
    assert code == 0 and err[-1] == "2 photos enhanced; 6 other files ignored"


def test_unread_kinds_are_named_and_all_files_are_accounted_for(enhance, photos, tmp_path):
    enhance(photos, "-o", photos / "out")
    (photos / "drawing.psd").touch()
    (photos / "bad.jpg").touch()
    (photos / "notes.txt").touch()
    picture(photos / "new.png", seed=5)
    code, _, err = enhance(photos, "-o", photos / "out", "--recursive")
    assert code == 2 and any("drawing.psd: .psd files are not supported" in line for line in err)
    counts = (
        "2 photos enhanced; 2 were already done; 2 problems; 2 results of earlier calls ignored; 2 other files ignored"
    )
    assert err[-1] == counts
    assert sum(int(part.split()[0]) for part in counts.split("; ")) == 10  # files that were there


# One photo, to a file


def test_one_photo_is_done_once(enhance, tmp_path, computed):
    source = picture(tmp_path / "a.png")
    arguments = (source, "-o", tmp_path / "b.jpg")
    for _ in range(2):
        assert enhance(*arguments)[0] == 0
    assert len(computed) == 1 and sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.jpg"]
    os.utime(source)
    code, out, err = enhance(*arguments)
    assert (code, out, err[-1]) == (0, [str(tmp_path / "b.jpg")], "0 photos enhanced; 1 was already done")
    for change in "photo", "result", "settings":
        if change == "photo":
            picture(source, seed=3)
        elif change == "result":
            (tmp_path / "b.jpg").write_text("mine")
        options = ("--strength", 2) if change == "settings" else ()
        assert "already exists" in enhance(*arguments, *options)[2][-2]
        if change == "result":
            assert enhance(*arguments, "--overwrite")[0] == 2 and (tmp_path / "b.jpg").read_text() == "mine"
            (tmp_path / "b.jpg").unlink()
        assert enhance(*arguments, *options, "--overwrite")[0] == 0


def test_one_photo_is_done_where_nothing_can_be_noted(enhance, tmp_path, monkeypatch):
    (tmp_path / "cache").write_text("a file")
    monkeypatch.setenv("CLIPLIT_CACHE", str(tmp_path / "cache"))
    assert enhance(picture(tmp_path / "a.png"), "-o", tmp_path / "b.png")[0] == 0
    assert "already exists" in enhance(tmp_path / "a.png", "-o", tmp_path / "b.png")[2][-2]
    monkeypatch.setenv("CLIPLIT_CACHE", "~no.such.user/cache")  # as without a home folder
    assert enhance(tmp_path / "a.png", "-o", tmp_path / "c.png")[0] == 0
