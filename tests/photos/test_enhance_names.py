"""`cliplit enhance` and names, links and permissions as people have them."""

import os
import sys
import unicodedata

import pytest
from photo_files import contents, partial, picture
from PIL import Image

from cliplit_photos import batch
from cliplit_photos.jobs import plan_jobs

NAMES = [
    "{0} %s [x].png",
    "-a.png",
    " b .png",
    "🌅 (1).png",
    unicodedata.normalize("NFD", "é.png"),
    "a\nb\t\x1b[1m.png",
]


def test_names_of_all_kinds(enhance, tmp_path):
    for name in NAMES:
        picture(tmp_path / "photos" / name)
    (tmp_path / "photos" / "bad\n\r\u2028.png").write_text("no photo")
    options = ("--report", "--compare")
    code, _, err = enhance(tmp_path / "photos", "-o", tmp_path / "out", *options)
    assert code == 2 and err[-2] == "6 photos enhanced; 1 problem" and "bad\\n\\r\\u2028.png: " in err[-3]
    made = contents(tmp_path / "out").keys() - {"report.html"}
    assert made == {*NAMES, *(f"{name}.compare.jpg" for name in NAMES)}
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count('type="range"') == 6 and "<b>a\\nb\\t\\x1b[1m.png</b>" in page and "bad\\n\\r\\u2028.png" in page
    assert "6 were already done" in enhance(tmp_path / "photos", "-o", tmp_path / "out", *options)[2][-2]


def test_every_line_is_one(enhance, tmp_path):
    path = tmp_path / "no\nsuch\x1b.png"
    code, _, err = enhance(path, "-o", tmp_path / "out")
    assert code == 2 and len(err) == 1 and "no\\nsuch\\x1b.png: no such file" in err[0]
    code, out, err = enhance(picture(tmp_path / "a.png"), "-o", tmp_path / "o\nut")
    assert (code, out) == (0, [str(tmp_path / "o\\nut")]) and (tmp_path / "o\nut" / "a.png").is_file()


@pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes")
def test_names_that_are_no_unicode(enhance, tmp_path):
    odd = os.fsdecode(b"\xff\xe9.png")
    picture(tmp_path / "photos" / odd)
    (tmp_path / "photos" / os.fsdecode(b"bad\xff.png")).write_text("no photo")
    for seen in "1 photo enhanced; 1 problem", "0 photos enhanced; 1 was already done; 1 problem":
        code, _, err = enhance(tmp_path / "photos", "-o", tmp_path / "out", "--report")
        assert code == 2 and err[-2].startswith(seen) and "bad\\udcff.png: " in err[-3]
    assert (tmp_path / "out" / odd).is_file()
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "\\udcff\\udce9.png" in page and "bad\\udcff.png" in page
    assert enhance(tmp_path / "photos" / odd, "-o", tmp_path / os.fsdecode(b"to\xff.png"))[0] == 0


