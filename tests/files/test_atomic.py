"""Files that take the place of others: what the old one was is kept, whatever its name."""

import os
import stat

import pytest

from cliplit.files.atomic import LONGEST_NAME, temporary_of, writing

TIME = 1_700_000_000_000_000_000  # ns


def replace(path, text="new"):
    with writing(path) as temporary:
        temporary.write_text(text)
        os.utime(temporary, ns=(TIME, TIME))


def test_permissions_stay_and_the_time_is_that_of_the_new_file(tmp_path):
    for mode in (0o444, 0o640):
        path = tmp_path / f"{mode}"
        path.write_text("old")
        path.chmod(mode)
        replace(path)
        assert path.read_text() == "new" and stat.S_IMODE(path.stat().st_mode) == mode
        assert path.stat().st_mtime_ns == TIME


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives files away")
def test_the_owner_stays(tmp_path):
    path = tmp_path / "a"
    path.write_text("old")
    os.chown(path, 1234, 1235)
    path.chmod(0o640)
    replace(path)
    status = path.stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (1234, 1235, 0o640)


@pytest.mark.skipif(not hasattr(os, "setxattr"), reason="extended attributes of Linux")
def test_tags_that_a_desktop_keeps_beside_the_content_stay(tmp_path):
    path = tmp_path / "a"
    path.write_text("old")
    try:
        os.setxattr(path, "user.xdg.tags", b"harbour")
    except OSError:
        pytest.skip("no such attributes on this file system")
    replace(path)
    assert path.read_text() == "new" and os.getxattr(path, "user.xdg.tags") == b"harbour"


def test_a_link_stays_one_and_what_it_leads_to_is_replaced(tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "file").write_text("old")
    for name, target in ("first", tmp_path / "far" / "file"), ("second", "first"), ("dangling", "far/made"):
        (tmp_path / name).symlink_to(target)
    for name, file in ("second", "file"), ("dangling", "made"):
        replace(tmp_path / name)
        assert (tmp_path / name).is_symlink() and (tmp_path / "far" / file).read_text() == "new"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["dangling", "far", "file", "first", "made", "second"]


@pytest.mark.parametrize("letter", ["a", "é", "🌅"])
def test_the_longest_names(tmp_path, letter):
    path = tmp_path / (letter * (255 // len(letter.encode())))
    replace(path)
    assert path.read_text() == "new" and len(list(tmp_path.iterdir())) == 1
    assert len(os.fsencode(temporary_of(path).name)) <= LONGEST_NAME
    assert temporary_of(path) != temporary_of(path.with_name(path.name[:-1]))
    assert temporary_of(tmp_path / "a.jpg").name == ".a.jpg.partial"
