"""Which files of a folder are images: not what systems leave behind, not what `enhance` writes beside; nothing hangs."""

import errno
import os
import sys
from pathlib import Path

import pytest

from cliplit.errors import CliplitError
from cliplit.files.folders import UNREAD, find_images, is_clutter, list_images

LEFT_BEHIND = [
    "._a.jpg",  # macOS on a foreign disk
    ".DS_Store",
    ".trash/old.jpg",
    ".thumbnails/12.jpg",
    "@eaDir/a.jpg/SYNOPHOTO_THUMB_M.jpg",
    "#recycle/b.jpg",
    "#snapshot/daily/a.jpg",
    "@Recycle/b.jpg",
    "@Recently-Snapshot/a.jpg",
    "__MACOSX/a.jpg",
    "$RECYCLE.BIN/$R1.jpg",
    "System Volume Information/x.png",
    "lost+found/1.png",
    "Thumbs.db",
    "desktop.ini",
    "Catalog Previews.lrdata/1.jpg",
    "a.jpg.compare.jpg",
    "a.jpg.illumination.png",
    "A.NEF.tif.COMPARE.JPG",
]


def tree(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return folder


@pytest.mark.parametrize("name", LEFT_BEHIND)
def test_what_is_left_behind_counts_as_one_other_file(tmp_path, name):
    tree(tmp_path, "a.jpg", name)
    for found in (find_images([tmp_path], recursive=True), find_images([tmp_path])):
        assert list(found.images) == ["a.jpg"] and not found.unread
    assert find_images([tmp_path], recursive=True).others == 1
    assert list_images(tmp_path) == [tmp_path / "a.jpg"]


def test_what_is_given_by_name_is_taken(tmp_path):
    tree(tmp_path, ".hidden/.a.jpg", ".hidden/b.jpg", "@eaDir/c.jpg", "d.jpg.compare.jpg")
    found = find_images([tmp_path / ".hidden/.a.jpg", tmp_path / "d.jpg.compare.jpg", tmp_path / "@eaDir"])
    assert [path.name for path in found.images.values()] == [".a.jpg", "d.jpg.compare.jpg", "c.jpg"]
    assert list(find_images([tmp_path / ".hidden"]).images) == ["b.jpg"]


@pytest.mark.parametrize(
    "name", ["compare.jpg", "a.compare.jpg", "illumination.png", "a.txt.compare.jpg", "@home", "x.y"]
)
def test_names_that_are_only_like_them_are_of_people(name):
    assert not is_clutter(name)


def test_letters_of_the_ending_are_of_any_case(tmp_path):
    tree(tmp_path, "a.JPG", "b.Png", "c.TiF", "d.txt")
    found = find_images([tmp_path])
    assert list(found.images) == ["a.JPG", "b.Png", "c.TiF"] and found.others == 1


def test_images_of_other_kinds_are_named_with_a_remedy(tmp_path):
    tree(tmp_path, "a.jpg", "b.XCF", "c.psd", "d.txt", "e.mp4", "._f.psd")
    found = find_images([tmp_path])
    assert found.unread == {tmp_path / "b.XCF": UNREAD[".xcf"], tmp_path / "c.psd": UNREAD[".psd"]}
    assert "convert it to PNG or TIFF" in UNREAD[".psd"] and found.others == 3
    (tmp_path / "a.jpg").unlink()
    for refusal in (lambda: find_images([tmp_path]), lambda: list_images(tmp_path)):
        with pytest.raises(CliplitError, match=r"b.XCF: .*convert it to PNG or TIFF"):
            refusal()


@pytest.mark.skipif(sys.platform == "win32", reason="links and pipes as POSIX has them")
def test_links_pipes_and_folders_named_as_images(tmp_path):
    photos = tree(tmp_path / "photos", "a.jpg", "sub.jpg/b.jpg")
    tree(tmp_path / "elsewhere", "c.jpg")
    (photos / "again.jpg").symlink_to("a.jpg")
    (photos / "lost.jpg").symlink_to("nowhere.jpg")
    (photos / "circle.png").symlink_to("circle.png")
    (photos / "circle.txt").symlink_to("circle.txt")
    (photos / "loop").symlink_to(".")
    (photos / "sub.jpg" / "up").symlink_to("../..")
    (photos / "away").symlink_to("../elsewhere")
    os.mkfifo(photos / "pipe.jpg")
    found = find_images([photos], recursive=True)
    assert list(found.images) == ["a.jpg", "again.jpg", "sub.jpg/b.jpg"]
    assert {path.name for path in found.unread} == {"lost.jpg", "circle.png", "loop", "up", "away"}
    assert "not followed" in found.unread[photos / "away"] and "cannot be opened" in found.unread[photos / "lost.jpg"]
    assert found.others == 2  # the pipe, and the text in a circle
    assert [path.name for path in list_images(photos)] == ["a.jpg", "again.jpg"]
    assert list(find_images([photos / "away"]).images) == ["c.jpg"]
    for wrong, words in {"pipe.jpg": "neither a file nor a folder", "lost.jpg": "no such file or folder"}.items():
        with pytest.raises(CliplitError, match=f"{wrong}: {words}"):
            find_images([photos / wrong])


def test_a_folder_that_cannot_be_opened_is_named(tmp_path, monkeypatch):
    photos = tree(tmp_path, "a.jpg", "locked/b.jpg")
    listing = os.scandir

    def refused(path):
        if Path(path).name == "locked":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return listing(path)

    monkeypatch.setattr(os, "scandir", refused)  # the rights of files do not stop everybody
    found = find_images([photos], recursive=True)
    assert list(found.images) == ["a.jpg"] and found.unread == {
        photos / "locked": "cannot be opened (Permission denied)"
    }
    for refusal in (lambda: find_images([photos / "locked"]), lambda: list_images(photos / "locked")):
        with pytest.raises(CliplitError, match=r"locked: cannot be opened \(Permission denied\)"):
            refusal()


@pytest.mark.parametrize(
    ("given", "groups"),
    [
        ([".", "../there"], {".": ["a.png"], "../there": ["../there/a.png"]}),
        (["./", "."], {".": ["a.png"]}),
        (["../there/", "../there"], {"../there": ["a.png"]}),
        (["a.png", "."], {"a.png": ["a.png"], ".": ["a.png"]}),
        (["../there/a.png"], {"../there/a.png": ["a.png"]}),
    ],
)
def test_images_belong_to_what_was_given(tmp_path, monkeypatch, given, groups):
    tree(tmp_path, "here/a.png", "there/a.png")
    monkeypatch.chdir(tmp_path / "here")
    assert find_images(given).groups == groups


def test_a_file_that_is_found_twice_is_one_image(tmp_path, monkeypatch):
    tree(tmp_path, "a.png", "sub/b.png")
    monkeypatch.chdir(tmp_path)
    found = find_images([".", tmp_path, "sub", "sub/b.png"], recursive=True)
    assert list(found.images) == ["a.png", "sub/b.png"]
    assert found.groups == {
        ".": ["a.png", "sub/b.png"],
        str(tmp_path): ["a.png", "sub/b.png"],
        "sub": ["sub/b.png"],
        "sub/b.png": ["sub/b.png"],
    }


def test_an_empty_folder_among_others_is_named(tmp_path):
    tree(tmp_path, "a/a.png", "b/notes.txt")
    found = find_images([tmp_path / "a", tmp_path / "b"])
    assert found.unread == {tmp_path / "b": "no images here"} and found.others == 1


@pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes")
def test_names_that_are_no_unicode_are_escaped_in_tables(tmp_path):
    file = tmp_path / os.fsdecode(b"caf\xe9.png")
    file.write_bytes(b"")
    assert find_images([tmp_path]).images == {"caf\\udce9.png": file}


def test_folders_that_are_passed_over_are_known(tmp_path):
    for name in ("a.png", "below/b.png", ".hidden/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert find_images([tmp_path]).passed == [tmp_path / "below"]
    assert not find_images([tmp_path], recursive=True).passed
    (tmp_path / "a.png").unlink()
    with pytest.raises(CliplitError, match="but 1 subfolders, such as .*below; give it, or --recursive"):
        find_images([tmp_path])