@pytest.mark.parametrize("letter", ["a", "é", "🌅"])
def test_the_longest_names(enhance, tmp_path, letter, monkeypatch):
    name = letter * (251 // len(letter.encode())) + ".png"
    gif = name[:-4] + ".gif"
    picture(tmp_path / "photos" / name)
    picture(tmp_path / "photos" / "short.png")
    assert enhance(tmp_path / "photos", "-o", tmp_path / "out")[0] == 0
    assert contents(tmp_path / "out").keys() == {name, "short.png"} and not partial(tmp_path / "out")
    picture(tmp_path / "photos" / gif)
    read = batch.read_photo
    monkeypatch.setattr(
        batch, "read_photo", lambda path, limit: read(path, limit) if path.name == "short.png" else 1 / 0
    )
    code, _, err = enhance(tmp_path / "photos", "-o", tmp_path / "new", "--compare")
    assert code == 2 and err[-1] == "1 photo enhanced; 2 problems"
    for line, ending in zip(err[-3:-1], (".gif.png", ".png.compare.jpg"), strict=True):
        assert line.endswith(f"{ending}: cannot be written (File name too long)")
    assert contents(tmp_path / "new").keys() == {"short.png", "short.png.compare.jpg"}


def test_names_that_say_another_format(enhance, tmp_path):
    picture(tmp_path / "a.png").rename(tmp_path / "a.jpg")
    code, _, err = enhance(tmp_path / "a.jpg", "-o", tmp_path / "out")
    assert code == 0 and "content is PNG, written as JPEG to match the name: a.jpg" in err
    with Image.open(tmp_path / "out" / "a.jpg") as image:
        assert image.format == "JPEG"


def test_results_of_one_name_are_problems_and_the_others_are_done(enhance, tmp_path):
    for name in ("a.gif", "a.gif.png", "b.png"):
        picture(tmp_path / "photos" / name)
    code, _, err = enhance(tmp_path / "photos", "-o", tmp_path / "out")
    assert code == 2 and err[-1] == "1 photo enhanced; 2 problems"
    for line, name in zip(err[-3:-1], ("a.gif", "a.gif.png"), strict=True):
        assert (
            line
            == f"  {tmp_path / 'photos' / name}: a.gif and a.gif.png would both become {tmp_path / 'out/a.gif.png'}"
        )
    assert contents(tmp_path / "out").keys() == {"b.png"}


@pytest.mark.parametrize("names", [("a.jpg", "A.JPG"), ("\u00e9.png", "e\u0301.png"), ("x/a.png", "X/a.png")])
def test_names_that_are_one_in_some_places(tmp_path, names):
    for name in (*names, "b.png"):
        picture(tmp_path / "photos" / name)
    if len(contents(tmp_path / "photos")) < 3:
        pytest.skip("they are one here, too")
    out = tmp_path / "out"
    plan = plan_jobs([tmp_path / "photos"], out, True)
    assert {job.name for job in plan.jobs} == {*names, "b.png"} and not plan.problems
    assert not out.exists() and not list(tmp_path.glob(".*"))
    # As on a file system that takes them for one: what is made under the first name is there under the other.
    out.mkdir()
    first, *_, other = sorted(name.partition("/")[0] for name in names)
    (out / f".{os.getpid()}.{other}").symlink_to(f".{os.getpid()}.{first}")
    plan = plan_jobs([tmp_path / "photos"], out, True)
    assert [job.name for job in plan.jobs] == ["b.png"] and len(plan.problems) == 2
    assert all(f"{sorted(names)[0]} and {sorted(names)[1]} would both become" in line for line in plan.problems)


# Photos are never replaced


def linked(photo, path) -> None:
    path.parent.mkdir(exist_ok=True)
    path.symlink_to(photo)


def hard_linked(photo, path) -> None:
    path.parent.mkdir(exist_ok=True)
    os.link(photo, path)


@pytest.mark.parametrize("link", [linked, hard_linked])
@pytest.mark.parametrize("options", [(), ("--overwrite",)])
def test_links_to_photos_in_the_place_of_results(enhance, tmp_path, link, options):
    photo = picture(tmp_path / "photos" / "a.png")
    link(photo, tmp_path / "out" / "a.png")
    before = photo.read_bytes()
    code, _, err = enhance(photo, "-o", tmp_path / "out", *options)
    assert code == 2 and "out/a.png: this is an input" in err[-2] and photo.read_bytes() == before
    assert (tmp_path / "out" / "a.png").samefile(photo) and not partial(tmp_path)


@pytest.mark.parametrize("leads", ["to a file", "nowhere"])
def test_a_link_in_the_place_of_a_result(enhance, tmp_path, leads):
    source = picture(tmp_path / "a.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.png").symlink_to("../real.png")
    if leads == "to a file":
        (tmp_path / "real.png").write_text("mine")
    before = contents(tmp_path)
    for options in (), ("--overwrite",):
        code, _, err = enhance(source, "-o", tmp_path / "out", *options)
        assert code == 2 and "out/a.png: already exists" in err[-2] and contents(tmp_path) == before


def test_no_result_replaces_another_photo(enhance, tmp_path):
    first = picture(tmp_path / "x" / "a.png")
    second = picture(tmp_path / "x" / "y" / "a.png", seed=1)
    before = second.read_bytes()
    code, _, err = enhance(first, second, "-o", tmp_path / "x" / "y", "--overwrite")
    assert code == 2 and f"{second}: this is an input" in err[-2] and second.read_bytes() == before
    assert (tmp_path / "x" / "y" / "y" / "a.png").is_file()


def test_a_result_that_is_given_is_a_photo_that_is_not_replaced(enhance, tmp_path):
    enhance(picture(tmp_path / "a.png"), "-o", tmp_path / "out")
    result = tmp_path / "out" / "a.png"
    before = result.read_bytes()
    for out in tmp_path / "out", result:
        code, _, err = enhance(result, "-o", out, "--overwrite")
        assert code == 2 and f"{result}: this is an input" in err[-2] and result.read_bytes() == before


@pytest.mark.parametrize("name", ["b.gif", "b.jxl", "b.psd"])
def test_a_file_of_a_kind_that_is_not_written_is_no_folder(enhance, tmp_path, name):
    code, _, err = enhance(picture(tmp_path / "a.png"), "-o", tmp_path / name)
    assert code == 2 and len(err) == 1 and f"{name}: cannot write this format; use one of .jpg" in err[0]
    assert not (tmp_path / name).exists()
